"""Runs, the store and its repair, against a real sqlite store."""

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from genfoundry.config.dag import Node, lineage_file
from genfoundry.core.errors import InfrastructureError
from genfoundry.core.io import write_json
from genfoundry.tracking import tags
from genfoundry.tracking.glance import glances
from genfoundry.tracking.names import from_mlflow, to_mlflow
from genfoundry.tracking.publish import log_stage
from genfoundry.tracking.runs import Run, fail, find_run, finish, numbers, process_tag, reap, start, tracking_errors
from genfoundry.tracking.store import Store, embedded_uri, open_store


@pytest.fixture()
def store(template: Path, tmp_path: Path) -> Store:
    shutil.copytree(template / "mlruns", tmp_path / "mlruns")
    return open_store(tmp_path, "p")


def a_run(store: Store, **more: str) -> Run:
    made = store.client.create_run(store.experiment, tags={tags.KIND: "model", tags.KEY: "m", tags.STATE: "s", **more})
    return Run(store, made.info.run_id, "train")


def test_a_copied_store_points_to_its_own_artifacts(store: Store, tmp_path: Path) -> None:
    run = a_run(store)

    assert run.client.get_run(run.run_id).info.artifact_uri.startswith((tmp_path / "mlruns/artifacts").as_uri())


def test_old_artifacts_are_found_after_the_store_moved(store: Store, tmp_path: Path) -> None:
    run = a_run(store)
    (tmp_path / "note.txt").write_text("hello")
    run.artifact(tmp_path / "note.txt")
    shutil.move(tmp_path / "mlruns", tmp_path / "elsewhere/mlruns")

    moved = open_store(tmp_path / "elsewhere", "p")
    path = moved.client.download_artifacts(run.run_id, "train/note.txt")

    assert Path(path).read_text() == "hello"
    assert moved.client.get_run(run.run_id).info.artifact_uri.startswith((tmp_path / "elsewhere").as_uri())


def test_the_database_is_in_write_ahead_mode(store: Store, tmp_path: Path) -> None:
    assert sqlite3.connect(tmp_path / "mlruns/mlflow.db").execute("pragma journal_mode").fetchone() == ("wal",)


def test_a_broken_database_ends_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns/mlflow.db").write_bytes(b"no database" * 100)

    with pytest.raises(InfrastructureError, match=r"restore a backup .* rename .* aliases, versions, timings"):
        open_store(tmp_path, "p")


def test_a_database_that_can_not_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "mlruns/mlflow.db").mkdir(parents=True)

    with pytest.raises(InfrastructureError, match="unable to open database file; keep the file"):
        open_store(tmp_path, "p")


@pytest.mark.parametrize("folder", ["a%20b", "what?", "c#4", "é 100%"])
def test_a_store_lies_below_a_folder_of_any_name(store: Store, tmp_path: Path, folder: str) -> None:
    run = a_run(store)
    here = tmp_path / folder
    here.mkdir()
    shutil.move(tmp_path / "mlruns", here / "mlruns")

    moved = open_store(here, "p")

    assert make_url(embedded_uri(here)) == URL.create("sqlite", database=f"{here}/mlruns/mlflow.db")
    assert find_run(moved, "model", "m", "s") == run.run_id
    assert moved.client.get_run(run.run_id).info.artifact_uri.startswith((here / "mlruns/artifacts").as_uri())
    assert glances(here, "p") == []
    assert [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_relative_to(here / "mlruns")] == []


def test_addresses_of_a_store_of_a_similar_name_stay(store: Store, tmp_path: Path) -> None:
    """As a pattern of SQL, ``a%20b`` stands for ``another20b`` too."""
    here, similar = tmp_path / "a b", tmp_path / "another20b"
    here.mkdir()
    shutil.move(tmp_path / "mlruns", here / "mlruns")
    first = open_store(here, "p")
    other = first.client.create_experiment("other", artifact_location=(similar / "mlruns/artifacts/x").as_uri())

    shutil.move(here, tmp_path / "moved")
    moved = open_store(tmp_path / "moved", "p")

    assert moved.client.get_experiment(other).artifact_location == (similar / "mlruns/artifacts/x").as_uri()


def test_a_run_is_found_by_its_state(store: Store) -> None:
    run = a_run(store)

    assert find_run(store, "model", "m", "s") == run.run_id
    assert find_run(store, "model", "m", "other") is None


def test_a_failed_run_tells_why_and_a_rerun_clears_it(store: Store) -> None:
    run = a_run(store)
    fail(store, run.run_id, "in train: loss is nan")
    found = run.client.get_run(run.run_id)
    assert found.info.status == "FAILED"
    assert found.data.tags[tags.FAILURE] == "in train: loss is nan"
    assert "loss is nan" in found.data.tags["mlflow.note.content"]

    start(run)
    assert run.client.get_run(run.run_id).info.status == "RUNNING"
    finish(run)

    found = run.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert tags.FAILURE not in found.data.tags


def test_the_run_of_a_dead_process_is_reaped_and_that_of_a_living_one_is_not(store: Store) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    host, _, started = process_tag().split(" ")
    gone = a_run(store, **{tags.PROCESS: f"{host} {dead.stdout.strip()} 1"})
    mine = a_run(store, **{tags.PROCESS: process_tag()})
    recycled = a_run(store, **{tags.PROCESS: process_tag().replace(started, "1")})
    elsewhere = a_run(store, **{tags.PROCESS: "another-host 1 1"})

    assert reap(store) == 2

    status = {run.run_id: run.client.get_run(run.run_id).info.status for run in (gone, mine, recycled, elsewhere)}
    assert status == {
        gone.run_id: "FAILED",
        mine.run_id: "RUNNING",
        recycled.run_id: "FAILED",
        elsewhere.run_id: "RUNNING",
    }


def test_metrics_are_batched_and_skip_what_is_not_finite(store: Store) -> None:
    run = a_run(store)
    for step in range(30):
        run.metric("loss", step if step != 7 else float("nan"), step)
    run.flush()

    history = run.client.get_metric_history(run.run_id, "train/loss")
    assert [point.step for point in history] == [step for step in range(30) if step != 7]
    assert run.last_steps() == {"loss": 29}


def test_parameters_are_logged_once(store: Store) -> None:
    run = a_run(store)
    for _ in range(2):
        run.params({"training": {"lr": 0.1, "betas": (0.9, 0.99)}})

    assert run.client.get_run(run.run_id).data.params == {"training.lr": "0.1", "training.betas": "(0.9, 0.99)"}


def test_score_keys_become_names_that_mlflow_admits() -> None:
    assert numbers({"fid@ab": {"value": 1, "se": float("inf")}, "name": "x"}) == {"fid:ab": 1.0}


LABELS = ("c#", "c+", "c?", "c_", "a//b", "a/", "a/../b", "..", "a@b", "a:b", "_x0023_", "_x0041#", "日本", "🐱", "a\n")
"""Class names of people's data."""


def test_every_label_is_logged_under_its_own_name_and_read_back(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(store)
    counts = {label: number for number, label in enumerate((*LABELS, "long " * 60))}
    for _ in range(2):
        found = numbers({"records": 7, "labels": counts})
        run.metrics({name: value for name, value in found.items() if name not in run.last_steps()})
        run.complete()

    logged = run.client.get_run(run.run_id).data.metrics
    assert len(logged) == len(LABELS) + 1
    assert logged["train/records"] == 7 and logged["train/labels.c_x0023_"] == 0
    assert set(run.last_steps()) == {"records", *(f"labels.{label}" for label in LABELS)}
    assert {from_mlflow(name) for name in logged} == {f"train/{name}" for name in run.last_steps()}
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1
        and "at most 250 characters: 1 values are not logged" in said
        and "labels.long long" in said
    )


@given(st.one_of(st.text(max_size=9), st.text("/._xF01#:\n", max_size=12)))
def test_a_name_is_admitted_and_comes_back(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    shown = to_mlflow("encode/" + name)

    _validate_metric_name(shown)
    assert from_mlflow(shown) == "encode/" + name


def test_parameters_are_logged_by_names_that_mlflow_admits(store: Store) -> None:
    run = a_run(store)
    for _ in range(2):
        run.params({"encode": {"c#": 1, "c+": 2}})

    assert run.client.get_run(run.run_id).data.params == {"encode.c_x0023_": "1", "encode.c_x002B_": "2"}


def test_a_stage_killed_before_its_end_logs_its_timings_once(store: Store) -> None:
    killed = a_run(store)
    killed.metric("seconds", 40.0)
    killed.metric("loss", 1.0, 8)
    killed.flush()

    again = Run(store, killed.run_id, "train")
    again.metric("seconds", 2.0)
    again.complete()

    history = {name: again.client.get_metric_history(again.run_id, f"train/{name}") for name in ("seconds", "loss")}
    assert {name: [(point.step, point.value) for point in points] for name, points in history.items()} == {
        "seconds": [(0, 2.0)],
        "loss": [(8, 1.0)],
    }


def test_a_stage_whose_numbers_the_store_does_not_take_is_not_logged_as_done(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = a_run(store)
    with sqlite3.connect(tmp_path / "mlruns/mlflow.db") as connection:
        connection.execute("alter table metrics rename to gone")
    run.metric("seconds", 2.0, 1)
    run.flush()
    assert "train: MLflow did not take metrics (" in capsys.readouterr().err

    node = Node("train", "m", "", (), (), ())
    write_json(lineage_file(tmp_path, node.address), {})
    with pytest.raises(tracking_errors()):
        log_stage(run, tmp_path, node, {"outputs": {}, "fingerprint": "f", "inputs": {}}, {})
    assert tags.STAGE + "train" not in run.client.get_run(run.run_id).data.tags


def _open(state: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    open_store(Path(state), "p")


@pytest.mark.long
def test_processes_may_create_a_store_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(4)
    workers = [context.Process(target=_open, args=(str(tmp_path), barrier)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
