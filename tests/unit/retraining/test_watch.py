"""The embedded scheduler: on time, late, skipped, paused, stopped; and the process around it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from months import JumpingClock

from genfoundry.core.errors import BusyError, ConfigError, Exit
from genfoundry.retraining.engine import EVENT
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.schedule import attend, watch
from genfoundry.retraining.schedule.watch import World, resume, schedule_file
from genfoundry.state.events import append_event, read_events
from genfoundry.state.journal import read_whole

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURLY = Schedule(cron="0 * * * *", catch_up_h=2)


class Child:
    def __init__(self, code: int | None) -> None:
        self.code, self.stopped = code, False

    def poll(self) -> int | None:
        return self.code

    def stop(self) -> int:
        self.stopped = True
        return 143


class Bench:
    """A watch on a bench: what starts, what it ends with, and for how long the clock goes on."""

    def __init__(self, state: Path, schedule: Schedule = HOURLY) -> None:
        self.state, self.schedule, self.clock = state, schedule, JumpingClock(START)
        self.started: list[str] = []
        self.children: list[Child] = []
        self.told: list[dict[str, Any]] = []
        self.code: int | None = 0
        self.until = START

    def start(self, slot: datetime) -> Child:
        self.started.append(f"{slot:%d %H:%M}")
        self.children.append(Child(self.code))
        return self.children[-1]

    def run(self, hours: float) -> Exit:
        self.until = self.clock.now() + timedelta(hours=hours)
        return watch.watch(self.world())

    def world(self) -> World:
        return World(
            state=self.state,
            clock=self.clock,
            schedule=lambda: self.schedule,
            start=self.start,
            tell=self.told.append,
            beat=lambda facts: None,
            stopping=lambda: self.clock.now() >= self.until,
            say=lambda words: None,
            look_s=600,
            poll_s=600,
        )

    def events(self, kind: str) -> list[dict[str, Any]]:
        return list(read_events(self.state, kind))

    @property
    def held(self) -> dict[str, Any]:
        return read_whole(schedule_file(self.state)) or {}


@pytest.fixture()
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_each_slot_starts_once_and_the_first_is_the_next_one(bench: Bench) -> None:
    assert bench.run(3.5) == Exit.OK

    assert bench.started == ["01 01:00", "01 02:00", "01 03:00"]
    assert [event["code"] for event in bench.events("slot")] == [0, 0, 0]
    assert bench.events("missed") == []


def test_after_sleep_the_latest_slot_is_made_up_for_and_the_others_are_counted(bench: Bench) -> None:
    bench.run(1.5)
    bench.clock.moment += timedelta(hours=5)
    bench.run(0.2)

    assert bench.started == ["01 01:00", "01 06:00"]
    (missed,) = bench.events("missed")
    assert (missed["count"], missed["first"], missed["until"]) == (4, "2026-01-01T02:00:00Z", "2026-01-01T05:00:00Z")


def test_a_slot_beyond_the_window_is_counted_too(bench: Bench) -> None:
    bench.schedule = Schedule(cron="0 0 * * *", catch_up_h=2)
    bench.run(1)
    bench.clock.moment += timedelta(hours=26)
    bench.run(1)

    assert bench.started == []
    assert [event["count"] for event in bench.events("missed")] == [1]


def test_without_a_window_a_slot_on_time_runs(bench: Bench) -> None:
    bench.schedule = Schedule(cron="0 * * * *", catch_up_h=0)
    bench.run(2.5)

    assert len(bench.started) == 2


def test_slots_during_a_retrain_are_skipped_and_counted(bench: Bench) -> None:
    bench.code = None
    bench.run(3.5)
    assert bench.started == ["01 01:00"]
    assert [event["why"] for event in bench.events("missed")] == ["a retrain was running"] * 2


def test_a_clock_that_steps_back_repeats_nothing(bench: Bench) -> None:
    bench.run(3.5)
    bench.clock.moment -= timedelta(hours=2)
    bench.run(3)

    assert bench.started == ["01 01:00", "01 02:00", "01 03:00", "01 04:00"]


def test_a_clock_that_was_far_ahead_is_noticed(bench: Bench) -> None:
    bench.clock.moment += timedelta(days=400)
    bench.run(1.5)
    bench.clock.moment -= timedelta(days=400)
    bench.run(2)

    assert len(bench.events("clock")) == 1
    assert len(bench.started) == 3, "a watch that waits for a year is silent"


def test_three_failures_in_a_row_pause_until_a_person_resumes(bench: Bench) -> None:
    bench.code = 16
    bench.run(6.5)
    assert len(bench.started) == 3
    assert [event["kind"] for event in bench.told] == ["paused"]
    assert bench.held["paused"] and bench.events("missed")[0]["why"] == "paused"

    resume(bench.state)
    bench.code = 0
    bench.run(2)
    assert len(bench.started) == 5 and bench.held["failures"] == 0
    assert len(bench.events("resumed")) == 1


@pytest.mark.parametrize(
    ("codes", "failures"), [((16, 0), 0), ((16, 11), 0), ((16, 12), 1), ((16, 143), 1), ((-9, 2), 2)]
)
def test_what_counts_as_a_failure(bench: Bench, codes: tuple[int, ...], failures: int) -> None:
    bench.run(0.5)
    for code in codes:
        bench.code = code
        bench.run(1)

    assert bench.held["failures"] == failures


def test_a_stop_ends_the_retrain_and_the_next_start_goes_on_with_it(bench: Bench) -> None:
    bench.code = None
    assert bench.run(1.5) == Exit.PREEMPTED
    assert bench.children[0].stopped and bench.held["running"] == "2026-01-01T01:00:00Z"

    bench.code = 0
    assert bench.run(0.2) == Exit.OK
    assert bench.started == ["01 01:00", "01 01:00"] and bench.held["running"] == ""
    assert [(event["slot"], event["code"]) for event in bench.events("slot")] == [("2026-01-01T01:00:00Z", 0)]


def test_a_retrain_that_ended_while_the_watch_was_dead_is_not_started_again(bench: Bench) -> None:
    bench.code = None
    bench.run(1.5)
    append_event(bench.state, EVENT, bench.clock.now(), slot="2026-01-01T01:00:00Z", outcome="bad_data", code=13)

    bench.run(0.2)

    assert bench.started == ["01 01:00"]
    assert bench.events("slot")[0]["code"] == 13 and bench.held["failures"] == 1


def test_a_new_schedule_counts_from_now_on(bench: Bench) -> None:
    bench.run(1.5)
    bench.schedule = Schedule(cron="30 * * * *", catch_up_h=2)
    bench.run(1.2)

    assert bench.started == ["01 01:00", "01 02:30"]
    assert len(bench.events("schedule")) == 2 and bench.events("missed") == []


def test_settings_that_broke_leave_the_schedule_as_it_was(bench: Bench) -> None:
    keeper = watch.Watch(bench.world())
    keeper.load()

    def broken() -> Schedule:
        raise ConfigError("params.yaml: no YAML")

    keeper.world = replace(keeper.world, schedule=broken)
    bench.clock.moment = START + timedelta(hours=1)
    keeper.look()

    assert bench.started == ["01 01:00"]


SLEEPER = """
import sys, time, signal, pathlib
here = pathlib.Path(sys.argv[0]).parent
def stop(number, frame):
    (here / "stopped").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
(here / "began").write_text(" ".join(sys.argv[1:]))
time.sleep(60)
"""

WATCHER = """
import sys, pathlib
from genfoundry.retraining.schedule import attend
here = pathlib.Path(sys.argv[1])
class Short(attend.Process):
    def __init__(self, root, slot):
        import subprocess
        command = [sys.executable, str(here / "sleeper.py"), attend.stamp(slot)]
        self.child = subprocess.Popen(command, start_new_session=True)
attend.Process = Short
sys.exit(int(attend.attend(here, here)))
"""


def laid_out(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text(
        "format: 1\nproject: p\nexecution: {}\nbases: {scratch: {}}\ndatasets: {}\nmodels: {}\n"
        'retraining: {schedule: {cron: "* * * * *"}}\n'
    )
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    return tmp_path


def test_sigterm_stops_the_retrain_first_and_ends_with_143(tmp_path: Path) -> None:
    root = laid_out(tmp_path)
    # The slot of this minute is due: the watch was here a minute ago.
    now = datetime.now(UTC).replace(microsecond=0)
    last = (now - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    schedule_file(root).parent.mkdir(parents=True)
    held = {
        "format": 1,
        "cron": "* * * * *",
        "timezone": "UTC",
        "last": last,
        "running": "",
        "failures": 0,
        "paused": "",
    }
    schedule_file(root).write_text(json.dumps(held))

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    watcher = subprocess.Popen([sys.executable, "-c", WATCHER, str(root)], env=environment, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    end = time.monotonic() + 60
    while not (root / "began").exists():
        assert watcher.poll() is None and time.monotonic() < end, watcher.communicate()
        time.sleep(0.05)
    with pytest.raises(BusyError, match=f"watch is running as process {watcher.pid}"):
        attend.attend(root, root)
    watcher.send_signal(signal.SIGTERM)
    said, _ = watcher.communicate(timeout=60)

    assert watcher.returncode == 143, said
    assert (root / "stopped").exists() and "stopping the retrain" in said
    held = json.loads(schedule_file(root).read_text())
    assert held["running"] == (root / "began").read_text()
    assert json.loads((root / "mlruns/retraining/heartbeat.json").read_text())["what"] == "watch"


def test_the_child_of_the_watch_is_the_scheduled_retrain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[Any] = []
    monkeypatch.setattr(attend.subprocess, "Popen", lambda command, **more: said.append((command, more)))

    attend.Process(tmp_path, datetime(2026, 3, 29, 1, tzinfo=UTC))

    command, more = said[0]
    assert command[1:] == ["-m", "genfoundry.cli", "retrain", "--scheduled", "--slot", "2026-03-29T01:00:00Z"]
    assert more["cwd"] == tmp_path and more["start_new_session"]
