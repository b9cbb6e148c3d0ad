"""Backup, restore onto another path, reproduce: on the miniature project, as an operator would."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import Project

from genfoundry.core.io import file_digest, read_json
from genfoundry.tracking.store import open_store
from genfoundry.upkeep.backup.depot import Depot


@pytest.fixture()
def champions(project: Project) -> Project:
    """The finished project with a champion, and with a model in DVC's cache that nothing leads to."""
    store = open_store(project.root, "miniature")
    for name in ("bars-vae", "notes-transformer"):
        store.client.set_registered_model_alias(name, "champion", "1")
    return project


def clone_of(project: Project, target: Path) -> Project:
    shutil.rmtree(target, ignore_errors=True)
    project.run("git", "clone", "-q", str(project.root), str(target))
    return Project(target)


@pytest.mark.long
def test_a_backup_comes_back_in_a_fresh_clone_at_another_path(champions: Project, tmp_path: Path) -> None:
    depot, new = tmp_path / "depot", tmp_path / "another/place"
    champions.git("branch", "retrain/0123")
    old_store = open_store(champions.root, "miniature")
    run = old_store.client.get_model_version("bars-vae", "1").run_id
    old_store.client.update_run(old_store.client.create_run(old_store.experiment).info.run_id, status="RUNNING")

    told = champions.genfoundry("backup", str(depot)).stdout
    again = champions.genfoundry("backup", str(depot), "--keep", "1").stdout
    clone = clone_of(champions, new)
    shown = clone.genfoundry("restore", str(depot)).stdout
    clone.dvc("checkout", "-q")
    upkept = clone.genfoundry("clean", "--dry-run").stdout
    sound = clone.genfoundry("verify", str(depot)).stdout

    first, second = (int(text.rsplit("; ", 1)[1].split()[0]) for text in (told, again))
    assert first > 300 and second <= 3, "a second backup copies the database, the events and nothing else"
    (snapshot,) = Depot(depot).snapshots()
    # The list of digests proves it: state files, and objects of the cache.
    for name, entry in read_json(snapshot)["files"].items():
        if name.startswith("mlruns/artifacts/"):
            assert file_digest(new / name) == entry["sha256"], name
    store = open_store(new, "miniature")
    assert store.client.get_run(run).info.artifact_uri.startswith(new.as_uri())
    assert (
        Path(store.client.download_artifacts(run, "train/history.csv")).read_bytes()
        == (champions.root / "reports/models/bars-vae/history.csv").read_bytes()
    )
    assert "bars-vae/1 (champion)" in shown and "notes-transformer/1 (champion)" in shown
    assert not store.client.search_runs([store.experiment], "attributes.status = 'RUNNING'")
    assert clone.dvc("status").stdout.startswith("Data and pipelines are up to date")
    assert "retrain/0123" in clone.git("branch") and (new / "artifacts/models/bars-vae/model").is_dir()
    assert "logged to MLflow from files" not in clone.genfoundry("record").stdout
    assert "0 things would go" in upkept and ": 0 faults" in sound
    refused = clone.genfoundry("restore", str(depot), check=False)
    assert refused.returncode == 2 and "there is a store already; move mlruns/ away" in refused.stderr


@pytest.mark.long
def test_a_registered_model_is_trained_again_to_the_same_bytes(champions: Project) -> None:
    """From an uncommitted dvc.lock, after settings, data pointer and artifacts moved on."""
    champions.git("rm", "-q", "--cached", "dvc.lock")
    champions.git("commit", "-q", "--amend", "--no-edit")
    champions.genfoundry("record")
    champions.edit("options: {width: 8, latent: 4}", "options: {width: 8, latent: 5}")
    before = champions.git("status", "--porcelain")

    done = champions.genfoundry("reproduce", "bars-vae@champion", "--from-arrays", "--quiet")

    assert "equal, byte for byte" in done.stdout
    assert champions.git("status", "--porcelain") == before
    assert "reproduce" not in champions.git("worktree", "list")
    events = [json.loads(line) for line in (champions.root / "mlruns/events.jsonl").read_text().splitlines()]
    assert [(event["kind"], event["equal"]) for event in events if event["kind"] == "reproduced"] == [
        ("reproduced", True)
    ]


@pytest.mark.long
def test_a_rebuild_from_raw_data_is_equal_and_a_changed_one_is_told(champions: Project) -> None:
    champions.genfoundry("record")
    assert "equal, byte for byte" in champions.genfoundry("reproduce", "notes-transformer/1", "--quiet").stdout
    store = open_store(champions.root, "miniature")
    run = store.client.get_model_version("bars-vae", "1").run_id
    # Another recipe than the one it was made by, as if the store had been tampered with.
    text = (champions.root / "params.yaml").read_text().replace("steps: 40, batch: 16", "steps: 41, batch: 16")
    store.client.log_text(run, text, "recipe/params.yaml")
    store.client.set_tag(run, "genfoundry.processor.train", "Another Processor 9000")

    done = champions.genfoundry("reproduce", "bars-vae/1", "--quiet", check=False)

    assert done.returncode == 17
    assert "files that differ: manifest" not in done.stdout and "weights.safetensors" in done.stdout
    assert "stages that differ, first to last: train@bars-vae" in done.stdout
    assert "trained on Another Processor 9000" in done.stdout
