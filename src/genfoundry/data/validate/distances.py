"""Distances between two columns' distributions, from counts over the same bins.

The population stability index (Siddiqi 2006) sums ``(new - old) ln(new / old)`` over shares; the Kolmogorov-Smirnov
distance is the largest difference of the distribution functions.
"""

import numpy as np

from genfoundry.config.specs import FILE

LEFT_OUT = ("id", "sha256", "content", "group", "time", FILE)
"""Columns whose values are new with every record, or with every file."""

POINTS = 100
"""Points of a number's distribution that are kept: the Kolmogorov-Smirnov distance is right to within 0.01."""

BINS = 10
"""Bins of the index for a number, of about equal size in the old data, as is usual."""

WORDS = 200
"""Values of a column of words that are kept by name; the others are counted together."""


def kolmogorov(old: np.ndarray, new: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of counts over bins that have an order, in [0, 1]; ``old`` is not empty."""
    return float(np.abs(np.cumsum(old) / old.sum() - np.cumsum(new) / max(new.sum(), 1)).max())


def stability(old: np.ndarray, new: np.ndarray) -> tuple[float, int]:
    """(population stability index, bins that either side uses); half a record stands in for an empty bin."""
    used = (old > 0) | (new > 0)
    old, new = old[used], new[used]
    before, after = np.maximum(old, 0.5) / max(old.sum(), 1), np.maximum(new, 0.5) / max(new.sum(), 1)
    return float(((after - before) * np.log(after / before)).sum()), int(used.sum())


def coarse(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbouring counts joined until each of ``BINS`` holds its part of the old records: float64 (``BINS``,) each."""
    share = np.cumsum(old) - old / 2
    bin_of = np.minimum((share * BINS / max(old.sum(), 1)).astype(np.int64), BINS - 1)
    return np.bincount(bin_of, old, BINS), np.bincount(bin_of, new, BINS)
