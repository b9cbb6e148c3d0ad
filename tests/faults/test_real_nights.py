"""Thirty nights with the real line at its smallest size: real processes, real registry, a clock that is set."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Project, lay_out
from miniature import document
from months import JumpingClock

from genfoundry.core.clock import stamp
from genfoundry.core.errors import Exit
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.schedule.watch import World, schedule_file, watch
from genfoundry.state.events import read_events
from genfoundry.state.journal import home, read_whole

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
MODEL = "notes-transformer"
SETTINGS = f"""retraining:
  models: [{MODEL}]
  data: workspace
  free_gib: 0.2
  schedule: {{cron: "30 2 * * *", timezone: Europe/Berlin, catch_up_h: 12}}
  keep: {{retrains: 4, worktrees: 1}}
"""

DATA = {0: (150, 0), 4: (400, 4), 9: (400, 200), 11: (400, 4), 14: (700, 7)}
"""From which night on how many texts, and how many lines that are none: 200 of 600 are more than may be set aside."""


class Nights:
    """Data that come by day, and what happens to the machine."""

    def __init__(self, project: Project) -> None:
        self.project, self.clock = project, JumpingClock(START)
        self.slots: list[str] = []
        self.codes: list[int] = []
        self.champions: list[str | None] = []
        self.until = START

    def news(self, night: int) -> None:
        """What lies in data/ before a night."""
        if night not in DATA:
            return
        count, broken = DATA[night]
        generator = np.random.Generator(np.random.PCG64(11))
        lines = [json.dumps({"id": f"n{number}", "text": document(generator)}) for number in range(count)]
        lines += [f'{{"id": "b{number}", "text": "cut off' for number in range(broken)]
        file = self.project.root / "data/notes/notes.jsonl"
        file.chmod(0o644)
        file.write_text("\n".join(lines) + "\n")

    def start(self, slot: datetime) -> "Night":
        self.news(len(self.slots))
        self.slots.append(stamp(slot))
        return Night(self, stamp(slot))

    def world(self) -> World:
        return World(
            state=self.project.root, clock=self.clock, start=self.start, tell=lambda event: None, beat=self.look,
            schedule=lambda: Schedule(cron="30 2 * * *", timezone="Europe/Berlin", catch_up_h=12),
            stopping=lambda: self.clock.now() >= self.until, say=lambda words: None, look_s=7200, poll_s=1800,
        )  # fmt: skip

    def look(self, facts: dict[str, Any]) -> None:
        assert facts["paused"] == "", "three failures in a row"


class Night:
    """The child: `genfoundry retrain`, as the watch starts it, killed outright in the middle of one night."""

    def __init__(self, nights: Nights, slot: str) -> None:
        self.nights, self.slot = nights, slot

    def poll(self) -> int:
        command = [sys.executable, "-m", "genfoundry.cli", "retrain", "--scheduled", "--slot", self.slot]
        root = self.nights.project.root
        environment = {**os.environ, "PYTHONPATH": "src"}
        with (root.parent / f"night-{len(self.nights.slots):02d}.log").open("w") as log:
            child = subprocess.Popen(command, cwd=root, env=environment, stdout=log, stderr=log)
            if len(self.nights.slots) == 15:
                self.kill_while_training(child)
            code = child.wait(3600)
        self.nights.codes.append(code)
        self.nights.champions.append(champion(self.nights.project))
        return code

    def kill_while_training(self, child: "subprocess.Popen[bytes]") -> None:
        """As the machine would: in the middle of the line, by SIGKILL."""
        state = home(self.nights.project.root)
        while child.poll() is None:
            journals = state.glob("*/journal.jsonl")
            if any('"step": "train", "state": "begin"' in path.read_text().splitlines()[-1] for path in journals):
                time.sleep(3)
                child.send_signal(signal.SIGKILL)
                return
            time.sleep(0.2)

    def stop(self) -> int:
        raise AssertionError("the clock stands while a night runs")


def champion(project: Project) -> str | None:
    """Version of the champion, straight from the registry's database."""
    with sqlite3.connect(project.root / "mlruns/mlflow.db") as base:
        row = base.execute("select version from registered_model_aliases where alias = 'champion'").fetchone()
    return str(row[0]) if row else None


@pytest.mark.long
def test_thirty_nights_of_the_real_line(tmp_path: Path) -> None:
    project = lay_out(tmp_path / "project")
    project.edit("sampling: {n: 6, length: 24}", "sampling: {n: 40, length: 48}")
    head, tail = (project.root / "params.yaml").read_text().split(f"  {MODEL}:")
    (project.root / "params.yaml").write_text(f"{head}  {MODEL}:{tail.replace('steps: 40', 'steps: 400')}{SETTINGS}")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "retraining")
    before = project.git("rev-parse", "HEAD")
    nights = Nights(project)
    # The machine sleeps for three nights and a half, and the clocks go forward on 29 March.
    nights.clock.jumps = [(START + timedelta(days=6), timedelta(days=3, hours=10))]
    nights.until = START + timedelta(days=30, hours=12)

    assert watch(nights.world()) == Exit.OK

    events = list(read_events(project.root))
    missed = sum(event["count"] for event in events if event["kind"] == "missed")
    happened = Counter(event["outcome"] for event in events if event["kind"] == "retrain")
    print(f"slots run {len(nights.slots)}, missed {missed}, codes {nights.codes}\n{dict(happened)}\n{nights.champions}")
    assert len(nights.slots) + missed == 30 and len(set(nights.slots)) == len(nights.slots)
    assert sum(event["kind"] == "slot" for event in events) == len(nights.slots)
    # The first night makes the champion; a slot of 29 March at its only time; then there is always one.
    assert nights.codes[0] == Exit.OK and nights.champions[0] is not None
    assert None not in nights.champions
    assert "2026-03-29T01:00:00Z" in nights.slots
    assert nights.codes[1:4] == [Exit.NO_OP] * 3
    assert nights.codes[4] in (Exit.OK, Exit.REJECTED)
    assert nights.codes[9:12] == [Exit.BAD_DATA, Exit.BAD_DATA, Exit.NO_OP]
    assert nights.codes[14] == -signal.SIGKILL and nights.codes[15] in (Exit.OK, Exit.REJECTED)
    assert set(nights.codes[16:]) == {Exit.NO_OP}
    assert project.git("rev-parse", "HEAD") == before
    assert (read_whole(schedule_file(project.root)) or {})["running"] == ""
    journals = [path for path in home(project.root).iterdir() if (path / "journal.jsonl").is_file()]
    copies = list((home(project.root) / "worktrees").iterdir())
    assert len(journals) <= 6 and len(copies) <= 3, (journals, copies)
    size = sum(path.stat().st_size for path in Path(project.root / "mlruns").rglob("*") if path.is_file())
    print(f"mlruns holds {size / 2**20:.0f} MiB")
