"""Store of sets of hashes, in memory up to a limit and in a file beyond it."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from genfoundry.config.specs import Sets
from genfoundry.data.similarity.setjoin import Rows

GROWTH = 1.25
"""Growth factor of the buffer; unwritten pages cost address space alone."""

HASH = 8
"""Bytes of a hash."""


class SetStore:
    """Append-only store of sets, numbered in the order in which they were added."""

    def __init__(self, limit: int = 0, folder: Path | None = None) -> None:
        """Keep up to ``limit`` bytes of hashes in memory (0: all), more of them in a nameless file in ``folder``."""
        self.limit, self.folder = limit, folder
        self._room = np.empty(0, np.uint64)
        self._filled = 0
        self._file: IO[bytes] | None = None
        self._sizes: list[np.ndarray] = []
        self._ptr: np.ndarray | None = None

    @classmethod
    def of(cls, sets: Sets) -> "SetStore":
        """Sets as they are, without a copy."""
        store = cls()
        store._room, store._filled, store._sizes = sets.hashes, len(sets.hashes), [np.diff(sets.ptr)]
        return store

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def on_disk(self) -> bool:
        return self._file is not None

    @property
    def elements(self) -> int:
        return self._filled

    @property
    def ptr(self) -> np.ndarray:
        """Bounds of the sets, int64 (N+1,)."""
        if self._ptr is None:
            self._ptr = np.concatenate([[0], *map(np.cumsum, [np.concatenate([*self._sizes, []])])]).astype(np.int64)
        return self._ptr

    def add(self, hashes: np.ndarray, sizes: np.ndarray) -> None:
        """Put sets behind those that are there."""
        self._ptr = None
        self._sizes.append(sizes)
        stop = self._filled + len(hashes)
        if self._file is None and self.limit and stop * HASH > self.limit:
            self._file = tempfile.TemporaryFile(dir=self.folder, buffering=0)  # noqa: SIM115
            _write(self._file, self._room[: self._filled])
            self._room = np.empty(0, np.uint64)
        if self._file is not None:
            _write(self._file, hashes)
        else:
            if stop > len(self._room):
                # In place: a copy would double the memory.
                self._room.resize(max(stop, int(GROWTH * len(self._room))), refcheck=False)
            self._room[self._filled : stop] = hashes
        self._filled = stop

    def rows(self, numbers: np.ndarray) -> Rows:
        """Some sets, in that order; from memory without a copy."""
        starts, stops = self.ptr[numbers], self.ptr[numbers + 1]
        if self._file is None:
            return Rows(self._room[: self._filled], starts, stops)
        lengths = stops - starts
        order = np.argsort(starts, kind="stable")
        places = np.empty(len(numbers), np.int64)
        places[order] = np.cumsum(lengths[order]) - lengths[order]
        hashes = np.empty(int(lengths.sum()), np.uint64)
        # Neighbours in the file are read together.
        breaks = np.flatnonzero(starts[order][1:] != stops[order][:-1]) + 1
        for first, last in zip([0, *breaks], [*breaks, len(order)], strict=True):
            if first < last:
                begin, end = starts[order[first]], stops[order[last - 1]]
                self._read(hashes[places[order[first]] :][: end - begin], begin)
        return Rows(hashes, places, places + lengths)

    def stream(self) -> Iterator[np.ndarray]:
        """All hashes, in pieces that fit into the limit."""
        step = max(1, self.limit // (8 * HASH)) if self._file is not None else max(1, self._filled)
        for start in range(0, self._filled, step):
            if self._file is None:
                yield self._room[: self._filled]
                continue
            piece = np.empty(min(step, self._filled - start), np.uint64)
            self._read(piece, start)
            yield piece

    def pieces(self, numbers: np.ndarray, share: float) -> Iterator[np.ndarray]:
        """``numbers`` cut so that the sets of each piece take ``share`` of the limit; in memory one piece."""
        if self._file is None:
            yield numbers
            return
        most = max(1, int(share * self.limit / HASH))
        ends = np.cumsum(self.ptr[numbers + 1] - self.ptr[numbers])
        start = 0
        while start < len(numbers):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
            yield numbers[start:stop]
            start = stop

    def _read(self, out: np.ndarray, first: int) -> None:
        assert self._file is not None
        self._file.seek(int(first) * HASH)
        view = memoryview(out).cast("B")
        done = 0
        while done < len(view):
            got = self._file.readinto(view[done:])  # type: ignore[attr-defined]
            if not got:
                raise OSError(f"a file of shingles ends {len(view) - done} bytes too early; is the disk full?")
            done += got


def _write(file: IO[bytes], hashes: np.ndarray) -> None:
    file.seek(0, 2)
    view = memoryview(np.ascontiguousarray(hashes)).cast("B")
    done = 0
    while done < len(view):
        done += file.write(view[done:])
