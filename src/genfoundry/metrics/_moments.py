"""Mean and covariance of features that never stand in memory at once, mergeable over shards.

Pairwise update of Chan, Golub and LeVeque 1982 (doi:10.1007/978-3-642-51461-6_3), here on matrices: with counts n and
m, means a and b and centred sums of products A and B, the union's is ``A + B + (b-a)(b-a)' nm/(n+m)``. The mean is kept
as a pivot (the first row seen) and a small rest: an offset of 1e8 costs no digit of the difference of two means.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import representable, rows

BLOCK_BYTES = 32 * 2**20
"""Rows are taken in blocks of this size as float64: enough for a matrix product to run at full speed."""

LARGEST = 1e150
"""Squares of larger numbers leave float64."""


class Moments:
    """Count, mean and covariance (over n - 1) of rows of ``dimension`` features, in float64.

    ``update`` with any blocks of rows, ``merge`` (or ``+``) with statistics of other shards, in any order; a shard
    without rows changes nothing. Memory: two (D, D) matrices and one block, whatever the number of rows.
    """

    def __init__(self, dimension: int) -> None:
        if dimension < 1:
            raise DataError(f"Moments: dimension is {dimension}; give the number of features, at least 1")
        self.dimension = dimension
        self.count = 0
        self._pivot = np.zeros(dimension)
        self._rest = np.zeros(dimension)
        self._products = np.zeros((dimension, dimension))

    def update(self, values: Any) -> Self:
        """Add rows (N, D); none is allowed.

        Raises:
            DataError: Another width, a value that is NaN or infinite, or one above 1e150.
        """
        shape = np.shape(values)
        if len(shape) != 2 or shape[1] != self.dimension:
            if len(shape) == 1 and shape[0] == 0:
                return self
            raise DataError(f"Moments: rows have shape {tuple(shape)}; give (N, {self.dimension})")
        step = max(2 * self.dimension, BLOCK_BYTES // (8 * self.dimension))
        for start in range(0, shape[0], step):
            block = rows("Moments: rows", values[start : start + step], 0)
            top = max(float(block.max()), -float(block.min()))
            if top > LARGEST:
                raise DataError(
                    f"Moments: a feature is {top:.3g}, whose square leaves float64; divide all by a constant"
                )
            pivot = self._pivot if self.count else block[0].copy()
            centred = block - pivot
            rest = centred.mean(axis=0)
            centred -= rest
            # The sums are those of rows around ``rest`` as computed: its own rounding is put back into the mean.
            slip = centred.mean(axis=0)
            centred -= slip
            self._join(len(block), pivot, rest + slip, centred.T @ centred)
        return self

    def merge(self, other: "Moments") -> Self:
        """Add the rows of another shard's statistics.

        Raises:
            DataError: It has another width.
        """
        if other.dimension != self.dimension:
            raise DataError(f"Moments: {other.dimension} features can't be merged with {self.dimension}")
        self._join(other.count, other._pivot, other._rest, other._products)
        return self

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.dimension).merge(self).merge(other)

    def _join(self, count: int, pivot: np.ndarray, rest: np.ndarray, products: np.ndarray) -> None:
        if count == 0:
            return
        if self.count == 0:
            self._pivot = pivot.copy()
        gap = (pivot - self._pivot) + (rest - self._rest)
        total = self.count + count
        self._products += products
        if self.count:
            apart = gap * np.sqrt(self.count / total * count)
            self._products += np.outer(apart, apart)
        self._rest += gap * (count / total)
        self.count = total

    def mean_less(self, other: "Moments") -> np.ndarray:
        """Difference of two means, float64 (D,), without the rounding of each."""
        return (self._pivot - other._pivot) + (self._rest - other._rest)

    @property
    def mean(self) -> np.ndarray:
        """float64 (D,).

        Raises:
            DataError: No row yet.
        """
        if self.count == 0:
            raise DataError("Moments: the mean of 0 rows; update with at least 1")
        return self._pivot + self._rest

    @property
    def covariance(self) -> np.ndarray:
        """float64 (D, D), over n - 1.

        Raises:
            DataError: Fewer than two rows, or an entry beyond 1.8e308.
        """
        if self.count < 2:
            raise DataError(f"Moments: the covariance of {self.count} rows; update with at least 2")
        return representable("Moments", self._products / (self.count - 1))

    def save(self, file: str | Path) -> None:
        """Write ``mu`` and ``sigma``, as other tools read them, and what is needed to go on, as one npz file."""
        with Path(file).open("wb") as stream:
            np.savez(
                stream,
                count=self.count,
                pivot=self._pivot,
                rest=self._rest,
                products=self._products,
                mu=self._pivot + self._rest,
                sigma=self._products / max(self.count - 1, 1),
            )

    @classmethod
    def load(cls, file: str | Path) -> "Moments":
        """Statistics as ``save`` wrote them.

        Raises:
            DataError: The file holds something else.
        """
        with np.load(Path(file), allow_pickle=False) as found:
            missing = {"count", "pivot", "rest", "products"} - set(found.files)
            if missing:
                raise DataError(f"{file}: no {', '.join(sorted(missing))}; was it written by Moments.save?")
            moments = cls(len(found["pivot"]))
            moments.count = int(found["count"])
            moments._pivot, moments._rest, moments._products = found["pivot"], found["rest"], found["products"]
        return moments
