"""Encode the records in use shard by shard, in any process, with a cache of earlier results.

The cache key is the shard and the tokenizer. Which of them are in use may change with
the rest of the data; then only those are encoded that no earlier run had in use.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import SPLITS
from genfoundry.core.io import file_digest, read_table, shards
from genfoundry.data.shards import executor
from genfoundry.data.shards.memo import Memo, fetch, keep
from genfoundry.modalities.common.streams import Documents, Encoded
from genfoundry.modalities.common.tokens import FILE

if TYPE_CHECKING:
    import pandas as pd

ROWS = "rows.npy"
"""File beside the arrays of a shard's ``Encoded``: places of its records in the shard."""

Encoder = Callable[[Sequence[str], Path], Encoded]


class Task(NamedTuple):
    """Records of one shard to encode."""

    shard: Path
    rows: np.ndarray
    """int64: their places in the shard, ascending."""
    encode: Encoder
    folder: Path
    """Holds ``tokenizer.json``."""
    target: Path
    """Folder for the result: one file for each array of ``Encoded``, and ``ROWS``."""
    memo: Memo


class Codes:
    """The clean records in use, by shard."""

    def __init__(
        self,
        clean: Path,
        work: Path,
        index: "pd.DataFrame",
        pinned: bytes | None,
        memo: Memo,
        execution: Execution,
    ) -> None:
        """Locate each record in use.

        Args:
            clean: Folder of clean records.
            work: New folder for files in between.
            index: Records in use: ``id``, ``split``, ``row`` in it and, for documents, ``bytes``.
            pinned: A tokenizer that is to be kept.
            memo: Where results of shards are kept.
            execution: Who works on the shards.
        """
        import pandas as pd

        self.work, self.pinned, self.memo, self.execution = work, pinned, memo, execution
        self.shards = shards(clean)
        names, split, row = pd.Index(index["id"]), index["split"].to_numpy(object), index["row"].to_numpy(np.int64)
        self.sizes = {}
        if "bytes" in index:
            self.sizes = {name: index["bytes"].to_numpy(np.int64)[split == name] for name in SPLITS}
        self.places: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        """For each shard: places of the records in use, their splits, their rows."""
        for shard in self.shards:
            found = names.get_indexer(read_table(shard, ["id"])["id"])
            mine = np.flatnonzero(found >= 0)
            self.places.append((mine, split[found[mine]], row[found[mine]]))

    def __call__(self, split: str) -> "Iterator[pd.DataFrame]":
        """Tables of a split, with column ``row``."""
        for shard, (place, splits, rows) in zip(self.shards, self.places, strict=True):
            mine = splits == split
            if mine.any():
                table = read_table(shard).iloc[place[mine]].drop(columns="split").reset_index(drop=True)
                table["row"] = rows[mine]
                yield table

    def each(self, encode: Encoder, folder: Path) -> "Pieces":
        """All records, encoded shard by shard."""
        tasks = [
            Task(shard, place, encode, folder, self.work / shard.stem, self.memo)
            for shard, (place, _, _) in zip(self.shards, self.places, strict=True)
        ]
        size = sum(shard.stat().st_size for shard in self.shards)
        return Pieces(list(executor.run(encode_shard, tasks, self.execution, size)), self.places)


class Pieces:
    """Encoded records in files: where each one lies is held, its tokens are not."""

    def __init__(self, folders: list[Path], places: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        counts = {name: sum(int((splits == name).sum()) for _, splits, _ in places) for name in SPLITS}
        self.splits = {name: Documents(count) for name, count in counts.items()}
        for folder, (place, splits, rows) in zip(folders, places, strict=True):
            known, ptr, sizes = (np.load(folder / name, allow_pickle=False) for name in (ROWS, "ptr.npy", "sizes.npy"))
            number = np.searchsorted(known, place)
            for name, split in self.splits.items():
                mine = splits == name
                if mine.any():
                    tokens = partial(np.load, folder / "tokens.npy", mmap_mode="r", allow_pickle=False)
                    split.add(rows[mine], ptr[number[mine]], ptr[number[mine] + 1], sizes[:, number[mine]], tokens)

    def of(self, split: str) -> Documents:
        """Those of a split."""
        return self.splits[split]


def encode_shard(task: Task) -> Path:
    """Encode the wanted records of one shard; the folder with the result, which may hold more of them."""
    key = {
        "encode": f"{task.encode.__module__}.{task.encode.__name__}",
        "shard": file_digest(task.shard),
        "tokenizer": file_digest(task.folder / FILE),
    }
    known, before = np.empty(0, np.int64), None
    if fetch(task.memo, key, task.target):
        known, before = np.load(task.target / ROWS, allow_pickle=False), _load(task.target)
        if np.isin(task.rows, known).all():
            return task.target
    new = np.setdiff1d(task.rows, known)
    found = task.encode(list(read_table(task.shard, ["content"])["content"].iloc[new]), task.folder)
    rows = new
    if before is not None:
        rows = np.concatenate([known, new])
        order = np.argsort(rows)
        rows, found = rows[order], before.join(found).take(order)
        for file in task.target.iterdir():
            file.unlink()  # a hard link into the cache: not to be written through
    task.target.mkdir(parents=True, exist_ok=True)
    np.save(task.target / ROWS, rows, allow_pickle=False)
    for name, values in found._asdict().items():
        np.save(task.target / f"{name}.npy", values, allow_pickle=False)
    keep(task.memo, key, task.target)
    return task.target


def _load(folder: Path) -> Encoded:
    return Encoded(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in Encoded._fields))
