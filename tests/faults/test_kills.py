"""Real kills of real processes: no trace in the result, the run tells it, nothing goes on behind the back."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Project

from genfoundry.config.params import read_yaml
from genfoundry.core.io import file_digest
from genfoundry.core.processes import alive
from genfoundry.state.locks import holder
from genfoundry.tracking import tags
from genfoundry.tracking.store import open_store

LONG, ENDLESS = 1_000, 2_000_000
"""Steps of a training that is to be hit in the middle and then ends, and of one that must never reach its end."""


def slowed(project: Project, steps: int) -> None:
    """Long enough to be hit in the middle, with a checkpoint every 50 ms."""
    project.edit(
        "training: {steps: 40, batch: 16, val_every: 20", f"training: {{steps: {steps}, batch: 16, val_every: 500"
    )
    project.edit(
        "execution: {accelerator: cpu, threads: 1}", "execution: {accelerator: cpu, threads: 1, checkpoint_every: 0.05}"
    )


def started(project: Project, *command: str) -> subprocess.Popen[bytes]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(command, cwd=project.root, env={**os.environ, "PATH": path}, start_new_session=True)


def wait_for_checkpoint(project: Project, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if list((project.root / "checkpoints").glob("*/step-*.pt")):
            return
        time.sleep(0.02)
    raise AssertionError("no checkpoint came")


def stage_pid(project: Project) -> int:
    return int((holder(project.root / ".dvc/tmp/genfoundry/train@bars-vae.lock") or {})["pid"])


def results(project: Project) -> dict[str, str]:
    files = [
        "artifacts/models/bars-vae/model/weights.safetensors",
        "reports/models/bars-vae/history.csv",
        "reports/models/bars-vae/train.json",
    ]
    return {name: file_digest(project.root / name) for name in files}


def test_sigkill_in_training_leaves_no_trace(finished: Project, tmp_path: Path) -> None:
    calm, killed = finished.copy(tmp_path / "calm"), finished.copy(tmp_path / "killed")
    for project in (calm, killed):
        slowed(project, LONG)
    calm.dvc("repro", "-q", "train@bars-vae")

    first = started(killed, sys.executable, "-m", "dvc", "repro", "train@bars-vae")
    wait_for_checkpoint(killed)
    os.kill(stage_pid(killed), signal.SIGKILL)
    assert first.wait(60) != 0
    assert f"'steps': {LONG}" not in str(read_yaml(killed.root / "dvc.lock")["stages"].get("train@bars-vae"))
    done = killed.dvc("repro", "train@bars-vae")

    assert "continuing after step" in done.stdout
    assert results(killed) == results(calm)
    store = open_store(killed.root, "miniature")
    runs = store.client.search_runs(
        [store.experiment], f"tags.`genfoundry.key` = 'bars-vae' and params.`training.steps` = '{LONG}'"
    )
    assert [run.info.status for run in runs] == ["FINISHED"]
    steps = [point.step for point in store.client.get_metric_history(runs[0].info.run_id, "train/loss")]
    assert steps == list(range(10, LONG + 1, 10)), "a step is doubled or missing"


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_killed_dvc_takes_its_stage_along(project: Project, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("SHELL", shell)  # DVC's; dash, Debian's /bin/sh, stays between DVC and the stage
    slowed(project, ENDLESS)
    dvc = started(project, sys.executable, "-m", "dvc", "repro", "train@bars-vae")
    wait_for_checkpoint(project)
    pid = stage_pid(project)

    os.kill(dvc.pid, signal.SIGKILL)
    dvc.wait(30)
    for _ in range(300):
        if not alive(pid):
            break
        time.sleep(0.1)

    assert not alive(pid), "the stage trains on"
    assert not (project.root / "artifacts/models/bars-vae/model").exists()
    store = open_store(project.root, "miniature")
    (run,) = store.client.search_runs([store.experiment], "attributes.status = 'FAILED'")
    # Between two steps, or while Lightning winds down: the words differ, the checkpoint is there either way.
    assert "stopped by SIGTERM" in run.data.tags[tags.FAILURE]
    assert list((project.root / "checkpoints").glob("*/step-*.pt")), "nothing to go on from"


def test_sigterm_ends_with_143(project: Project) -> None:
    slowed(project, ENDLESS)
    stage = started(project, sys.executable, "-m", "pipelines.train", "bars-vae")
    wait_for_checkpoint(project)

    stage.send_signal(signal.SIGTERM)

    assert stage.wait(60) == 143
