"""Inception score by the data set's own classifier (Salimans et al. 2016, arXiv:1606.03498, section 4).

``exp(mean_x KL(p(y|x) || p(y)))``: from 1 (every sample looks alike to the classifier) to K (each sample is surely of
one class, all classes equally often). It never looks at real data and cannot see memorising or a missing
variety within a class: read it beside the value of the held-out records, and never promote by it alone. One split
over all samples, not ten, so there is no random partition and no bias by small splits (Barratt and Sharma 2018,
arXiv:1801.01973).
"""

import math
from typing import Any

import numpy as np

from genfoundry.errors import DataError
from genfoundry.metrics._checks import rows
from genfoundry.specs import Score, Section

HIGHER_IS_BETTER = True
VERSION = 1


class Config(Section):
    """No settings: all samples in one split."""


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Logarithms of class probabilities, finite at any gap between logits: float64 (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def divergences(logits: np.ndarray) -> np.ndarray:
    """KL divergence of each sample's class distribution from the mean one, in nats: float64 (N,)."""
    log_p = log_softmax(logits)
    top = log_p.max(axis=0)
    log_mean = top + np.log(np.exp(log_p - top).mean(axis=0))
    return (np.exp(log_p) * (log_p - log_mean)).sum(axis=1)


def score(logits: Any, config: Config) -> Score:
    """Between 1 and K. The standard error is exact to first order: a sample's influence on the mean is its own KL.

    Args:
        logits: (N, K) of the generated samples, before the softmax.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows or classes, or a logit that is not finite.
    """
    values = rows("is_domain: logits", logits)
    if values.shape[1] < 2:
        raise DataError("is_domain: logits have 1 column; a score over classes needs at least 2")
    nats = divergences(values)
    value = math.exp(max(nats.mean(), 0.0))
    return Score(value, len(nats), value * float(nats.std(ddof=1)) / math.sqrt(len(nats)))
