"""`genfoundry restore`: restore a backup on a new machine, at any path, every byte checked against its manifest."""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfoundry.core.clock import Clock
from genfoundry.core.errors import ConfigError, DiskError, error_line
from genfoundry.state.checkout import Git
from genfoundry.state.events import append_event
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.removal import all_runs
from genfoundry.tracking.runs import fail
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import Registered
from genfoundry.upkeep import dvccache
from genfoundry.upkeep.backup.depot import Depot, free_bytes
from genfoundry.upkeep.backup.take import BUNDLE, DATABASE

REFS = ("+refs/heads/retrain/*:refs/heads/retrain/*", "+refs/tags/*:refs/tags/*", "+refs/heads/*:refs/remotes/backup/*")
"""Branches of retrains and tags come back under their names, all branches also as ``backup/<name>``; none of the
clone's own branches moves.
"""


@dataclass
class Restored:
    """Report of a restore."""

    snapshot: str
    files: int = 0
    bytes: int = 0
    models: dict[str, str] = field(default_factory=dict)
    """Digest of each model with an alias, fetched and verified, by ``name/3 (champion)``."""
    notes: list[str] = field(default_factory=list)


def restore(root: Path, state: Path, project: str, source: Path, clock: Clock, name: str = "") -> Restored:
    """Bring a backup into a checkout that has no state yet; a rerun after a kill begins again.

    Args:
        root: Checkout, such as a fresh clone.
        state: State root.
        project: Name of the project.
        source: Folder of backups.
        clock: For the event.
        name: Which backup; empty: the newest.

    Raises:
        ConfigError: There is a state already, or the backup is of another project.
        DataError: The backup is damaged; nothing was changed but DVC's cache, which only gained whole objects.
        DiskError: No room.
    """
    depot = Depot(source.resolve())
    name, facts = depot.read(name)
    if facts["project"] != project:
        raise ConfigError(f"{source}: a backup of project {facts['project']!r}, this is {project!r}")
    if (state / DATABASE).exists():
        raise ConfigError(f"{state / DATABASE}: there is a store already; move mlruns/ away, then run again")
    files = facts["files"]
    done = Restored(name, len(files), sum(entry["bytes"] for entry in files.values()))
    if done.bytes * 1.05 > free_bytes(state):
        raise DiskError(f"{state}: needs {done.bytes / 2**30:.1f} GiB; free some space, run again")
    _cache(root, depot, files)
    _refs(root, depot, files, done)
    _state(state, depot, files)
    if DATABASE in files:
        store = open_store(state, project)
        for run in all_runs(store, "attributes.status = 'RUNNING'"):
            fail(store, run.info.run_id, "its machine is gone: this store was restored from a backup")
        done.models = _verified(store)
    head = Git(root)("rev-parse", "HEAD", check=False)
    if facts["head"] and head != facts["head"]:
        done.notes.append(f"made at commit {facts['head'][:12]}, here is {head[:12]}; git log backup/...")
    done.notes += [f"was damaged when the backup was made: {fault}" for fault in facts["damaged"]]
    append_event(state, "restored_backup", clock.now(), snapshot=name, files=done.files, bytes=done.bytes)
    return done


def _cache(root: Path, depot: Depot, files: dict[str, Any]) -> None:
    cache = dvccache.cache_folder(root)
    for name, entry in files.items():
        if not name.startswith("cache/"):
            continue
        target = dvccache.object_path(cache, name.removeprefix("cache/"))
        if target.is_file() and target.stat().st_size == entry["bytes"] and not dvccache.damaged(name[6:], target):
            continue
        incoming = target.with_name(f".{target.name}.{os.getpid()}.partial")
        depot.take(name, entry, incoming)
        incoming.chmod(0o444)  # as DVC leaves them: so it takes them as they are
        os.replace(incoming, target)


def _refs(root: Path, depot: Depot, files: dict[str, Any], done: Restored) -> None:
    if BUNDLE not in files:
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / BUNDLE
        depot.take(BUNDLE, files[BUNDLE], bundle)
        for refs in REFS:
            fetched = subprocess.run(
                ["git", "-C", root, "fetch", "--quiet", "--no-tags", bundle, refs],
                capture_output=True,
                text=True,
                check=False,
            )
            if fetched.returncode:
                done.notes.append(f"git fetch of {refs}: {error_line(fetched.stderr.splitlines())}")


def _state(state: Path, depot: Depot, files: dict[str, Any]) -> None:
    """Move restored files into place, the database last: without it the restore is incomplete."""
    mlruns = state / "mlruns"
    mlruns.mkdir(parents=True, exist_ok=True)
    incoming = mlruns / f".restore.{os.getpid()}.partial"
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        for name, entry in files.items():
            if name.startswith("mlruns/"):
                depot.take(name, entry, incoming / name)
        places = sorted((incoming / "mlruns").iterdir(), key=lambda path: path.name == Path(DATABASE).name)
        for path in places:
            _merge(path, mlruns / path.name)
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _merge(source: Path, target: Path) -> None:
    """Move a file or folder; into a folder that is there, entry by entry: the lock that is held lies in one."""
    if source.is_dir() and target.is_dir():
        for path in sorted(source.iterdir()):
            _merge(path, target / path.name)
    else:
        os.replace(source, target)


def _verified(store: Store) -> dict[str, str]:
    """Fetch every model that an alias means, which compares its bytes with its digest."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in store.client.search_registered_models(max_results=1000):
            for alias in sorted(Registered(store, model.name).aliases()):
                fetched = fetch_model(store, model.name, alias, Path(folder))
                found[f"{model.name}/{fetched.version} ({alias})"] = fetched.digest
    return found
