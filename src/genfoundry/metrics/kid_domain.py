"""Kernel distance of generated from held-out real images in the features of the data set's own network.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared maximum mean discrepancy with the kernel
``(x.y / D + 1)^3``, here over all pairs instead of random subsets, so that it has no seed (``_kernel.py``). Unbiased:
it is about 0, and may be slightly negative, when both sets follow the same law, at any n. The scale of an own network's
features is arbitrary, and the cubic kernel is blind to spread when norms are small: so they are first standardised by
the reference's mean and deviation. Near 0 the error bar is a rough one: there the statistic is not normal.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import two_sets, unit_of
from genfoundry.metrics._distances import SIDES, kernel_difference, kernel_score
from genfoundry.metrics._paired import Difference

TITLE = "Kernel distance (own features)"
CAVEAT = (
    "Near 0 it is not normal and may be negative; weak against small differences of spread: never promote by it alone."
)
COST = "quadratic in the rows: seconds for 5,000 x 512"
HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False


class Config(Section):
    standardise: bool = True
    """Whether features are first centred and scaled by the reference's; off for published networks."""


def standardised(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Float64 (N, D) and (M, D) less the mean of y and over its deviation, without the features constant in y.

    Raises:
        DataError: All of them are.
    """
    unit = unit_of(x, y)
    x, y = x / unit, y / unit
    deviation = y.std(axis=0, ddof=1)
    kept = deviation > 1e-12 * np.abs(y).max(axis=0)
    if not kept.any():
        raise DataError("kid_domain: reference_features are constant; look at the reference records")
    mean = y.mean(axis=0)[kept]
    return (x[:, kept] - mean) / deviation[kept], (y[:, kept] - mean) / deviation[kept]


def score(features: Any, reference_features: Any, config: Config, *, sample_labels: Any = None) -> Score:
    """Squared discrepancy, about 0 for equal laws. The standard error is the jackknife over the rows of both sides.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Whether to standardise.
        sample_labels: (N,) classes that were asked for, where there are any.

    Raises:
        DataError: Fewer than three rows on a side (the error bar leaves one out), unequal D, a value that is not
            finite, or reference features that are all constant.
    """
    x, y = two_sets("kid_domain", features, reference_features, SIDES, 3)
    return kernel_score(*(standardised(x, y) if config.standardise else (x, y)), sample_labels)


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the jackknife, a row left out of both models at once."""
    x, y, real = (np.asarray(rows, np.float64) for rows in (a["features"], b["features"], a["reference_features"]))
    if config.standardise:
        (x, _), (y, real) = standardised(x, real), standardised(y, real)
    return kernel_difference(x, y, real, a.get("sample_labels"), b.get("sample_labels"))
