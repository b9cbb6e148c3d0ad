"""Ratio of two sums over documents, with its standard error."""

from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    value: float
    se: float


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Ratio:
    """Sum over sum of float64 (N,), N >= 2, the denominators' sum positive.

    The standard error is that of the ratio estimator, linearised (Cochran 1977, Sampling Techniques, section 6.4):
    documents are the independent units, tokens within one are not.
    """
    total = denominators.sum()
    value = numerators.sum() / total
    residuals = numerators - value * denominators
    n = len(numerators)
    return Ratio(float(value), float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / total))
