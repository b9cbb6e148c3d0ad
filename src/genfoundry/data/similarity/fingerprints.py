"""Fingerprints of the records in use, gathered so that memory holds evaluation, not training.

A set of training matters to evaluation only by what both share. So of training only the shared elements are kept,
beside the true sizes; every count of common elements, and so every share and Jaccard index, stays exact. Evaluation
may be taken in groups, each with its own share of training.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import Sets, Vectors
from genfoundry.core.io import count_records, read_all_records, read_table, shards
from genfoundry.data.shards import executor
from genfoundry.data.similarity.keepers import Fingerprints, count, join, take

if TYPE_CHECKING:
    import pandas as pd

MOST_BITS = 31
"""Largest table of seen bits: 256 MB."""


PTR = "ptr.npy"
"""File of a shard of sets, not of vectors."""

LENGTHS, SAMPLE, RECORD = "lengths.npy", "sample.arrow", "record.npy"
"""Files of a shard: the length of each record, records set apart, and the number of each record among those in use (-1:
none of them).
"""


class Task(NamedTuple):
    """One shard of clean records to fingerprint."""

    modality: str
    shard: Path
    config: Dedup
    target: Path
    """Folder for ``LENGTHS`` and one file for each array of the fingerprints."""
    sample: np.ndarray
    """int64: places of records to set apart."""


class Gathered(NamedTuple):
    """Fingerprints of R records; rows in the order evaluation, external sets, training."""

    prints: Fingerprints
    """Complete for evaluation and external sets; of training sets, what they share with those."""
    sizes: np.ndarray
    """int64 (R,): true number of elements of each; of vectors 0."""
    record: np.ndarray
    """int64 (R,): row in the table of records; of external sets, row in their own table."""
    evaluation: np.ndarray
    """int64: rows of evaluation records."""
    guards: np.ndarray
    """int64: rows of records of external evaluation sets."""
    training: np.ndarray
    """int64: rows of training records."""


class Shared:
    """Filter for elements that occur in a collection of sets."""

    def __init__(self, hashes: np.ndarray) -> None:
        from genfoundry.data.similarity import setkernel

        # Sorted by hand: numpy's own unique goes through a hash table, which takes four times as long (tried).
        ordered = np.sort(hashes)
        self.kinds = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
        self.bits = min(MOST_BITS, max(10, int(8 * len(self.kinds)).bit_length()))
        # Two tables, by different bits of a hash: both let an element pass by chance once in a hundred times.
        self.low, self.high = np.zeros(1 << self.bits - 3, np.uint8), np.zeros(1 << self.bits - 3, np.uint8)
        setkernel.mark(self.kinds, self.bits, self.low, self.high)

    def keep(self, sets: Sets) -> Sets:
        """The sets without the elements that do not occur in the collection."""
        from genfoundry.data.similarity import setkernel

        hashes, ptr = np.asarray(sets.hashes), np.asarray(sets.ptr)
        kept, counts = np.empty(len(hashes), np.uint64), np.zeros(len(ptr) - 1, np.int64)
        number = setkernel.common(hashes, ptr, self.kinds, self.bits, self.low, self.high, kept, counts)
        return Sets(kept[:number].copy(), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))


def print_shard(task: Task) -> Path:
    """Fingerprint one shard; the folder with the result."""
    table = read_table(task.shard)
    found = importlib.import_module(task.modality).fingerprints(table, task.config)
    task.target.mkdir(parents=True)
    np.save(task.target / LENGTHS, table["content"].str.len().to_numpy(np.int64), allow_pickle=False)
    for name, values in found._asdict().items():
        np.save(task.target / f"{name}.npy", values, allow_pickle=False)
    if len(task.sample):
        table.iloc[task.sample].reset_index(drop=True).to_feather(task.target / SAMPLE, compression="uncompressed")
    return task.target


def print_shards(
    modality: ModuleType,
    config: Dedup,
    clean: Path,
    work: Path,
    execution: Execution,
    sample: np.ndarray | None = None,
) -> Iterator[Path]:
    """Fingerprint all clean records; a folder for each shard, in order, as they are done.

    Args:
        modality: Makes them.
        config: How.
        clean: Folder of clean records.
        work: Folder for the results.
        execution: Who works on the shards.
        sample: int64, numbers of records to set apart in ``SAMPLE``, as they stand in all shards together.
    """
    parts = shards(clean)
    apart = np.sort(sample) if sample is not None else np.empty(0, np.int64)
    ends = np.cumsum([count_records(part) for part in parts]) if len(apart) else np.zeros(len(parts), np.int64)
    begins = np.concatenate([[0], ends])
    borders = np.searchsorted(apart, begins)
    tasks = [
        Task(modality.__name__, part, config, work / part.stem, apart[borders[n] : borders[n + 1]] - begins[n])
        for n, part in enumerate(parts)
    ]
    return executor.run(print_shard, tasks, execution, sum(part.stat().st_size for part in parts))


def load(folder: Path) -> Fingerprints:
    """Fingerprints of a shard, in their files."""
    kind = Sets if (folder / PTR).exists() else Vectors
    return kind(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in kind._fields))


class Prepared:
    """Fingerprints of the records in use, in files: gathered as a search needs them, by any process."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.folders = sorted(folder for folder in work.iterdir() if folder.is_dir())

    @classmethod
    def of(
        cls,
        modality: ModuleType,
        config: Dedup,
        clean: Path,
        records: "pd.DataFrame",
        guards: Fingerprints | None,
        work: Path,
        execution: Execution,
    ) -> "Prepared":
        """Fingerprint the clean records, and note which of ``records`` each one is."""
        import pandas as pd

        work.mkdir(parents=True)
        number = pd.Index(records["id"]).get_indexer(read_all_records(clean, ["id"])["id"]).astype(np.int64)
        begin = 0
        for folder in print_shards(modality, config, clean, work, execution):
            end = begin + len(np.load(folder / LENGTHS))
            np.save(folder / RECORD, number[begin:end])
            begin = end
        prepared = cls(work)
        if guards is not None:
            for name, values in guards._asdict().items():
                np.save(work / f"{name}.npy", values, allow_pickle=False)
        return prepared

    @property
    def guards(self) -> Fingerprints | None:
        """Fingerprints of external evaluation sets, if there are any."""
        found = load(self.work) if any(self.work.glob("*.npy")) else None
        return found if found is not None and count(found) else None

    def elements(self, number: int) -> np.ndarray:
        """int64 (number,): elements of the set of each record; of vectors 0."""
        found = np.zeros(number, np.int64)
        for folder in self.folders:
            record = np.load(folder / RECORD)
            mine = record >= 0
            if (folder / PTR).exists():
                found[record[mine]] = np.diff(np.load(folder / PTR))[mine]
        return found

    def gather(
        self, evaluation: np.ndarray, training: np.ndarray, guards: bool, most: float = float("inf")
    ) -> Iterator[Gathered]:
        """Fingerprints for a search of evaluation records in training records, which come in blocks; one at least.

        Args:
            evaluation: bool, by record: those to look for; they are part of every block.
            training: bool, by record: those to look in.
            guards: Whether to look for the records of external evaluation sets too.
            most: Elements of training in a block, about: what every record says may be shared by all of them.
        """
        block = _Block()
        for row, part in self._chosen(evaluation):
            block.add(row, part, _sizes(part))
        asked = block.records
        if guards and (own := self.guards) is not None:
            block.add(np.arange(count(own)), own, _sizes(own))
        held, whole = block.records, block
        hashes = [part.hashes for part in block.parts if isinstance(part, Sets)]
        shared = Shared(np.concatenate(hashes)) if hashes else None
        block = whole.copy()
        for row, part in self._chosen(training):
            size = _sizes(part)
            if isinstance(part, Sets):
                part = shared.keep(part) if shared else Sets(part.hashes[:0], np.zeros(len(size) + 1, np.int64))
            if block.records > held and block.elements - whole.elements + _elements(part) > most:
                yield block.gathered(asked, held)
                block = whole.copy()
            block.add(row, part, size)
        yield block.gathered(asked, held)

    def _chosen(self, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, Fingerprints]]:
        """(records, fingerprints) of the wanted records of each shard."""
        for folder in self.folders:
            record = np.load(folder / RECORD)
            mine = np.flatnonzero((record >= 0) & wanted[record])
            if len(mine):
                prints = load(folder)
                yield record[mine], prints if len(mine) == len(record) else take(prints, mine)


class _Block:
    """Fingerprints that come part by part."""

    def __init__(self) -> None:
        self.rows: list[np.ndarray] = []
        self.parts: list[Fingerprints] = []
        self.sizes: list[np.ndarray] = []
        self.records = self.elements = 0

    def copy(self) -> "_Block":
        """The same parts, to which others may be added."""
        other = _Block()
        other.rows, other.parts, other.sizes = [*self.rows], [*self.parts], [*self.sizes]
        other.records, other.elements = self.records, self.elements
        return other

    def add(self, row: np.ndarray, part: Fingerprints, size: np.ndarray) -> None:
        self.rows.append(row)
        self.parts.append(part)
        self.sizes.append(size)
        self.records, self.elements = self.records + len(row), self.elements + _elements(part)

    def gathered(self, asked: int, held: int) -> Gathered:
        """All of it; the first ``asked`` records are evaluation, those up to ``held`` of external sets."""
        if not self.parts:
            empty = np.empty(0, np.int64)
            return Gathered(Sets(np.empty(0, np.uint64), np.zeros(1, np.int64)), empty, empty, empty, empty, empty)
        record = np.concatenate(self.rows)
        number = np.arange(len(record))
        return Gathered(
            join(self.parts),
            np.concatenate(self.sizes),
            record,
            number[:asked],
            number[asked:held],
            number[held:],
        )


def _elements(part: Fingerprints) -> int:
    return len(part.hashes) if isinstance(part, Sets) else 0


def _sizes(part: Fingerprints) -> np.ndarray:
    return np.diff(part.ptr) if isinstance(part, Sets) else np.zeros(len(part.vectors), np.int64)
