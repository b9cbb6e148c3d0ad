"""Two processes are one run: one curve, one writer, one state that any number of processes goes on from."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from processes import own_address
from ruamel.yaml import YAML

from genfoundry.core.io import file_digest
from genfoundry.core.processes import alive
from genfoundry.tracking.store import open_store

IMAGES, TOKENS = "bars-vae", "notes-transformer"
STEPS = 42
"""Not the miniature's own number, so that the run is a new one."""
LISTS_CHILDREN = Path(f"/proc/self/task/{os.getpid()}/children").exists()
SLOW = {"steps": 600, "val_every": 200}
"""With a checkpoint after every step it takes many seconds: long enough to be hit in the middle, four times."""
DDP, FSDP, ONE = {"devices": 2}, {"devices": 2, "strategy": "fsdp"}, {"devices": 1}


def settle(project: Project, model: str, training: dict[str, Any], execution: dict[str, Any]) -> Project:
    """Set what is trained and on what."""
    yaml = YAML()
    path = project.root / "params.yaml"
    tree = yaml.load(path)
    block = tree["models"][model]
    if model == TOKENS:
        block["options"]["dropout"] = 0.2
    # Averaged weights are kept: they too must be divided, gathered and resumed. An odd batch of the accumulation.
    block["training"] |= {"ema": 0.9, **training}
    tree["execution"] = {"accelerator": "cpu", "threads": 1, **execution}
    yaml.dump(tree, path)
    return project


def trained(finished: Project, folder: Path, model: str, execution: dict[str, Any], dvc: bool = False) -> Project:
    project = settle(finished.copy(folder), model, {"steps": STEPS}, execution)
    if dvc:
        project.dvc("repro", f"train@{model}")
    else:
        project.stage("train", model)
    return project


def curve(project: Project, model: str, file: str = "history", column: str = "loss") -> list[float]:
    with (project.root / f"reports/models/{model}/{file}.csv").open() as rows:
        return [float(row[column]) for row in csv.DictReader(rows)]


def results(project: Project, model: str) -> dict[str, str]:
    folders = [project.root / f"artifacts/models/{model}/model", project.root / f"reports/models/{model}"]
    names = [path for folder in folders for path in sorted(folder.glob("*")) if path.is_file()]
    return {path.name: file_digest(path) for path in names}


def same_curves(one: Project, other: Project, model: str) -> None:
    for file, column in (("history", "loss"), ("history", "grad_norm"), ("validation", "val_loss")):
        assert curve(other, model, file, column) == pytest.approx(curve(one, model, file, column), rel=1e-5), column


@pytest.fixture(scope="module")
def alone(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The token family trained by one process."""
    return trained(finished, tmp_path_factory.mktemp("alone") / "project", TOKENS, ONE)


def test_two_processes_draw_the_curve_of_one_and_make_one_run(
    finished: Project, alone: Project, tmp_path: Path
) -> None:
    pair = [trained(finished, tmp_path / name, TOKENS, DDP, dvc=name == "dvc") for name in ("dvc", "stage")]

    same_curves(alone, pair[0], TOKENS)
    assert results(pair[0], TOKENS) == results(pair[1], TOKENS), "two runs of two processes differ"
    store = open_store(pair[0].root, "miniature")
    (run,) = store.client.search_runs([store.experiment], f"params.`training.steps` = '{STEPS}'")
    assert run.info.status == "FINISHED"
    steps = [point.step for point in store.client.get_metric_history(run.info.run_id, "train/loss")]
    assert steps == [10, 20, 30, 40, STEPS], "a step is doubled or missing"


def test_divided_weights_draw_the_curve_of_one_and_make_the_same_folder(
    finished: Project, alone: Project, tmp_path: Path
) -> None:
    project = trained(finished, tmp_path / "fsdp", TOKENS, FSDP)

    same_curves(alone, project, TOKENS)
    assert results(project, TOKENS).keys() == results(alone, TOKENS).keys()
    weights = [each.root / f"artifacts/models/{TOKENS}/model/weights.safetensors" for each in (alone, project)]
    assert weights[0].stat().st_size == weights[1].stat().st_size


@pytest.mark.parametrize("execution", [DDP, pytest.param(FSDP, marks=pytest.mark.long)], ids=["ddp", "fsdp"])
def test_two_processes_draw_the_curve_of_one_for_images(
    finished: Project, tmp_path: Path, execution: dict[str, Any]
) -> None:
    one = trained(finished, tmp_path / "one", IMAGES, ONE)

    same_curves(one, trained(finished, tmp_path / "two", IMAGES, execution), IMAGES)


@pytest.mark.long
@pytest.mark.parametrize(
    ("family", "options"),
    [("gan", {"width": 8, "blocks": 1, "group": 8, "latent": 4}), ("diffusion", {"width": 8})],
    ids=["gan", "diffusion"],
)
def test_two_processes_draw_every_curve_of_one(
    finished: Project, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    paths = []
    for name, execution in (("one", ONE), ("two", DDP)):
        project = settle(finished.copy(tmp_path / name), IMAGES, {"steps": STEPS}, execution)
        yaml = YAML()
        tree = yaml.load(project.root / "params.yaml")
        tree["models"][IMAGES] |= {"family": family, "options": options}
        yaml.dump(tree, project.root / "params.yaml")
        project.code()
        project.stage("train", IMAGES)
        paths.append(project.root / f"reports/models/{IMAGES}/history.csv")

    one, two = (points(path) for path in paths)
    assert len(one) == len(two) and one[0].keys() == two[0].keys()
    for number, (before, after) in enumerate(zip(one, two, strict=True)):
        # Sums of another order: an error of one step goes on into the next, and two players make it grow, just as
        # much in one process that takes its batch in two halves. A wrong share of a rank would show at once.
        assert after == pytest.approx(before, rel=1e-3 if number and family == "gan" else 2e-5, abs=1e-6)


def points(path: Path) -> list[dict[str, float]]:
    """A curve; of a critic's mean logits the gap, as their common height is in no loss and drifts with rounding."""
    rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(path.open())]
    for row in rows:
        if "real" in row:
            row["gap"] = row.pop("real") - row.pop("generated")
    return rows


def started(project: Project, model: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.train", model], cwd=project.root, start_new_session=True, env=os.environ
    )


def checkpoint_step(project: Project) -> int:
    found = [re.match(r"step-(\d+)-", path.name) for path in (project.root / "checkpoints").glob("*/step-*.pt")]
    return max((int(match[1]) for match in found if match), default=0)


def wait_for_step(project: Project, stage: subprocess.Popen[bytes], step: int) -> int:
    """The step of a checkpoint later than ``step``."""
    end = time.monotonic() + 120
    while checkpoint_step(project) <= step:
        assert stage.poll() is None, f"ended with {stage.returncode} before step {step + 1} was saved"
        assert time.monotonic() < end, "no checkpoint came"
        time.sleep(0.01)
    return checkpoint_step(project)


def ranks_below(pid: int) -> list[int]:
    """Processes of the run that this one has started."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [child for child in map(int, listed) if b"pipelines.train" in Path(f"/proc/{child}/cmdline").read_bytes()]


def wait_for_end(pids: list[int], seconds: float = 30) -> list[int]:
    """Those that live after all."""
    end = time.monotonic() + seconds
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return [pid for pid in pids if alive(pid)]


@pytest.mark.skipif(not LISTS_CHILDREN, reason="asks Linux for the processes of a run")
def test_a_killed_run_goes_on_with_any_number_of_processes(finished: Project, tmp_path: Path) -> None:
    calm = settle(finished.copy(tmp_path / "calm"), TOKENS, SLOW, ONE)
    calm.stage("train", TOKENS)
    project = finished.copy(tmp_path / "killed")

    hits = [(DDP, signal.SIGKILL), (ONE, signal.SIGKILL), (FSDP, signal.SIGTERM), (ONE, signal.SIGTERM)]
    for execution, number in hits:
        settle(project, TOKENS, SLOW, {**execution, "checkpoint_every": 1e-3})
        # Beyond what lies there: the one before may have gone on between the last look and its end.
        step = checkpoint_step(project)
        stage = started(project, TOKENS)
        step = wait_for_step(project, stage, step + 2)
        others = ranks_below(stage.pid)
        assert len(others) == execution["devices"] - 1
        stage.send_signal(number)
        assert stage.wait(60) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        assert not wait_for_end(others), f"left behind after {number!r}"
    assert step < SLOW["steps"], "nothing was left to do"
    settle(project, TOKENS, SLOW, DDP)
    done = project.stage("train", TOKENS)

    assert "continuing after step" in done.stdout
    same_curves(calm, project, TOKENS)


@pytest.mark.long
@pytest.mark.skipif(not LISTS_CHILDREN, reason="asks Linux for the processes of a run")
def test_a_dead_rank_ends_the_others(finished: Project, tmp_path: Path) -> None:
    project = settle(finished.copy(tmp_path / "project"), TOKENS, {"steps": 10**6}, {**DDP, "checkpoint_every": 0.05})
    stage = started(project, TOKENS)
    wait_for_step(project, stage, 0)
    (other,) = ranks_below(stage.pid)

    os.kill(other, signal.SIGKILL)

    assert stage.wait(60) != 0
    assert checkpoint_step(project) > 0, "nothing to go on from"
    store = open_store(project.root, "miniature")
    assert not store.client.search_runs([store.experiment], "attributes.status = 'RUNNING'")


@pytest.mark.long
@pytest.mark.parametrize("nodes", [1, 2])
def test_torchrun_starts_the_stage_again(finished: Project, alone: Project, tmp_path: Path, nodes: int) -> None:
    execution: dict[str, Any] = {"launcher": "torchrun", "nodes": nodes, "devices": 2 // nodes}
    if nodes > 1:
        execution["main_address"] = f"{own_address()}:29431"
    project = settle(finished.copy(tmp_path / "project"), TOKENS, {"steps": STEPS}, execution)

    stages = [started(project, TOKENS) for _ in range(nodes)]

    try:
        assert [stage.wait(600) for stage in stages] == [0] * nodes  # a busy machine takes a minute to import torchrun
    finally:
        for stage in stages:
            if stage.poll() is None:
                os.killpg(stage.pid, signal.SIGKILL)
    same_curves(alone, project, TOKENS)
