"""Results of shards that were worked on before, under the state root: no output, no dependency, safe to delete.

A result is found by what it was made of (the shard's bytes, the settings, the code, the lock), never by time or name,
and its files are hashed before they are used again. So a memo moves time, never a byte.
"""

import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from genfoundry.dag import lock_digest
from genfoundry.errors import DataError
from genfoundry.io import MANIFEST, digest_of, publish_folder, read_json, tree_digest, verify_folder
from genfoundry.paths import Paths

CODE = ("data", "modalities", "io.py", "specs.py", "settings.py", "pages.py")
"""What a shard's result can rest on, below src/genfoundry: more than needed, so that nothing is missed."""


class Memo(NamedTuple):
    """Where results are kept, and what all of them rest on."""

    folder: Path
    limit: float
    """Most bytes to keep; 0 keeps nothing."""
    basis: str
    """Digest of the code and of what is installed."""


def memo_of(paths: Paths, gigabytes: float) -> Memo:
    """The memo of a workspace."""
    return Memo(paths.state / "cache/shards", gigabytes * 2**30, _basis(paths.root))


@lru_cache(maxsize=4)
def _basis(root: Path) -> str:
    package = Path(__file__).parents[1]
    return digest_of({"lock": lock_digest(root), **{name: tree_digest(package / name) for name in CODE}})


def remembered(memo: Memo, key: Any, target: Path, make: Callable[[Path], None]) -> bool:
    """Fill the new folder ``target`` with the result of ``make``, or with an equal one that is kept; True if it was.

    Args:
        memo: Where to look, and to keep.
        key: What the result is made of, as plain values that JSON can hold; digests in place of contents.
        target: Folder for the files, on the memo's file system if links are to be made.
        make: Writes the files into a folder.
    """
    held = memo.folder / digest_of({"basis": memo.basis, "key": key})
    if memo.limit and _fetch(held, target):
        return True
    target.mkdir(parents=True)
    make(target)
    if memo.limit:
        with publish_folder(held) as folder:
            for file in target.iterdir():
                _link(file, folder / file.name)
    return False


def _fetch(held: Path, target: Path) -> bool:
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


def _link(source: Path, target: Path) -> None:
    """One set of bytes under two names, or a copy where the file system can't."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def prune(memo: Memo) -> None:
    """Forget what was used longest ago, until the rest is within the limit."""
    found = []
    for held in memo.folder.iterdir() if memo.folder.is_dir() else ():
        try:
            files = read_json(held / MANIFEST)["files"]
            found.append((held.stat().st_mtime, held, sum(file["bytes"] for file in files.values())))
        except (DataError, FileNotFoundError):
            continue  # being written, or just forgotten by another process
    total = sum(size for _, _, size in found)
    for _, held, size in sorted(found):
        if total <= memo.limit:
            return
        shutil.rmtree(held, ignore_errors=True)
        total -= size
