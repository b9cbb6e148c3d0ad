"""Batches out of memory-mapped arrays, each one a pure function of (step, seed): numpy only.

So a run that resumes anywhere, on any number of devices, sees the same examples.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genfoundry.config.specs import condition_file
from genfoundry.core.errors import DataError

Arrays = dict[str, np.ndarray]

CONDITIONS = "conditions."
"""Prefix of conditions among the arrays of a batch."""


def _load(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"{path}: no such file; run dvc repro")
    return np.load(path, mmap_mode="r", allow_pickle=False)


class _Epochs:
    """Global batches of an endless run: every epoch a new permutation, its last incomplete batch left out."""

    def __init__(self, examples: int, where: str) -> None:
        self.examples, self.where = examples, where
        self._held: tuple[tuple[int, int], np.ndarray] | None = None

    def __len__(self) -> int:
        return self.examples

    def place(self, step: int, size: int) -> tuple[int, int]:
        """(epoch, first position in its permutation) of a step's batch."""
        per_epoch = self.examples // size
        if per_epoch == 0:
            raise DataError(f"{self.where}: {self.examples} examples, but a batch is {size}; lower training.batch")
        return step // per_epoch, step % per_epoch * size

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The permutation of an epoch, int64 (examples,)."""
        if self._held is None or self._held[0] != (seed, epoch):
            generator = np.random.Generator(np.random.PCG64([seed, epoch]))
            self._held = (seed, epoch), generator.permutation(self.examples)
        return self._held[1]

    def pick(self, step: int, size: int, seed: int, rank: int, world: int) -> tuple[int, np.ndarray, np.ndarray]:
        """(epoch, examples of this rank, their global numbers in the run)."""
        epoch, first = self.place(step, size)
        positions = np.arange(rank, size, world)
        return epoch, self.order(seed, epoch)[first + positions], step * size + positions


class GridData:
    """Grids of a split, (N, C, *shape) of stored levels, and their conditions."""

    def __init__(self, arrays: Path, split: str, conditions: Iterable[str] = ()) -> None:
        self.grid = _load(arrays / f"{split}.npy")
        self.conditions = {name: _load(arrays / condition_file(name, split)) for name in conditions}
        self._epochs = _Epochs(len(self.grid), f"split {split}")

    def __len__(self) -> int:
        return len(self.grid)

    @property
    def size(self) -> float:
        """Samples of an example."""
        return 1

    def batch(self, step: int, size: int, seed: int, rank: int = 0, world: int = 1) -> Arrays:
        """``grid`` stored levels (B, C, *shape), ``index`` int64 (B,), each condition under ``conditions.<name>``.

        B is this rank's share of ``size``: rows ``rank::world`` of the global batch.
        """
        _, rows, index = self._epochs.pick(step, size, seed, rank, world)
        return self._take(rows, index)

    def sequential(self, size: int, rank: int = 0, world: int = 1) -> Iterator[Arrays]:
        """Every example once, in order, ``size`` at a time; the last batch may be smaller."""
        for start in range(0, len(self), size):
            rows = np.arange(start, min(start + size, len(self)))[rank::world]
            yield self._take(rows, rows)

    def _take(self, rows: np.ndarray, index: np.ndarray) -> Arrays:
        conditions = {f"{CONDITIONS}{name}": values[rows] for name, values in self.conditions.items()}
        return {"grid": self.grid[rows], "index": index, **conditions}


class TokenData:
    """Windows of ``length + 1`` tokens of a split's stream, one after the other."""

    def __init__(self, arrays: Path, split: str, length: int) -> None:
        self.tokens = _load(arrays / f"{split}_tokens.npy")
        self.length, self.split = length, split
        # Room for every phase below ``length``: so each epoch has the same number of windows.
        examples = max(0, (len(self.tokens) - length) // length)
        self._epochs = _Epochs(examples, f"split {split}: windows of {length} tokens out of {len(self.tokens)}")

    def __len__(self) -> int:
        return len(self._epochs)

    @property
    def size(self) -> float:
        """Target tokens of an example."""
        return self.length

    def batch(self, step: int, size: int, seed: int, rank: int = 0, world: int = 1) -> Arrays:
        """``tokens`` int64 (B, length+1), ``mask`` float32 (B, length+1) of ones, ``index`` int64 (B,).

        Windows start at another phase in every epoch, so that no token is always the first of its window.
        """
        epoch, windows, index = self._epochs.pick(step, size, seed, rank, world)
        phase = int(np.random.Generator(np.random.PCG64([seed, epoch, 1])).integers(self.length))
        tokens = self._take(phase + windows * self.length)
        return {"tokens": tokens, "mask": np.ones(tokens.shape, np.float32), "index": index}

    def sequential(self, size: int, rank: int = 0, world: int = 1) -> Iterator[Arrays]:
        """Every token as a target once; ``mask`` is 0 on the padding behind the stream's end."""
        targets = len(self.tokens) - 1
        if targets < 1:
            raise DataError(f"split {self.split}: {len(self.tokens)} tokens, needs 2; give it more records")
        windows = np.arange(-(-targets // self.length))
        for start in range(0, len(windows), size):
            mine = windows[start : start + size][rank::world]
            places = mine[:, None] * self.length + np.arange(self.length + 1)
            inside = places <= targets
            tokens = self.tokens[np.minimum(places, targets)].astype(np.int64)
            yield {"tokens": np.where(inside, tokens, 0), "mask": inside.astype(np.float32), "index": mine}

    def _take(self, starts: np.ndarray) -> np.ndarray:
        return self.tokens[starts[:, None] + np.arange(self.length + 1)].astype(np.int64)


class _Cut(NamedTuple):
    """Windows, each in a document: it is given tokens from ``begin`` on, and its targets end before ``end``."""

    document: np.ndarray
    """int64 (B,)."""
    begin: np.ndarray
    """int64 (B,): place in the document; 0 is its boundary."""
    end: np.ndarray
    """int64 (B,)."""


class DocumentData:
    """Windows of at most ``length + 1`` tokens, each in one document, with the document's conditions.

    Targets of a document are its tokens and the boundary behind it, so that a model learns where it ends. The windows
    of an epoch hold each target once. A batch is as wide as its widest window; shorter ones are padded.
    """

    def __init__(self, arrays: Path, split: str, length: int, boundary: int, conditions: Iterable[str]) -> None:
        self.tokens, self.offsets = _load(arrays / f"{split}_tokens.npy"), _load(arrays / f"{split}_offsets.npy")
        self.conditions = {name: _load(arrays / condition_file(name, split)) for name in conditions}
        self.length, self.split, self.boundary = length, split, boundary
        windows = -(-np.diff(self.offsets) // length)
        self._first = np.concatenate([[0], np.cumsum(windows)]).astype(np.int64)
        """Number of each document's first window, and of the one behind the last."""
        where = f"split {split}: windows of {length} tokens out of {len(windows)} documents"
        self._epochs = _Epochs(int(self._first[-1]), where)

    def __len__(self) -> int:
        return len(self._epochs)

    @property
    def size(self) -> float:
        """Target tokens of an example, on average."""
        return len(self.tokens) / max(len(self), 1)

    def batch(self, step: int, size: int, seed: int, rank: int = 0, world: int = 1) -> Arrays:
        """``tokens`` int64 (B, T+1), ``mask`` float32 (B, T+1), ``index`` int64 (B,), ``conditions.<name>`` (B, ...).

        Long documents are cut at other places in every epoch, as far as their number of windows leaves room.
        """
        epoch, windows, index = self._epochs.pick(step, size, seed, 0, 1)
        shift = float(np.random.Generator(np.random.PCG64([seed, epoch, 1])).random())
        return self._take(windows, index, shift, slice(rank, None, world))

    def sequential(self, size: int, rank: int = 0, world: int = 1) -> Iterator[Arrays]:
        """Every target once, in order."""
        if not len(self):
            raise DataError(f"split {self.split}: no documents; give it more records")
        for start in range(0, len(self), size):
            windows = np.arange(start, min(start + size, len(self)))
            yield self._take(windows, windows, 0.0, slice(rank, None, world))

    def _cut(self, windows: np.ndarray, shift: float) -> _Cut:
        """Where windows lie; ``shift`` in [0, 1) says how much of the room they are moved by, towards the beginning."""
        document = np.searchsorted(self._first, windows, "right") - 1
        targets = self.offsets[document + 1] - self.offsets[document]
        room = (self._first[document + 1] - self._first[document]) * self.length - targets
        end = (windows - self._first[document] + 1) * self.length - (shift * (room + 1)).astype(np.int64)
        return _Cut(document, np.maximum(end - self.length, 0), np.minimum(end, targets))

    def _take(self, windows: np.ndarray, index: np.ndarray, shift: float, share: slice) -> Arrays:
        cut = self._cut(windows, shift)
        # All ranks are as wide as the whole batch.
        steps = np.arange(int((cut.end - cut.begin).max()) + 1)
        document, begin, end = (one[share] for one in cut)
        places = begin[:, None] + steps
        stream = self.offsets[document][:, None] + places
        inside = places <= end[:, None]
        written = inside & (stream < self.offsets[document + 1][:, None])
        tokens = np.where(written, self.tokens[np.minimum(stream, len(self.tokens) - 1)], self.boundary)
        conditions = {f"{CONDITIONS}{name}": values[document] for name, values in self.conditions.items()}
        return {
            "tokens": tokens.astype(np.int64),
            "mask": inside.astype(np.float32),
            "index": index[share],
            **conditions,
        }


Data = GridData | TokenData | DocumentData
