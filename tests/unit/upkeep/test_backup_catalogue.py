"""Backup and restore of a project of a few bytes, with real git, DVC and MLflow."""

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
import tinymodel
from histories import History, SetClock, git

from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import file_digest, read_json
from genfoundry.tracking import removal
from genfoundry.tracking.store import open_store
from genfoundry.upkeep import dvccache
from genfoundry.upkeep.backup import restore as restoring
from genfoundry.upkeep.backup.depot import Depot
from genfoundry.upkeep.backup.restore import Restored, restore
from genfoundry.upkeep.backup.take import Backup, backup
from genfoundry.upkeep.backup.verify import verify


@pytest.fixture()
def history(tiny: History, tmp_path: Path) -> History:
    return tinymodel.copied(tiny, tmp_path / "project", SetClock(datetime(2026, 11, 26, 3, 0, tzinfo=UTC)))


def save(history: History, depot: Path, **more: object) -> Backup:
    history.clock.sleep(86_400)
    return backup(history.root, history.root, "p", depot, history.clock, **more)  # type: ignore[arg-type]


def bring(root: Path, depot: Path, name: str = "") -> Restored:
    return restore(root, root, "p", depot, SetClock(), name)


def clone(history: History, target: Path) -> Path:
    subprocess.run(["git", "clone", "-q", str(history.root), str(target)], check=True)
    return target


def objects(cache: Path) -> set[str]:
    return {md5 for md5, _ in dvccache.objects(cache)}


def rot(path: Path) -> None:
    """Change a byte as a disk would: neither time nor mode tell."""
    facts = path.stat()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    path.chmod(0o444)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_everything_comes_back_at_another_path_and_the_list_proves_it(history: History, tmp_path: Path) -> None:
    depot, client = tmp_path / "depot", history.store.client
    git(history.root, "branch", "retrain/0123")
    (history.root / "mlruns/retraining/k").mkdir(parents=True)
    (history.root / "mlruns/retraining/k/outcome.json").write_text("{}")
    (history.root / "mlruns/retraining/worktrees/k").mkdir(parents=True)
    (history.root / "mlruns/retraining/worktrees/k/big.bin").write_bytes(bytes(1000))
    client.update_run(client.create_run(history.store.experiment).info.run_id, status="RUNNING")
    needed = objects(history.root / ".dvc/cache")
    stray = dvccache.object_path(history.root / ".dvc/cache", "d" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"nothing leads here")

    first, second = save(history, depot), save(history, depot)
    new = clone(history, tmp_path / "another/place")
    done = bring(new, depot)
    tinymodel.dvc(new, "checkout", "-q", "data.dvc")

    assert first.new == first.files > 15 and second.new <= 2, "the second copies the database and the events alone"
    told = read_json(second.snapshot)
    assert not any("worktrees" in name or name.endswith((".lock", "-wal")) for name in told["files"])
    for name, entry in told["files"].items():
        if name.startswith("mlruns/artifacts/") or name.startswith("mlruns/retraining/"):
            assert file_digest(new / name) == entry["sha256"], name
        elif name.startswith("cache/"):
            assert file_digest(dvccache.object_path(new / ".dvc/cache", name[6:])) == entry["sha256"], name
    # The champion's objects, whose dvc.lock was never committed, and not the stray one.
    assert objects(new / ".dvc/cache") == needed
    assert done.models == {"writer/1 (champion)": history.digests["writer", "1"]}
    store = open_store(new, "p")
    run = store.client.get_run(history.runs["writer", "1"])
    assert run.info.artifact_uri.startswith(new.as_uri()) and (new / "data/a.txt").read_text() == "raw"
    page = store.client.download_artifacts(run.info.run_id, "report/page.html", str(tmp_path))
    assert Path(page).read_text() == "a page"
    assert [each.info.status for each in removal.all_runs(store) if "killed" not in each.data.tags].count(
        "RUNNING"
    ) == 0
    assert "retrain/0123" in git(new, "branch") and (new / "mlruns/retraining/k/outcome.json").is_file()
    with pytest.raises(ConfigError, match="there is a store already"):
        bring(new, depot)
    assert verify(new, new, "p", [depot]).faults == []


def test_rot_in_the_cache_is_left_out_of_the_backup_and_named(history: History, tmp_path: Path) -> None:
    cache = history.root / ".dvc/cache"
    md5 = next(md5 for md5 in sorted(objects(cache)) if not md5.endswith(".dir"))
    victim = dvccache.object_path(cache, md5)
    rot(victim)

    with pytest.raises(DataError, match=str(victim)):
        save(history, tmp_path / "depot")
    told = Depot(tmp_path / "depot").read()[1]
    seen = verify(history.root, history.root, "p", remove=True)

    assert f"cache/{md5}" not in told["files"] and len(told["damaged"]) == 1 and len(told["files"]) > 10
    assert [line for line in seen.faults if "removed" in line and str(victim) in line] == seen.faults != []
    assert not victim.exists() and verify(history.root, history.root, "p").faults == []


def test_a_damaged_backup_restores_nothing(history: History, tmp_path: Path) -> None:
    depot = Depot(tmp_path / "depot")
    save(history, depot.folder)
    name, entry = next(item for item in depot.read()[1]["files"].items() if item[0].startswith("mlruns/artifacts/"))
    rot(depot.object(entry["sha256"]))
    new = clone(history, tmp_path / "clone")

    with pytest.raises(DataError, match=f"{name} is damaged"):
        bring(new, depot.folder)

    assert not list((new / "mlruns").iterdir())
    assert depot.faults() == [f"{depot.object(entry['sha256'])}: damaged"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [3, *(pytest.param(moment, marks=pytest.mark.long) for moment in (1, 2))])
def test_a_restore_that_was_killed_begins_again(
    moment: int, history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot, new, calls = tmp_path / "depot", clone(history, tmp_path / "clone"), []
    save(history, depot)
    replace = os.replace

    def killed(source: Path, target: Path) -> None:
        if Path(target).parent.name == "mlruns":
            calls.append(target)
            if len(calls) == moment:
                raise Killed
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(restoring.os, "replace", killed)
        with pytest.raises(Killed):
            bring(new, depot)
    assert not (new / "mlruns/mlflow.db").exists(), "the database comes last"

    assert bring(new, depot).models == {"writer/1 (champion)": history.digests["writer", "1"]}


def test_a_backup_that_was_killed_is_none_and_old_ones_can_be_forgotten(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depot = Depot(tmp_path / "depot")
    save(history, depot.folder)
    with monkeypatch.context() as patch:

        def killed(*words: object) -> None:
            raise Killed

        patch.setattr(Depot, "publish", killed)
        with pytest.raises(Killed):
            save(history, depot.folder)
    assert len(depot.snapshots()) == 1
    history.run("writer", 0)
    save(history, depot.folder)

    save(history, depot.folder, keep=1)

    (left,) = depot.snapshots()
    named = {entry["sha256"] for entry in read_json(left)["files"].values()}
    assert {path.name for path in (depot.folder / "objects").glob("??/*")} == named
    assert bring(clone(history, tmp_path / "clone"), depot.folder).snapshot == left.stem


def test_a_folder_of_something_else_is_not_written_to(history: History, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.png").write_bytes(b"meow")

    with pytest.raises(ConfigError, match="no folder of backups"):
        save(history, tmp_path / "photos")
    Depot(tmp_path / "other").open_for("q")
    with pytest.raises(ConfigError, match="backups of project 'q', not of 'p'"):
        save(history, tmp_path / "other")
