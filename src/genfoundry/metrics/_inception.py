"""Inception score from logits (Salimans et al. 2016, arXiv:1606.03498, section 4).

``exp(mean_x KL(p(y|x) || p(y)))``, in logarithms throughout: a class that no sample uses, or a gap of 200 nats
between logits, is a probability of 0 times a finite number, not 0 times infinity.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import per_unit, rows

FAR = -1e4
"""Log-probability that stands for all below it: its exponential is 0 in float64 (from -746 on)."""


class InceptionScore(NamedTuple):
    """Mean and population deviation over splits."""

    mean: float
    std: float


class Sureness(NamedTuple):
    """Inception score in one split, with the standard error over samples."""

    value: float
    se: float
    influence: np.ndarray
    """float64 (N,): squares sum to se squared."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of class probabilities, at least ``FAR`` at any gap between logits: float64 (N, K)."""
    # Halves first: the difference of two finite logits may leave float64, that of their halves can't.
    halved = logits / 2
    shifted = ((halved - halved.max(axis=1, keepdims=True)).clip(min=FAR / 2)) * 2
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergences(logits: np.ndarray) -> np.ndarray:
    """KL divergence of each sample's class distribution from the mean one, in nats: float64 (N,)."""
    log_p = log_softmax(logits)
    top = log_p.max(axis=0)
    log_mean = top + np.log(np.exp(log_p - top).mean(axis=0))
    return (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)


def _from_nats(nats: np.ndarray) -> float:
    """A mean divergence is at least 0: below it is rounding."""
    return float(np.exp(max(float(nats.mean()), 0.0)))


def inception_score(logits: Any, splits: int = 1) -> InceptionScore:
    """Inception Score, between 1 and the number of classes K.

    Args:
        logits: (N, K) before the softmax, in the order in which they are to be split.
        splits: Number of contiguous parts that are scored on their own, cut at ``i * N // splits`` as by the published
            code (openai/improved-gan): where it doesn't divide N, later parts have one sample more. Nothing is
            shuffled.

    Returns:
        Mean of the parts' scores and their population deviation, 0 for one part.

    Raises:
        DataError: Fewer than two rows, a logit that is NaN or infinite, or not 1 <= splits <= N.
    """
    values = rows("inception_score: logits", logits)
    if not 1 <= splits <= len(values):
        raise DataError(f"inception_score: {splits} splits of {len(values)} rows; choose from 1 to the number of rows")
    bounds = [part * len(values) // splits for part in range(splits + 1)]
    scores = np.array([_from_nats(divergences(values[low:high])) for low, high in pairwise(bounds)])
    return InceptionScore(float(scores.mean()), float(scores.std()))


def sureness(logits: np.ndarray) -> Sureness:
    """Score of float64 (N, K), N at least 2, in one split.

    The standard error is exact to first order: a sample's influence on the mean divergence is its own.
    """
    nats = divergences(logits)
    value = _from_nats(nats)
    influence = per_unit(value * (nats - nats.mean()))
    return Sureness(value, float(np.sqrt((influence**2).sum())), influence)
