"""Which balls around rows hold which other rows: exact comparisons at the cost of matrix products.

Squared distances by ``|x|^2 + |y|^2 - 2 x.y`` are quick and inexact; here they only sort out what is surely inside and
surely outside, by a bound on their error. What is left, ties and copies above all, is measured by differences:
``sum (x_i - y_i)^2``, which is 0 for copies and the same number for equal pairs. Letters: C centres, P probes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

BLOCK = 512
"""Probes compared at once: 512 x 50,000 float64 are 200 MB."""

GATHERED = 2**22
"""Numbers gathered at once for measuring pairs by differences: 32 MB."""

EPS = float(np.finfo(np.float64).eps)


class Cloud(NamedTuple):
    """Rows to measure between."""

    rows: np.ndarray
    """float64 (N, D), as given but for a power of two."""
    away: np.ndarray
    """float64 (N, D), less a common centre."""
    sizes: np.ndarray
    """float64 (N,), squared norms of ``away``."""


class Neighbours(NamedTuple):
    """The nearest other rows of each row of a cloud of N, in order of distance, then of number."""

    squared: np.ndarray
    """float64 (N, K)."""
    ids: np.ndarray
    """int64 (N, K)."""


def clouds(*sets: np.ndarray) -> list[Cloud]:
    """Float64 (N, D) around the mean of the first one."""
    centre = sets[0].mean(axis=0)
    parts = [values - centre for values in sets]
    return [Cloud(values, away, np.einsum("nd,nd->n", away, away)) for values, away in zip(sets, parts, strict=True)]


def measured(x: np.ndarray, y: np.ndarray, rows_x: np.ndarray, rows_y: np.ndarray) -> np.ndarray:
    """Squared distances of pairs of rows, by differences: float64 (pairs,)."""
    found = np.empty(len(rows_x))
    step = max(1, GATHERED // x.shape[1])
    for start in range(0, len(rows_x), step):
        part = slice(start, start + step)
        gap = x[rows_x[part]] - y[rows_y[part]]
        found[part] = (gap * gap).sum(axis=1)
    return found


def bounds(x: Cloud, y: Cloud, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Bounds from below and above of the squared distances of some rows of x from all of y: float64 (part, M) each."""
    sizes = x.sizes[part, None] + y.sizes
    low = (2 * x.away[part]) @ y.away.T
    # A product of D terms is off by at most D eps |x||y| <= D eps sizes / 2; centring and the norms add a few eps more.
    slack = (x.away.shape[1] + 24) * EPS
    np.subtract(sizes, low, out=low)
    sizes *= slack
    high = low + sizes
    low -= sizes
    return low, high


def blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def nearest_others(cloud: Cloud, k: int) -> Neighbours:
    """The k nearest other rows of each row, k at most N - 1; copies of a row are others."""
    count = len(cloud.rows)
    squared, ids = np.empty((count, k)), np.empty((count, k), dtype=np.int64)
    for part in blocks(count):
        low, high = bounds(cloud, cloud, part)
        own = np.arange(part.start, part.stop)
        low[own - part.start, own] = high[own - part.start, own] = np.inf
        # A row whose lower bound is above the k-th upper bound can't be among the k nearest.
        reach = np.partition(high, k - 1, axis=1)[:, k - 1]
        row, other = np.nonzero(low <= reach[:, None])
        exact = measured(cloud.rows, cloud.rows, own[row], other)
        order = np.lexsort((other, exact, row))
        first = np.searchsorted(row, np.arange(len(own)))
        chosen = order[first[:, None] + np.arange(k)]
        squared[part], ids[part] = exact[chosen], other[chosen]
    return Neighbours(squared, ids)


def held(probes: Cloud, centres: Cloud, radii: Sequence[np.ndarray], part: slice) -> list[np.ndarray]:
    """Whether each closed ball holds each of some probes: bool (part, C), for each of several radii.

    Args:
        probes: P rows.
        centres: C rows.
        radii: Squared, float64 (C,), measured by differences as here.
        part: The probes to look at.
    """
    low, high = bounds(probes, centres, part)
    found = []
    for squared in radii:
        inside = high <= squared
        row, centre = np.nonzero((low <= squared) != inside)
        if len(row):
            exact = measured(probes.rows, centres.rows, row + part.start, centre)
            inside[row, centre] = exact <= squared[centre]
        found.append(inside)
    return found
