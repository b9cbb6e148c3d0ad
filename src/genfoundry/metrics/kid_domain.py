"""Kernel distance of generated from held-out real images in the features of the data set's own network.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared maximum mean discrepancy with the kernel
``(x.y / D + 1)^3``, here over all pairs instead of random subsets, so that it has no seed. Unbiased: it is
about 0, and may be slightly negative, when both sets follow the same law, at any n. The scale of an own network's
features is arbitrary, and the cubic kernel is blind to spread when norms are small: so they are first standardised by
the reference's mean and deviation. Near 0 the error bar is a rough one: there the statistic is not normal.
"""

from typing import Any, NamedTuple

import numpy as np

from genfoundry.errors import DataError
from genfoundry.metrics._checks import rows, same_width
from genfoundry.specs import Score, Section

HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False

BLOCK = 1024
"""Rows of the kernel matrix held at once: 1024 x 50,000 float64 are 400 MB."""


class Config(Section):
    standardise: bool = True
    """Whether features are first centred and scaled by the reference's; off for published networks."""


class Kid(NamedTuple):
    value: float
    se: float


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _sums(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel matrix over its rows (N,) and over its columns (M,)."""
    over_y, over_x = np.empty(len(x)), np.zeros(len(y))
    for start in range(0, len(x), BLOCK):
        block = _kernel(x[start : start + BLOCK], y)
        over_y[start : start + BLOCK] = block.sum(axis=1)
        over_x += block.sum(axis=0)
    return over_y, over_x


def _other_sums(x: np.ndarray) -> np.ndarray:
    """Sum of the kernel of each row with all other rows: float64 (N,)."""
    return _sums(x, x)[0] - ((x**2).sum(axis=1) / x.shape[1] + 1) ** 3


def kid(x: np.ndarray, y: np.ndarray) -> Kid:
    """Unbiased squared discrepancy of float64 (N, D) and (M, D), N and M at least 3, with its standard error.

    The standard error is the jackknife of a two-sample U-statistic, one row of either side left out at a time
    (Arvesen 1969, doi:10.1214/aoms/1177697287), from the sums of the kernel matrix.
    """
    n, m = len(x), len(y)
    within_x, within_y = _other_sums(x), _other_sums(y)
    across_x, across_y = _sums(x, y)
    total_x, total_y, total = within_x.sum(), within_y.sum(), across_x.sum()
    mean_x, mean_y = total_x / (n * (n - 1)), total_y / (m * (m - 1))
    without_x = (total_x - 2 * within_x) / ((n - 1) * (n - 2)) - 2 * (total - across_x) / ((n - 1) * m)
    without_y = (total_y - 2 * within_y) / ((m - 1) * (m - 2)) - 2 * (total - across_y) / (n * (m - 1))
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return Kid(float(mean_x + mean_y - 2 * total / (n * m)), float(np.sqrt(variance)))


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Squared discrepancy, about 0 for equal laws.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Whether to standardise.

    Raises:
        DataError: Fewer than three rows on a side (the error bar leaves one out), unequal D, a value that is not
            finite, or reference features that are all constant.
    """
    x, y = rows("kid_domain: features", features, 3), rows("kid_domain: reference_features", reference_features, 3)
    same_width("kid_domain", x, y)
    if config.standardise:
        deviation = y.std(axis=0, ddof=1)
        kept = deviation > 1e-12 * np.abs(y).max(axis=0)
        if not kept.any():
            raise DataError("kid_domain: reference_features are constant; look at the reference records")
        mean = y.mean(axis=0)[kept]
        x, y = (x[:, kept] - mean) / deviation[kept], (y[:, kept] - mean) / deviation[kept]
    result = kid(x, y)
    return Score(result.value, len(x), result.se, {"n_reference": len(y)})
