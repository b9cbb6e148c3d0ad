"""Retention of files under the state root and in the checkout.

A folder is renamed before it is emptied, so a folder under its own name is always whole.
"""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from genfoundry.core.errors import BusyError
from genfoundry.core.processes import alive
from genfoundry.state.checkout import Git
from genfoundry.state.journal import Journal, home, open_attempt, worktrees
from genfoundry.tracking.recipe import locked_model
from genfoundry.upkeep import dvccache
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.protection import workspaces

Planned = tuple[str, str, int, str, Callable[[], Any]]

PARTIAL = re.compile(r"^\..+\.(\d+)\.partial$")
"""What `io.publish_*` and `remove_folder` write beside their target, with the process that does."""

LEFTOVER_S = 3600.0
"""A leftover may belong to a process of another machine on the same disk: it must also be as old as this."""


def remove_folder(folder: Path) -> None:
    """Delete a folder so that a kill leaves it whole or out of the way, never half emptied under its name."""
    aside = folder.parent / f".{folder.name}.{os.getpid()}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    os.replace(folder, aside)
    shutil.rmtree(aside)


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below a folder; what is linked to the cache counts too."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())


def _touched(folder: Path) -> float:
    """Latest change of anything below a folder, in seconds since the epoch."""
    return max((path.lstat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)


def plan_files(
    root: Path, state: Path, keep: Keep, now: datetime, models: Collection[str] | None, data_cache: float
) -> Iterator[Planned]:
    """Plan the removal of checkpoints, worktrees, journals with branches, cached shards, the gate's cache, leftovers.

    Args:
        root: Checkout.
        state: State root.
        keep: The policy.
        now: Ages are counted from it.
        models: DVC's md5 of the models that serve: a branch that holds one stays; None: not known, all branches stay.
        data_cache: GB of cached shards that may stay.
    """
    yield from _checkpoints(state, keep, now)
    copies = list(_worktrees(root, state, keep, now))
    yield from copies
    yield from _journals(root, state, keep, now, models, {what for _, what, _, _, _ in copies})
    yield from _shards(state, data_cache)
    yield from _gate(state, keep, now)
    yield from _leftovers(root, state, now)


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and path.name[0] != ".") if place.is_dir() else []


def _checkpoints(state: Path, keep: Keep, now: datetime) -> Iterator[Planned]:
    for folder in _folders(state / "checkpoints"):
        days = (now.timestamp() - _touched(folder)) / 86_400
        if days > keep.checkpoints_days:
            why = f"nobody went on with it for {days:.0f} days"
            yield "checkpoints", folder.name, folder_bytes(folder), why, partial(remove_folder, folder)


def _ended(state: Path, key: str) -> str:
    """When the last attempt of a retrain ended; empty if it did not."""
    return str((Journal(home(state) / key).outcome() or {}).get("at", ""))


def _dead_days(state: Path, key: str, now: datetime) -> float:
    """Days since a retrain began that was killed and that nobody went on with; 0 if it ended, or is no retrain."""
    journal = Journal(home(state) / key)
    if _ended(state, key) or not journal.path.is_file():
        return 0.0
    began = journal.began()
    if began is None:
        return (now.timestamp() - journal.path.stat().st_mtime) / 86_400
    return (now - began).total_seconds() / 86_400


def _open_key(state: Path) -> str:
    return str((open_attempt(state) or {}).get("key", ""))


def _worktrees(root: Path, state: Path, keep: Keep, now: datetime) -> Iterator[Planned]:
    folders = [folder for folder in _folders(worktrees(state)) if folder.name != _open_key(state)]
    ended = [folder for folder in folders if _ended(state, folder.name)]
    ended.sort(key=lambda folder: (_ended(state, folder.name), folder.name), reverse=True)
    for place, folder in enumerate(ended, 1):
        if place > keep.worktrees:
            why = f"more than {keep.worktrees} newer ones"
            yield "worktree", folder.name, folder_bytes(folder), why, partial(_remove_worktree, root, folder)
    for folder in folders:
        days = (now.timestamp() - folder.stat().st_mtime) / 86_400
        if not _ended(state, folder.name) and days > keep.checkpoints_days:
            why = f"its retrain never ended, {days:.0f} days old"
            yield "worktree", folder.name, folder_bytes(folder), why, partial(_remove_worktree, root, folder)


def _remove_worktree(root: Path, folder: Path) -> None:
    remove_folder(folder)
    # Of this one alone, never `prune`: the user's own worktrees may lie on a disk that is not plugged in.
    Git(root)("worktree", "remove", "--force", "--force", str(folder), check=False)


def _journals(
    root: Path, state: Path, keep: Keep, now: datetime, models: Collection[str] | None, going: Collection[str]
) -> Iterator[Planned]:
    """Journals of ended retrains, each with its branch; one whose worktree stays, stays."""
    standing = {folder.name for folder in _folders(worktrees(state))} - set(going)
    ended = [
        (_ended(state, folder.name), folder.name, folder)
        for folder in _folders(home(state))
        if folder.name not in ("worktrees", _open_key(state)) and _ended(state, folder.name)
    ]
    for folder in _folders(home(state)):
        days = _dead_days(state, folder.name, now)
        if days > keep.checkpoints_days and folder.name not in (*standing, _open_key(state)):
            why = f"its retrain never ended, {days:.0f} days old"
            yield "journal", folder.name, folder_bytes(folder), why, partial(remove_folder, folder)
    for place, (_, key, folder) in enumerate(sorted(ended, reverse=True), 1):
        if place <= keep.retrains or key in standing:
            continue
        branch = f"retrain/{key}"
        lock = Git(root)("show", f"refs/heads/{branch}:./dvc.lock", check=False)
        if lock and (models is None or _holds(lock, models)):
            continue
        why = f"more than {keep.retrains} newer ones"
        if lock:
            yield "branch", branch, 0, why, partial(Git(root), "branch", "--delete", "--force", branch, check=False)
        yield "journal", key, folder_bytes(folder), why, partial(remove_folder, folder)


def _holds(lock: str, models: Collection[str]) -> bool:
    """Whether a dvc.lock names one of these models."""
    keys = re.findall(r"^  train@([a-z0-9][a-z0-9_-]*):$", lock, re.M)
    return any(locked_model(lock, key) in models for key in keys)


def _shards(state: Path, gigabytes: float) -> Iterator[Planned]:
    found = [(folder.stat().st_mtime, folder, folder_bytes(folder)) for folder in _folders(state / "cache/shards")]
    total = sum(size for _, _, size in found)
    for _, folder, size in sorted(found):
        if total <= gigabytes * 2**30:
            return
        yield "shards", folder.name[:12], size, f"more than {gigabytes} GB, least used", partial(remove_folder, folder)
        total -= size


def _gate(state: Path, keep: Keep, now: datetime) -> Iterator[Planned]:
    """Caches that can be fetched or computed again."""
    for part in ("work", "models"):
        for folder in _folders(state / "mlruns/gate" / part):
            days = (now.timestamp() - _touched(folder)) / 86_400
            if days > keep.checkpoints_days:
                what = f"{part}/{folder.name[:12]}"
                yield "gate", what, folder_bytes(folder), f"{days:.0f} days old", partial(remove_folder, folder)


def _leftovers(root: Path, state: Path, now: datetime) -> Iterator[Planned]:
    """Partial files of killed processes."""
    places = [root / "artifacts", root / "reports", state / "checkpoints", state / "cache", state / "mlruns", root]
    for path in sorted({path for place in places for path in _partials(place, deep=place != root)}):
        match = PARTIAL.match(path.name)
        old = now.timestamp() - path.lstat().st_mtime > LEFTOVER_S
        if match and old and not alive(int(match[1])):
            size = folder_bytes(path) if path.is_dir() else path.lstat().st_size
            shown = path.relative_to(root if path.is_relative_to(root) else state).as_posix()
            act = partial(shutil.rmtree, path) if path.is_dir() else partial(path.unlink, missing_ok=True)
            yield "leftover", shown, size, f"process {match[1]} died while writing it", act


def _partials(place: Path, deep: bool) -> Iterator[Path]:
    for parent, names, file_names in os.walk(place):
        if Path(parent).name == "worktrees":
            deep_here: list[str] = []  # worktrees of retrains have an upkeep of their own; only what lies beside them
        else:
            deep_here = [name for name in names if not name.endswith(".partial")] if deep else []
        for name in (*names, *file_names):
            if name.endswith(".partial"):
                yield Path(parent) / name
        names[:] = deep_here


def plan_cache(root: Path, keep: Keep, now: datetime, recipes: list[str]) -> Iterator[Planned]:
    """Unreferenced objects of DVC's cache, if it is larger than the limit.

    Raises:
        BusyError: DVC is at work, or others use that cache too.
    """
    cache = dvccache.cache_folder(root)
    total = dvccache.size(cache)
    if total <= keep.cache_gib * 2**30:
        return
    if not any(cache.is_relative_to(place) for place in workspaces(root)):
        raise BusyError(f"DVC's cache {cache}: not collected, as it lies outside the project and others may use it")
    with dvccache.quiet(root):
        wanted = dvccache.needed(cache, [*dvccache.pointers(root), *recipes])
        gone = dvccache.unneeded(cache, wanted, now.timestamp())
        size = sum(file.stat().st_size for _, file in gone)

    def act() -> None:
        with dvccache.quiet(root):
            # Checked again under the lock: they may be referenced since.
            still = dvccache.needed(cache, [*dvccache.pointers(root), *recipes])
            for md5, file in gone:
                if md5 not in still:
                    file.unlink(missing_ok=True)

    if gone:
        why = f"{total / 2**30:.2f} GiB in all, more than {keep.cache_gib:g}; nothing leads to them"
        yield "cache", f"{len(gone)} objects of {cache.name}", size, why, act
