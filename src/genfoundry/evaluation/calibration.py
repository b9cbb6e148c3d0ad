"""Calibration of a classifier: compare its accuracy with its confidence.

Expected calibration error of Guo et al. 2017 (arXiv:1706.04599, equation 3): the samples fall into bins of equal width
by their confidence, the highest class probability; the error is the gap between accuracy and mean confidence of a bin,
averaged over the samples. It is above 0 for a perfectly calibrated classifier too, as each bin's accuracy is a
count: so that value is given too.
"""

import math
from typing import NamedTuple

import numpy as np

from genfoundry.core.errors import DataError

BINS = 15
"""As in the paper."""


class Bin(NamedTuple):
    """Samples whose confidence lies in one part of (0, 1]."""

    count: int
    confidence: float
    """Mean highest probability."""
    accuracy: float
    low: float
    high: float
    """95 % interval of the accuracy (Wilson 1927, doi:10.1080/01621459.1927.10502953)."""


class Calibration(NamedTuple):
    """Expected calibration error of N samples, and what it is made of."""

    error: float
    """Between 0 and 1."""
    se: float
    """Standard error to first order, each bin's gap keeping its sign: too large where the gaps are about 0."""
    if_perfect: float
    """About what a classifier of the same confidences would get if it were right as often as it says."""
    bins: tuple[Bin, ...]
    """Those that hold a sample, by rising confidence."""


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax in float64 (N, K), finite at any gap between logits."""
    wide = np.asarray(logits, np.float64)
    shares = np.exp(wide - wide.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Calibration:
    """Expected calibration error over bins of equal width.

    Args:
        logits: (N, K) of held-out records, N at least 2.
        labels: int64 (N,), the right classes.
        bins: Number of bins over (0, 1].

    Raises:
        DataError: Fewer than two rows, unequal N, or a logit that is not finite.
    """
    if len(logits) != len(labels) or len(labels) < 2:
        raise DataError(
            f"calibration: {len(logits)} rows of logits and {len(labels)} labels; needs as many, at least 2"
        )
    if not np.isfinite(logits).all():
        raise DataError("calibration: logits hold NaN or infinity; look at the feature network's training")
    shares = probabilities(logits)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    gaps = np.bincount(place, right - confidence, bins)
    # A sample moves the error by its own gap, in the direction of its bin's.
    moves = np.sign(gaps)[place] * (right - confidence)
    spread = np.bincount(place, confidence * (1 - confidence), bins)
    n = len(labels)
    found = [
        Bin(
            int(counts[b]),
            float(confidence[place == b].mean()),
            float(right[place == b].mean()),
            *wilson(right[place == b]),
        )
        for b in np.flatnonzero(counts)
    ]
    return Calibration(
        float(np.abs(gaps).sum() / n),
        float(moves.std(ddof=1) / math.sqrt(n)),
        # Mean absolute value of a normal law of that variance.
        float(np.sqrt(2 / math.pi * spread).sum() / n),
        tuple(found),
    )


def wilson(right: np.ndarray) -> tuple[float, float]:
    """95 % interval of a share from N outcomes: finite and inside [0, 1] at 0 and at N successes too."""
    n, share, z = len(right), float(np.mean(right)), 1.959964
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def confusion(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """How often each class (row) was taken for each (column): int64 (K, K)."""
    classes = logits.shape[1]
    pairs = labels * classes + logits.argmax(axis=1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
