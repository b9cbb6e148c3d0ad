"""Training and data tasks on a real Ray cluster of two raylets; needs the extra ray."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from test_two_processes import ONE, SLOW, STEPS, TOKENS, checkpoint_step, same_curves, settle, started, trained

from genfoundry.config.sections.execution import Execution
from genfoundry.core.processes import stat_fields
from genfoundry.data.shards import executor

ray = pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.long

NODES = {"launcher": "ray", "nodes": 2, "devices": 1}


@pytest.fixture()
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head of one core, and a node of three."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # its workers import this file
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    running.second = running.add_node(num_cpus=3)
    running.wait_for_nodes()
    yield running
    ray.shutdown()
    running.shutdown()


def stages() -> list[int]:
    """Processes that train, of this test's project or of any."""
    found = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and stat_fields(int(each.name))[:1] not in (["Z"], []):
            try:
                words = (each / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"pipelines.train" in words and b"genfoundry.pipeline.ray_nodes" not in words:
                found.append(int(each.name))
    return found


def training(finished: Project, folder: Path, step: int) -> tuple[Project, subprocess.Popen[bytes]]:
    """A project, and its stage on both nodes with a checkpoint of this step or a later one."""
    project = settle(finished.copy(folder), TOKENS, {**SLOW, "steps": 10**6}, {**NODES, "checkpoint_every": 0.05})
    stage = started(project, TOKENS)
    deadline = time.monotonic() + 200
    while checkpoint_step(project) < step and time.monotonic() < deadline and stage.poll() is None:
        time.sleep(0.5)
    return project, stage


def test_two_nodes_train_as_one_process(
    finished: Project, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    alone = trained(finished, tmp_path / "alone", TOKENS, ONE)
    project = settle(finished.copy(tmp_path / "project"), TOKENS, {"steps": STEPS}, NODES)

    project.stage("train", TOKENS)

    same_curves(alone, project, TOKENS)


@pytest.mark.parametrize("whole_group", [False, True], ids=["stage", "group"])
def test_sigterm_saves_and_ends_every_node(
    finished: Project, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_group: bool
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    before = set(stages())
    project, stage = training(finished, tmp_path / "project", step=3)
    assert set(stages()) - before, "it never trained"

    reached = checkpoint_step(project)
    (os.killpg if whole_group else os.kill)(stage.pid, signal.SIGTERM)

    assert stage.wait(60) == 143
    assert not set(stages()) - before, "a node trains on"
    assert checkpoint_step(project) > reached > 0
    assert not (project.root / f"artifacts/models/{TOKENS}/model").exists() or checkpoint_step(project) < 10**6


def test_a_killed_driver_leaves_no_node_training(
    finished: Project, cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    before = set(stages())
    _, stage = training(finished, tmp_path / "project", step=1)

    os.kill(stage.pid, signal.SIGKILL)

    deadline = time.monotonic() + 60
    while set(stages()) - before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not set(stages()) - before


def busy(task: tuple[Path, int]) -> int:
    """Its number, after it has written when it began and ended."""
    folder, number = task
    began = time.time()
    time.sleep(1)
    (folder / f"{number}-{os.getpid()}-{time.time_ns()}").write_text(f"{began} {time.time()}")
    return number


def wrong(task: int) -> int:
    raise ValueError(f"no such shard {task}")


def at_a_time(folder: Path) -> int:
    """Most tasks that ran at one moment."""
    spans = [tuple(map(float, file.read_text().split())) for file in folder.iterdir()]
    return max(sum(began <= moment < ended for began, ended in spans) for moment, _ in spans)


def test_tasks_use_the_running_cluster_and_outlive_a_node(cluster: Any, tmp_path: Path) -> None:
    tasks = [(tmp_path, number) for number in range(24)]
    results = executor.run(busy, tasks, Execution(data_executor="ray"))

    found = [next(results) for _ in range(4)]
    cluster.remove_node(cluster.second)
    found += list(results)

    assert found == list(range(24))
    assert at_a_time(tmp_path) == 4, "the head's core alone was used"


def test_an_error_of_a_task_is_that_error(cluster: Any) -> None:
    with pytest.raises(ValueError, match="no such shard 1"):
        list(executor.run(wrong, [1], Execution(data_executor="ray")))


def test_without_a_cluster_this_machine_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    tasks = [(tmp_path, number) for number in range(3)]

    assert list(executor.run(busy, tasks, Execution(data_executor="ray", data_workers=2))) == [0, 1, 2]
