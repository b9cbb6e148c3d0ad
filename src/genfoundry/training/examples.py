"""Batches out of memory-mapped arrays, each one a pure function of (step, seed): numpy only.

So a run that resumes anywhere, on any number of devices, sees the same examples.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

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
