"""What a reviewer finds in the MLflow UI, asked of a real server over its REST interface."""

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Project
from servers import free_port, serving


@pytest.fixture(scope="module")
def server(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    project = finished.copy(tmp_path_factory.mktemp("ui") / "project")
    port = free_port()
    with serving(["genfoundry.cli", "ui", "--port", str(port)], port, project.root, 60) as base:
        yield base


def ask(base: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"{base}{path}", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=30))


def search(base: str, kind: str) -> dict[str, dict[str, Any]]:
    found = ask(
        base, "/api/2.0/mlflow/runs/search", {"experiment_ids": ["1"], "filter": f"tags.`genfoundry.kind` = '{kind}'"}
    )
    return {run["info"]["run_name"].split(" ")[0]: run for run in found["runs"]}


def test_a_row_holds_loss_throughput_scores_and_version(server: str) -> None:
    row = search(server, "model")["notes-transformer"]
    names = {metric["key"] for metric in row["data"]["metrics"]}
    told = {tag["key"]: tag["value"] for tag in row["data"]["tags"]}

    assert {"train/loss", "train/tokens_per_second"} <= names
    assert any(name.startswith("evaluate/bits_per_byte:") for name in names)
    assert told["genfoundry.version"] == "1"
    assert row["outputs"]["model_outputs"]
    assert row["info"]["status"] == "FINISHED"


def test_ready_views_name_the_columns_that_the_rows_have(server: str) -> None:
    experiment = ask(server, "/api/2.0/mlflow/experiments/get?experiment_id=1")["experiment"]
    views = {
        tag["key"]: json.loads(tag["value"])
        for tag in experiment["tags"]
        if tag["key"].startswith("mlflow.sharedViewState.")
    }
    names = {
        metric["key"]
        for kind in ("model", "dataset")
        for run in search(server, kind).values()
        for metric in run["data"]["metrics"]
    }

    for view in views.values():
        columns = {
            re.sub(r"^metrics\.`(.+)`$", r"\1", column)
            for column in view["selectedColumns"]
            if column.startswith("metrics.")
        }
        assert columns and columns <= names
    assert {name.rpartition(".")[2] for name in views} == {"models", "scores", "datasets"}
    shown = {name: " ".join(view["selectedColumns"]) for name, view in views.items()}
    assert "evaluate/fid_domain:" in shown["mlflow.sharedViewState.models"]
    assert "authenticity" not in shown["mlflow.sharedViewState.models"], "it would push what decides out of sight"
    assert "evaluate/authenticity:" in shown["mlflow.sharedViewState.scores"]


def test_pictures_pages_and_docs_are_served(server: str) -> None:
    run = search(server, "dataset")["bars"]["info"]["run_id"]
    page = urllib.request.urlopen(
        f"{server}/get-artifact?path=deduplicate/deduplicate.html&run_uuid={run}", timeout=30
    ).read()
    assert b"<!doctype html>" in page and b"http://" not in page.split(b"<body>")[0]
    listing = ask(server, f"/api/2.0/mlflow/artifacts/list?run_id={run}&path=validate/data_docs")
    assert any(file["path"].endswith("index.html") for file in listing["files"])
    model = search(server, "model")["bars-vae"]["info"]["run_id"]
    images = ask(server, f"/api/2.0/mlflow/artifacts/list?run_id={model}&path=images")["files"]
    assert len([file for file in images if "train_samples" in file["path"] and file["path"].endswith(".png")]) == 4


def test_curves_system_metrics_and_data_sets_are_there(server: str) -> None:
    row = search(server, "model")["bars-vae"]
    run = row["info"]["run_id"]
    history = ask(server, f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=train/loss")["metrics"]
    assert [point["step"] for point in history] == [10, 20, 30, 40]
    assert any(metric["key"].startswith("system/") for metric in row["data"]["metrics"])
    inputs = {entry["dataset"]["name"]: entry["dataset"]["digest"] for entry in row["inputs"]["dataset_inputs"]}
    assert len(inputs["datasets bars arrays"]) == 36


def test_the_registry_shows_the_version(server: str) -> None:
    version = ask(server, "/api/2.0/mlflow/model-versions/get?name=bars-vae&version=1")["model_version"]

    assert version["source"].startswith("models:/m-")
    assert any(tag["key"] == "genfoundry.digest" for tag in version["tags"])
