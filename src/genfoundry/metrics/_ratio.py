"""Ratio of two sums over documents, with its standard error."""

import math
from typing import NamedTuple

import numpy as np


class Ratio(NamedTuple):
    """A value over documents, and how much each document moves it."""

    value: float
    se: float
    """Standard error over documents; NaN for a single one."""
    influence: np.ndarray
    """float64 (N,), sum 0: first-order change of the value by each document; the squares sum to ``se`` squared."""


def ratio(numerators: np.ndarray, denominators: np.ndarray) -> Ratio:
    """Sum over sum of float64 (N,), N >= 1, the denominators' sum positive.

    The standard error is that of the ratio estimator, linearised (Cochran 1977, Sampling Techniques, section 6.4):
    documents are the independent units, tokens within one are not.
    """
    n = len(numerators)
    spread = math.sqrt(n / (n - 1)) if n > 1 else math.nan
    # An overflow shows in the value: who calls refuses it by its own name.
    with np.errstate(over="ignore", invalid="ignore"):
        total = denominators.sum()
        value = float(numerators.sum() / total)
        influence = spread * (numerators - value * denominators) / total
        return Ratio(value, float(np.sqrt((influence**2).sum())), influence)
