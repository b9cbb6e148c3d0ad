"""Kernel distance: unbiased squared maximum mean discrepancy with a cubic kernel, over all pairs.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)`` with
``k(a, b) = (a.b / D + 1)^3`` and x' another row than x. Over all pairs instead of random subsets it has no seed.

Parts of a kernel that depend on one of its arguments alone drop out of that sum. Around a common centre c, with
``a = c + u``, ``p = c.u / D``, ``q = c.v / D``, ``g = u.v / D``, ``e = c.c / D + 1`` and ``s = e + p + q``, what is
left of k is ``g (3 s (s + g) + g^2) + 3 p q (s + e)``: the same distance, without the cancelling of terms the size of
e^3, which at an offset of 1e6 costs twelve digits.
"""

from typing import Any, NamedTuple

import numpy as np

from genfoundry.metrics._checks import jackknifed, per_unit, representable, two_sets

BLOCK = 1024
"""Rows of the kernel matrix held at once: 1024 x 50,000 float64 are 400 MB."""


class KernelDistance(NamedTuple):
    """A kernel distance and its standard error; ``float()`` gives the distance."""

    value: float
    """About 0 for equal laws; may be slightly negative."""
    se: float
    influence: np.ndarray
    """float64 (N,): of each row of x; squares of this and the next sum to se squared."""
    reference_influence: np.ndarray
    """float64 (M,): of each row of y."""

    def __float__(self) -> float:
        return self.value


class _Rows(NamedTuple):
    """Rows around the common centre, over the root of D."""

    away: np.ndarray
    """float64 (N, D): u / sqrt(D)."""
    along: np.ndarray
    """float64 (N,): p."""


def _kernel(x: _Rows, y: _Rows, e: float) -> np.ndarray:
    """float64 (N, M): the kernel without the parts that one side alone decides."""
    g = x.away @ y.away.T
    s = e + x.along[:, None] + y.along
    found = 3 * s * (s + g)
    found += g * g
    found *= g
    s += e
    s *= 3 * x.along[:, None]
    s *= y.along
    found += s
    return found


def _own_kernel(x: _Rows, e: float) -> np.ndarray:
    """float64 (N,): the same of each row with itself."""
    g, p = np.einsum("nd,nd->n", x.away, x.away), x.along
    s = e + 2 * p
    return g * (3 * s * (s + g) + g * g) + 3 * p * p * (s + e)


def _sums(x: _Rows, y: _Rows, e: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel matrix over its columns (N,) and over its rows (M,)."""
    over_y, over_x = np.empty(len(x.along)), np.zeros(len(y.along))
    for start in range(0, len(x.along), BLOCK):
        part = slice(start, start + BLOCK)
        block = _kernel(_Rows(x.away[part], x.along[part]), y, e)
        over_y[part] = block.sum(axis=1)
        over_x += block.sum(axis=0)
    return over_y, over_x


def _split(x: np.ndarray, y: np.ndarray) -> tuple[_Rows, _Rows, float]:
    width = x.shape[1]
    # Halved before they are added: the sum of two finite means may leave float64.
    centre = x.mean(axis=0) / 2 + y.mean(axis=0) / 2
    parts = []
    for values in (x, y):
        away = values - centre
        parts.append(_Rows(away / np.sqrt(width), away @ centre / width))
    return parts[0], parts[1], float(centre @ centre) / width + 1


def _influence(total: float, within: np.ndarray, across: np.ndarray, total_across: float, others: int) -> np.ndarray:
    """What each row of one side adds to the distance's error, float64 (N,): squares sum to that side's variance.

    The jackknife of a two-sample U-statistic, a row left out at a time (Arvesen 1969, doi:10.1214/aoms/1177697287);
    with two rows, of which none can be left out, the projection on single rows.
    """
    n = len(within)
    if n == 2:
        projected = 2 * within - 2 * across / others
        return per_unit(projected - projected.mean())
    without = (total - 2 * within) / ((n - 1) * (n - 2)) - 2 * (total_across - across) / ((n - 1) * others)
    return jackknifed(without)


def kernel_distance(x: Any, y: Any) -> KernelDistance:
    """Kernel distance (KID's arithmetic) over all pairs, unbiased; negative values are kept.

    Args:
        x: (N, D) features; a numpy array, a list or a torch tensor, of any width of number.
        y: (M, D) features by the same network.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, a value that is NaN or infinite, or features so
            large (about 1e50) that their sixth power leaves float64.
    """
    x, y = two_sets("kernel_distance", x, y)
    n, m = len(x), len(y)
    # What overflows is refused below, by name.
    with np.errstate(over="ignore", invalid="ignore"):
        part_x, part_y, e = _split(x, y)
        within_x, within_y = (_sums(part, part, e)[0] - _own_kernel(part, e) for part in (part_x, part_y))
        across_x, across_y = _sums(part_x, part_y, e)
        total_x, total_y, total = float(within_x.sum()), float(within_y.sum()), float(across_x.sum())
        value = total_x / (n * (n - 1)) + total_y / (m * (m - 1)) - 2 * total / (n * m)
        own = _influence(total_x, within_x, across_x, total, m)
        other = _influence(total_y, within_y, across_y, total, n)
        variance = float((own**2).sum() + (other**2).sum())
    representable("kernel_distance", np.array([value, variance]))
    return KernelDistance(value, float(np.sqrt(variance)), own, other)
