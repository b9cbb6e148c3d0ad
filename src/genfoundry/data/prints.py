"""Fingerprints of the records in use, gathered so that memory holds evaluation, not training.

A set of training matters to evaluation only by what both share. So of training only the shared elements are kept,
beside the true sizes; every count of common elements, and so every share and Jaccard index, stays exact.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.data import executor
from genfoundry.data.keepers import Fingerprints, count, join, take
from genfoundry.io import read_table
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Execution
from genfoundry.specs import Sets, Vectors

if TYPE_CHECKING:
    import pandas as pd

MOST_BITS = 28
"""Largest table of seen low bits: 256 MB."""


class Task(NamedTuple):
    """One shard of clean records to fingerprint."""

    modality: str
    shard: Path
    config: Dedup
    target: Path
    """Folder for ``ids.npy`` and one file for each array of the fingerprints."""


class Gathered(NamedTuple):
    """Fingerprints of R records; rows number them in the order of evaluation, guards, training."""

    prints: Fingerprints
    """Complete for evaluation and guards; of training sets, what they share with those."""
    sizes: np.ndarray
    """int64 (R,): true number of elements of each; of vectors 0."""
    record: np.ndarray
    """int64 (R,): row in the table of records; of guards, row in their own table."""
    evaluation: np.ndarray
    """int64: rows of evaluation records."""
    guards: np.ndarray
    """int64: rows of records of external evaluation sets."""
    training: np.ndarray
    """int64: rows of training records."""


class Shared:
    """Tells which elements occur in a collection of sets."""

    def __init__(self, hashes: np.ndarray) -> None:
        self.kinds = np.unique(hashes)
        bits = min(MOST_BITS, max(10, int(8 * len(self.kinds)).bit_length()))
        self.mask = np.uint64((1 << bits) - 1)
        self.seen = np.zeros(1 << bits, bool)
        self.seen[self._low(self.kinds)] = True

    def _low(self, hashes: np.ndarray) -> np.ndarray:
        return (hashes & self.mask).astype(np.int64)

    def keep(self, sets: Sets) -> Sets:
        """The sets without the elements that do not occur in the collection."""
        maybe = np.flatnonzero(self.seen[self._low(sets.hashes)])
        if len(maybe):
            place = np.minimum(np.searchsorted(self.kinds, sets.hashes[maybe]), len(self.kinds) - 1)
            maybe = maybe[self.kinds[place] == sets.hashes[maybe]]
        owner = np.searchsorted(sets.ptr, maybe, "right") - 1
        counts = np.bincount(owner, minlength=len(sets.ptr) - 1)
        return Sets(sets.hashes[maybe], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def print_shard(task: Task) -> Path:
    """Fingerprint one shard; the folder with the result."""
    table = read_table(task.shard)
    found = importlib.import_module(task.modality).fingerprints(table, task.config)
    task.target.mkdir(parents=True)
    np.save(task.target / "ids.npy", table["id"].to_numpy(dtype=np.str_), allow_pickle=False)
    for name, values in found._asdict().items():
        np.save(task.target / f"{name}.npy", values, allow_pickle=False)
    return task.target


def gather(
    modality: ModuleType,
    config: Dedup,
    paths: DatasetPaths,
    records: "pd.DataFrame",
    guards: Fingerprints | None,
    work: Path,
    execution: Execution,
) -> Gathered | None:
    """Fingerprints of the records in use; None if there are none.

    Args:
        modality: Makes them.
        config: How.
        paths: Where the clean records lie.
        records: Those in use, with ``id`` and ``split``.
        guards: Fingerprints of external evaluation sets, if there are any.
        work: New folder for files in between.
        execution: Who works on the shards.
    """
    import pandas as pd

    shards = sorted(paths.clean.glob("part-*.parquet"))
    tasks = [Task(modality.__name__, shard, config, work / shard.stem) for shard in shards]
    done = list(executor.run(print_shard, tasks, execution, sum(shard.stat().st_size for shard in shards)))
    place = pd.Series(np.arange(len(records)), index=records["id"])
    training = (records["split"] == "train").to_numpy()
    rows, parts, sizes = [], [], []

    def add(row: np.ndarray, part: Fingerprints, size: np.ndarray) -> None:
        rows.append(row)
        parts.append(part)
        sizes.append(size)

    for row, part in _chosen(done, place, ~training):
        add(row, part, _sizes(part))
    evaluation = sum(map(len, rows))
    held = evaluation
    if guards is not None and count(guards):
        add(np.arange(count(guards)), guards, _sizes(guards))
        held += count(guards)
    shared = Shared(np.concatenate([part.hashes for part in parts])) if parts and isinstance(parts[0], Sets) else None
    for row, part in _chosen(done, place, training):
        size = _sizes(part)
        if isinstance(part, Sets):
            part = shared.keep(part) if shared else Sets(part.hashes[:0], np.zeros(len(size) + 1, np.int64))
        add(row, part, size)
    if not parts:
        return None
    record = np.concatenate(rows)
    number = np.arange(len(record))
    return Gathered(
        join(parts), np.concatenate(sizes), record, number[:evaluation], number[evaluation:held], number[held:]
    )


def _sizes(part: Fingerprints) -> np.ndarray:
    return np.diff(part.ptr) if isinstance(part, Sets) else np.zeros(len(part.vectors), np.int64)


def _chosen(done: list[Path], place: "pd.Series", wanted: np.ndarray) -> Iterator[tuple[np.ndarray, Fingerprints]]:
    """(rows in the table of records, fingerprints) of the wanted records of each shard."""
    for folder in done:
        row = place.reindex(np.load(folder / "ids.npy")).fillna(-1).to_numpy().astype(np.int64)
        mine = np.flatnonzero((row >= 0) & wanted[row])
        if len(mine):
            kind = Sets if (folder / "ptr.npy").exists() else Vectors
            prints = kind(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in kind._fields))
            yield row[mine], take(prints, mine)
