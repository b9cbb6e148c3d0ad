"""Remotes in place of the embedded defaults: DVC's in a folder and on S3, MLflow's as a server, all real ones."""

import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from conftest import Project
from histories import SetClock
from servers import free_port, mlflow_server

from genfoundry.core.errors import InfrastructureError
from genfoundry.core.io import folder_digest
from genfoundry.tracking import tags
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.store import Store, open_store, shown
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.sweep import upkeep

CANARY = "canary-8c1d7f"
"""Stands in a password: found in no file afterwards."""

MODEL = "artifacts/models/bars-vae/model"


def files_with(text: str, *places: Path) -> list[Path]:
    needle = text.encode()
    return [path for place in places for path in place.rglob("*") if path.is_file() and needle in path.read_bytes()]


def pushed_and_pulled(project: Project, tmp_path: Path, **env: str) -> Project:
    """A clone without a cache of its own, after `dvc push` here and `dvc pull` there."""
    project.git("add", ".dvc/config")
    project.git("commit", "-q", "-m", "remote")
    project.dvc("push", "-q", MODEL, "data.dvc", **env)
    project.run("git", "clone", "-q", str(project.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.dvc("pull", "-q", MODEL, "data.dvc", **env)
    return clone


def test_a_folder_as_dvc_remote_brings_data_and_model_to_a_clone(project: Project, tmp_path: Path) -> None:
    project.dvc("remote", "add", "-q", "-d", "store", str(tmp_path / "store"))

    clone = pushed_and_pulled(project, tmp_path)

    assert folder_digest(clone.root / MODEL) == folder_digest(project.root / MODEL)
    assert "data/ is what data.dvc says" in clone.genfoundry("bootstrap").stdout


@pytest.mark.long
def test_s3_as_dvc_remote_and_its_key_is_written_nowhere(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("dvc_s3", reason="needs the extra s3: pip install -e .[s3-tests]")
    boto3 = pytest.importorskip("boto3", reason="needs the extra s3: pip install -e .[s3-tests]")
    moto = pytest.importorskip("moto.server", reason="needs the extra s3: pip install -e .[s3-tests]")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=free_port())
    server.start()
    try:
        address = "http://{}:{}".format(*server.get_host_and_port())
        key = {"AWS_ACCESS_KEY_ID": "someone", "AWS_SECRET_ACCESS_KEY": CANARY, "AWS_DEFAULT_REGION": "us-east-1"}
        bucket = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id="someone",
            aws_secret_access_key=CANARY,
            region_name="us-east-1",
        )
        bucket.create_bucket(Bucket="models")
        project.dvc("remote", "add", "-q", "-d", "store", "s3://models/genfoundry")
        project.dvc("remote", "modify", "store", "endpointurl", address)

        clone = pushed_and_pulled(project, tmp_path, **key)

        assert folder_digest(clone.root / MODEL) == folder_digest(project.root / MODEL)
        assert bucket.list_objects_v2(Bucket="models")["KeyCount"] > 10
        assert files_with(CANARY, project.root, clone.root) == []
    finally:
        server.stop()


def test_a_server_that_is_not_there_is_said_in_seconds_and_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://me:{CANARY}@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    began = time.monotonic()

    with pytest.raises(InfrastructureError, match="start the server, or correct MLFLOW_TRACKING_URI") as told:
        open_store(tmp_path, "p")

    assert CANARY not in str(told.value) and "***@127.0.0.1" in str(told.value)
    assert time.monotonic() - began < 100, "MLflow's own default is 246 s"
    assert shown("see http://a.b/c@d and s3://u:p@h/x") == "see http://a.b/c@d and s3://***@h/x"


@pytest.fixture()
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of an MLflow server that keeps runs in sqlite and passes artifacts on."""
    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder) as base:
        yield base.replace("://", f"://me:{CANARY}@"), folder


def _run_of(store: Store, key: str) -> str:
    (run,) = store.client.search_runs([store.experiment], f"tags.`{tags.KEY}` = '{key}'")
    return str(run.info.run_id)


@pytest.mark.long
def test_an_mlflow_server_in_place_of_the_embedded_store(
    project: Project, server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, kept = server
    old = open_store(project.root, "miniature")
    old.client.set_registered_model_alias("bars-vae", "champion", "1")
    curve = [point.value for point in old.client.get_metric_history(_run_of(old, "bars-vae"), "train/loss")]

    copied = project.genfoundry("copy-store", "embedded", address, timeout=900).stdout
    for name in ("mlflow.db", "mlflow.db-wal", "mlflow.db-shm"):
        (project.root / "mlruns" / name).unlink(missing_ok=True)
    shutil.rmtree(project.root / "mlruns/artifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    told = project.genfoundry("record", timeout=900).stdout
    project.stage("train", "bars-vae", timeout=900)
    traced = project.genfoundry("trace", "bars-vae/1", timeout=900).stdout
    opened = project.genfoundry("ui", timeout=900).stdout

    assert "2 models, 2 versions copied" in copied and "logged to MLflow from files" not in told
    assert not (project.root / "mlruns/mlflow.db").exists() and not (project.root / "mlruns/artifacts").exists()
    assert "data/bars" in traced and "raw data" in traced
    assert "runs there already" in opened and CANARY not in opened
    store = open_store(project.root, "miniature")
    folder, number, *_ = fetch_model(store, "bars-vae", "1", tmp_path / "fetched")
    assert (number, folder.name) == ("1", folder_digest(project.root / MODEL))
    (run,) = store.client.search_runs([store.experiment], "tags.`genfoundry.key` = 'bars-vae'")
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith("mlflow-artifacts:")
    assert "train/samples_per_second" in run.data.metrics and len(list(kept.rglob("weights.safetensors"))) == 2
    assert [point.value for point in store.client.get_metric_history(run.info.run_id, "train/loss")][
        -len(curve) :
    ] == curve
    # Upkeep through the server's interface: rows are hidden, artifacts go.
    failed = store.client.create_run(store.experiment, tags={tags.KIND: "model", tags.KEY: "x"}).info.run_id
    store.client.log_text(failed, "lost 5e1f09", "page.html")
    store.client.set_terminated(failed, "FAILED")
    done = upkeep(project.root, project.root, Keep(runs_days=0), SetClock(datetime.now(UTC)))
    assert done.notes == [] and failed in {each.what.split()[-1] for each in done.removed}
    assert (
        store.client.get_run(failed).info.lifecycle_stage == "deleted"
        and files_with("lost 5e1f09", kept / "kept") == []
    )
    assert fetch_model(store, "bars-vae", "champion", tmp_path / "fetched again")[1] == "1"
    # And back.
    project.genfoundry("copy-store", address, "embedded", timeout=900)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    # In a process of its own: this one still holds the database that was deleted.
    fetch = (
        "from pathlib import Path; from genfoundry.tracking.store import open_store; "
        "from genfoundry.tracking.registry import fetch_model; "
        "print(fetch_model(open_store(Path.cwd(), 'miniature'), 'bars-vae', 'champion', Path('back'))[0].name)"
    )
    back = project.run(sys.executable, "-c", fetch, PYTHONPATH="src").stdout.split()
    assert back[-1] == folder_digest(project.root / MODEL)
    assert files_with(CANARY, project.root, kept) == []
