"""Reproducing a model of a few bytes: found by its bytes in git, or by its recipe; equal or told what differs."""

import shutil
from pathlib import Path

import pytest
import tinymodel
from histories import History, SetClock, git

from genfoundry.core.errors import ConfigError
from genfoundry.state.events import read_events
from genfoundry.tracking import tags
from genfoundry.upkeep.backup.reproduce import Reproduction, reproduce


@pytest.fixture()
def history(tiny: History, tmp_path: Path) -> History:
    return tinymodel.copied(tiny, tmp_path / "project", SetClock())


def rebuilt(history: History, **more: bool) -> Reproduction:
    return reproduce(history.root, history.root, history.store, "writer", "1", history.clock, echo=False, **more)


def test_a_model_whose_lock_was_never_committed_is_rebuilt_from_its_recipe(history: History) -> None:
    root = history.root
    # The project goes on: other settings, other data, and the results of both.
    (root / "params.yaml").write_text((root / "params.yaml").read_text().replace("steps: 3", "steps: 4"))
    (root / "data/a.txt").write_text("newer")
    tinymodel.dvc(root, "add", "-q", "data")
    git(root, "commit", "-q", "-a", "-m", "newer")
    shutil.rmtree(root / "artifacts")
    (root / "dvc.lock").unlink()
    before, cached = git(root, "status", "--porcelain"), sorted((root / ".dvc/cache").rglob("*"))

    found = rebuilt(history)

    assert found.equal and found.rebuilt == history.digests["writer", "1"]
    assert "never committed" in found.notes[0] and found.commit == git(root, "rev-parse", "HEAD~1")
    assert git(root, "status", "--porcelain") == before and sorted((root / ".dvc/cache").rglob("*")) == cached
    assert len(git(root, "worktree", "list").splitlines()) == 1
    assert not list((root / "mlruns/retraining/worktrees").iterdir())
    (event,) = read_events(root, "reproduced")
    assert (event["model"], event["version"], event["equal"]) == ("writer", "1", True)


def test_the_commit_is_found_by_the_bytes_of_the_model(history: History) -> None:
    root = history.root
    git(root, "checkout", "-q", "-b", "retrain/abc")
    git(root, "add", "dvc.lock")
    git(root, "commit", "-q", "-m", "lock")
    holding = git(root, "rev-parse", "HEAD")
    git(root, "checkout", "-q", "-b", "after", "HEAD~1")

    found = rebuilt(history, from_arrays=True)

    assert found.equal and found.commit == holding and found.notes == []


def test_what_is_not_declared_is_found_out(history: History) -> None:
    history.store.client.set_tag(history.runs["writer", "1"], f"{tags.PROCESSOR}train", "Another Processor 9000")
    (history.root / "mlruns/undeclared.txt").write_text("luck")

    found = rebuilt(history)

    assert not found.equal and found.files == ["weights.safetensors"] and found.stages == ["train@writer"]
    assert any("trained on Another Processor 9000" in note for note in found.notes)


def test_a_model_that_nothing_leads_to_is_refused(history: History) -> None:
    shutil.rmtree(next((history.root / "mlruns/artifacts").glob("*/artifacts/recipe")))

    with pytest.raises(ConfigError, match="its run has no recipe; run genfoundry record"):
        rebuilt(history)


def test_a_recipe_that_leads_out_of_the_project_is_refused(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    from genfoundry.upkeep.backup import reproduce as module

    lock = (history.root / "dvc.lock").read_text()
    monkeypatch.setattr(module, "read_recipe", lambda *words: {"dvc.lock": lock, "../../../../escaped.yaml": "x"})

    with pytest.raises(ConfigError, match="leaves the project"):
        rebuilt(history)

    assert not list(history.root.parent.rglob("escaped.yaml"))
