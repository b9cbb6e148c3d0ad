"""Cache of shard results under the state root: no output, no dependency, safe to delete.

The key is a digest of the inputs (the shard's bytes, the settings, the lock, the modules that make it), never time or
name, and files are hashed before reuse. The cache changes run time only; outputs are byte-identical.

Where an output holds the same bytes, both are hard links to one file (as DVC's cache may be), so that a cached result
takes no space until the output changes.
"""

import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from genfoundry.config.code import Sources, walk
from genfoundry.config.dag import lock_digest
from genfoundry.core.errors import DataError
from genfoundry.core.io import MANIFEST, digest_of, publish_folder, verify_folder
from genfoundry.core.paths import Paths


class Memo(NamedTuple):
    """Folder, size limit and code digest of a cache."""

    folder: Path
    limit: float
    """Most bytes to keep, hard links to outputs not counted; 0 keeps nothing."""
    basis: str
    """Digest of the code and of what is installed."""


def memo_of(paths: Paths, gigabytes: float, *code: str) -> Memo:
    """The cache of a workspace, for results that the named modules compute."""
    return Memo(paths.state / "cache/shards", gigabytes * 2**30, _basis(paths.root, code))


@lru_cache(maxsize=16)
def _basis(root: Path, code: tuple[str, ...]) -> str:
    found = walk(Sources(Path(__file__).parents[4]), code)
    return digest_of({"lock": lock_digest(root), "code": {name: module.digest for name, module in found.items()}})


def remembered(memo: Memo, key: Any, target: Path, make: Callable[[Path], None]) -> bool:
    """Fill the new folder ``target`` from the cache, else by ``make``; True if it was cached.

    Args:
        memo: The cache.
        key: What the result is made of, as plain values that JSON can hold; digests in place of contents.
        target: Folder for the files, on the cache's file system if links are to be made.
        make: Writes the files into a folder.
    """
    if fetch(memo, key, target):
        return True
    target.mkdir(parents=True)
    make(target)
    keep(memo, key, target)
    return False


def fetch(memo: Memo, key: Any, target: Path) -> bool:
    """Fill the new folder ``target`` from the cache; False if the key is missing or its files are damaged."""
    held = _place(memo, key)
    if not memo.limit or not held.is_dir():
        return False
    try:
        verify_folder(held)
    except DataError:
        shutil.rmtree(held, ignore_errors=True)  # unfinished, or changed since
        return False
    target.mkdir(parents=True)
    for file in held.iterdir():
        if file.name != MANIFEST:
            _link(file, target / file.name)
    os.utime(held)
    return True


def keep(memo: Memo, key: Any, made: Path) -> None:
    """Store the files of a folder under a key, replacing an older entry."""
    if memo.limit:
        with publish_folder(_place(memo, key), durable=False) as folder:
            for file in made.iterdir():
                _link(file, folder / file.name)


def _place(memo: Memo, key: Any) -> Path:
    return memo.folder / digest_of({"basis": memo.basis, "key": key})


def _link(source: Path, target: Path) -> None:
    """Hard link, or a copy where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def prune(memo: Memo) -> None:
    """Remove least recently used entries until the rest is within the limit; hard-linked files don't count."""
    found = []
    for held in memo.folder.iterdir() if memo.folder.is_dir() else ():
        try:
            files = [file.stat() for file in held.iterdir()]
            found.append((held.stat().st_mtime, held, sum(file.st_size for file in files if file.st_nlink == 1)))
        except FileNotFoundError:
            continue  # just removed by another process
    total = sum(size for _, _, size in found)
    for _, held, size in sorted(found):
        if total <= memo.limit:
            return
        shutil.rmtree(held, ignore_errors=True)
        total -= size
