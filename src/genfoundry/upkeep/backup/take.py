"""`genfoundry backup`: copy runs, registry, events, gate sets, journals, git and DVC objects into one folder."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from genfoundry.core.clock import Clock, stamp
from genfoundry.core.errors import DataError, DiskError, InfrastructureError, error_line
from genfoundry.core.io import FORMAT
from genfoundry.state.checkout import Git
from genfoundry.state.events import append_event
from genfoundry.tracking.store import embedded_uri, open_store, remedy, store_uri
from genfoundry.upkeep import dvccache, protection
from genfoundry.upkeep.backup.depot import Depot, free_bytes
from genfoundry.upkeep.options import Keep

DATABASE, BUNDLE = "mlruns/mlflow.db", "git.bundle"

LEFT_OUT = (
    "mlruns/mlflow.db",  # copied by sqlite itself
    "mlruns/retraining/worktrees",
    "mlruns/retraining/open.json",
    "mlruns/retraining/heartbeat.json",
    "mlruns/gate/work",
    "mlruns/gate/models",
    "mlruns/README.md",
)
"""Left out of backups: specific to this machine and moment, or rebuilt from the rest."""


@dataclass
class Backup:
    """Report of a backup."""

    snapshot: Path
    files: int = 0
    bytes: int = 0
    new: int = 0
    """Files whose bytes were not there before."""
    notes: list[str] = field(default_factory=list)


def backup(
    root: Path, state: Path, project: str, target: Path, clock: Clock, whole: bool = False, keep: int = 0
) -> Backup:
    """Write a backup; who calls holds the project's lock.

    Args:
        root: Checkout.
        state: State root.
        project: Name of the project.
        target: Folder of backups; made if need be.
        clock: Names the backup.
        whole: All objects of DVC's cache, in place of those that something leads to.
        keep: Backups that stay, this one included; 0: all.

    Raises:
        DataError: An object of DVC's cache is damaged; the backup holds all the others.
        DiskError: No room.
    """
    depot = Depot(target.resolve())
    depot.open_for(project)
    before = depot.read()[1] if depot.snapshots() else {"files": {}, "refs": ""}
    files: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    taker = _Taker(depot, before["files"], files)
    # The database first: what it names is there already, and nothing goes while the lock is held.
    texts = _registry_recipes(root, state, project, clock.now(), notes)
    if (state / DATABASE).is_file():
        _database(state / DATABASE, taker)
    for name, path in _state_files(state):
        taker.take(name, path)
    refs = _bundle(root, before, taker)
    faults = _objects(root, texts, whole, taker)
    facts = {
        "format": FORMAT,
        "project": project,
        "at": stamp(clock.now()),
        "head": Git(root)("rev-parse", "HEAD", check=False),
        "refs": refs,
        "damaged": faults,
        "files": files,
    }
    done = Backup(depot.publish(clock.now(), facts), len(files), sum(each["bytes"] for each in files.values()))
    done.new, done.notes = taker.new, notes
    if keep:
        depot.prune(keep)
    append_event(state, "backup", clock.now(), files=done.files, bytes=done.bytes, damaged=len(faults))
    if faults:
        raise DataError(
            "\n".join(f"DVC's cache: {fault}" for fault in faults)
            + f"\nThe backup {done.snapshot.stem} holds everything else; genfoundry verify says how to fix them"
        )
    return done


class _Taker:
    """Takes files into a depot, those that did not change since the last backup without reading them."""

    def __init__(self, depot: Depot, before: dict[str, Any], files: dict[str, Any]) -> None:
        self.depot, self.before, self.files, self.new = depot, before, files, 0

    def take(self, name: str, path: Path, md5: str = "") -> None:
        try:
            facts = path.stat()
        except FileNotFoundError:  # a run that was just deleted by hand
            return
        old = self.before.get(name)
        same = old and old["bytes"] == facts.st_size and old["mtime_ns"] == facts.st_mtime_ns
        if same and self.depot.object(old["sha256"]).is_file():
            self.files[name] = old
            return
        if facts.st_size > free_bytes(self.depot.folder):
            raise DiskError(f"{self.depot.folder}: no room for {name} ({facts.st_size} bytes); free some, run again")
        copied = self.depot.put(path, md5)
        self.new += 1
        self.files[name] = {"sha256": copied.sha256, "bytes": copied.bytes, "mtime_ns": facts.st_mtime_ns}


def _registry_recipes(root: Path, state: Path, project: str, now: datetime, notes: list[str]) -> list[str]:
    """Texts that lead to the DVC objects behind the models that serve."""
    uri = store_uri(state)
    if not (state / DATABASE).is_file() and uri.startswith("sqlite:"):
        notes.append("there is no MLflow store yet")
        return []
    store = open_store(state, project)
    registry = protection.read_registry(store, root, state, Keep(), now)
    if uri != embedded_uri(state):
        notes.append("the MLflow store is a server's or another database: its owner backs it up; all else is here")
    recipes = protection.recipes(registry)
    notes += [f"{name}: its run has no recipe, so its DVC objects are here only as far as git leads to them"
              for name, recipe in recipes.items() if not recipe]  # fmt: skip
    return [text for recipe in recipes.values() for text in recipe.values()]


def _database(path: Path, taker: _Taker) -> None:
    """sqlite's own copy: whole and of one moment, whoever writes meanwhile."""
    copy = taker.depot.folder / f".mlflow.{os.getpid()}.partial"
    copy.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("pragma journal_mode=delete")
        taker.take(DATABASE, copy)
    except sqlite3.DatabaseError as error:
        raise InfrastructureError(f"{path}: sqlite can't copy it ({error}); {remedy(str(path), str(error))}") from error
    finally:
        copy.unlink(missing_ok=True)


def _state_files(state: Path) -> Iterator[tuple[str, Path]]:
    """Files under ``mlruns/`` that make up the state, by their path below the state root."""
    for parent, folders, names in os.walk(state / "mlruns"):
        below = Path(parent).relative_to(state)
        folders[:] = sorted(
            name for name in folders if (below / name).as_posix() not in LEFT_OUT and not name.endswith(".partial")
        )
        for name in sorted(names):
            path = (below / name).as_posix()
            passing = name.endswith((".lock", ".partial", "-wal", "-shm", "-journal")) or name == "lock"
            if path not in LEFT_OUT and not passing:
                yield path, Path(parent) / name


def _bundle(root: Path, before: dict[str, Any], taker: _Taker) -> str:
    """All of git's refs and what they lead to, as one file; returns the refs."""
    refs = Git(root)("for-each-ref", "--format=%(objectname) %(refname)")
    if refs == before["refs"] and BUNDLE in before["files"]:
        taker.files[BUNDLE] = before["files"][BUNDLE]
        return refs
    bundle = taker.depot.folder / f".git.{os.getpid()}.partial"
    try:
        done = subprocess.run(
            ["git", "-C", root, "bundle", "create", "--quiet", bundle, "--all", "HEAD"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InfrastructureError(f"git bundle: {error_line(done.stderr.splitlines())}")
        taker.take(BUNDLE, bundle)
    finally:
        bundle.unlink(missing_ok=True)
    return refs


def _objects(root: Path, texts: Iterable[str], whole: bool, taker: _Taker) -> list[str]:
    """Take objects of DVC's cache; returns those whose bytes are not what they are called."""
    cache, faults = dvccache.cache_folder(root), []
    # A damaged list of a folder names no files; it is said below, and all else is taken.
    wanted = None if whole else dvccache.needed(cache, [*dvccache.pointers(root), *texts], strict=False)
    for md5, path in dvccache.objects(cache):
        if wanted is None or md5 in wanted:
            try:
                taker.take(f"cache/{md5}", path, md5[:32])
            except DataError as error:
                faults.append(str(error))
    return faults
