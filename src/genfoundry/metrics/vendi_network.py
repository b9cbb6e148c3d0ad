"""Vendi score: the effective number of different samples, in the features of a published network.

Friedman and Dieng 2023 (arXiv:2210.02410), definition 3.1: the exponential of the entropy of the eigenvalues of K / n,
K the similarities of n samples, here by the cosine of their features. 1 where all point in one direction, n where each
is at right angles to all others. It needs no real data, and so can't tell variety from noise.
"""

import math
from typing import Any

import numpy as np

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import per_unit, rows
from genfoundry.metrics._cosine import directions

TITLE = "Effective number of samples"
CAVEAT = "Noise is varied too, and it grows with n: read it beside that of held-out records at equal n."
COST = "a singular value decomposition of N x D: 10 s for 10,000 x 2048"
HIGHER_IS_BETTER = None
VERSION = 1
RANGE = (1.0, math.inf)
BY_DEFAULT = False


class Config(Section):
    """No settings: cosine similarity, order 1."""


def score(network_features: Any, config: Config, name: str = "vendi_network") -> Score:
    """Between 1 and the smaller of N and D; the standard error is that over samples, to first order.

    Args:
        network_features: (N, D) of the generated samples.
        config: Nothing to set.
        name: Of the score, for errors.

    Raises:
        DataError: Fewer than two rows, a row of zeros, or a value that is not finite.
    """
    values = rows(f"{name}: features", network_features)
    n = len(values)
    left, singular, _ = np.linalg.svd(directions(f"{name}: features", values) / math.sqrt(n), full_matrices=False)
    weights = singular**2
    shares = np.where(weights > 0, weights, 1.0)
    entropy = max(float(-(weights * np.log(shares)).sum()), 0.0)
    value = math.exp(entropy)
    # rho = (1 - e) rho + e x x' changes the entropy by e (-x' log(rho) x - entropy).
    own = -n * (left**2 @ (weights * np.log(shares))) - entropy
    influence = per_unit(value * own)
    return Score(value, n, float(np.sqrt((influence**2).sum())), {}, {"sample": influence})
