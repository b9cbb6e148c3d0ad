"""Discrepancy of generated from held-out real records by a Gaussian kernel, in the features of a published network.

The squared maximum mean discrepancy of Gretton et al. 2012, equation 5, in the form of Jayasumana et al. 2024
(arXiv:2401.09603), section 4: kernel ``exp(-|x - y|^2 / (2 sigma^2))`` with sigma 10 on features of length 1, times
1000, all pairs, a row with itself too. Their CMMD is ``mmd_clip`` with the weights
``openai/clip-vit-large-patch14-336``; with other weights or networks it is the same arithmetic on another scale. At
sigma 10 the kernel is nearly linear, so that it compares little more than mean directions.
"""

import math
from typing import Any

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import two_sets
from genfoundry.metrics._cosine import BLOCK, directions
from genfoundry.metrics._distances import SIDES
from genfoundry.metrics._kernel import _influence

TITLE = "Gaussian kernel discrepancy"
CAVEAT = (
    "CMMD only with CLIP ViT-L/14 at 336 pixels; at sigma 10 it sees little but the mean direction, and it is above 0 "
    "for equal laws, by about 1/n: read it beside the floor."
)
COST = "the network on every image once (shared with fd), then 2 to 3 s for 5,000 images on each side"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)
BY_DEFAULT = False

SCALE = 1000.0
"""So that values are about 1: the paper's."""


class Config(Section):
    sigma: float = Field(default=10.0, gt=0)
    """Bandwidth of the kernel; the paper's 10."""
    normalise: bool = True
    """Whether features are scaled to length 1, as published for CLIP's."""


def _sums(x: np.ndarray, y: np.ndarray, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of k - 1 over the columns (N,) and over the rows (M,): the ones cancel, and digits stay."""
    over_y, over_x = np.empty(len(x)), np.zeros(len(y))
    sizes_x, sizes_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    for start in range(0, len(x), BLOCK):
        part = slice(start, start + BLOCK)
        squares = np.maximum(sizes_x[part, None] + sizes_y - 2 * (x[part] @ y.T), 0)
        found = np.expm1(-gamma * squares)
        over_y[part] = found.sum(axis=1)
        over_x += found.sum(axis=0)
    return over_y, over_x


def score(network_features: Any, reference_network_features: Any, config: Config, name: str = "mmd_network") -> Score:
    """At least 0; ``unbiased`` leaves out each row with itself. The standard error is the jackknife over both sides.

    Args:
        network_features: (N, D) of the generated samples.
        reference_network_features: (M, D) of held-out real records.
        config: Bandwidth, and whether to normalise.
        name: Of the score, for errors.

    Raises:
        DataError: Fewer than three rows on a side (the error bar leaves one out), unequal width, a row of zeros, or a
            value that is not finite.
    """
    x, y = two_sets(name, network_features, reference_network_features, SIDES, 3)
    if config.normalise:
        x, y = directions(f"{name}: features", x), directions(f"{name}: reference_features", y)
    n, m, gamma = len(x), len(y), 1 / (2 * config.sigma**2)
    (within_x, _), (within_y, _) = _sums(x, x, gamma), _sums(y, y, gamma)
    across_x, across_y = _sums(x, y, gamma)
    total_x, total_y, total = float(within_x.sum()), float(within_y.sum()), float(across_x.sum())
    value = total_x / n**2 + total_y / m**2 - 2 * total / (n * m)
    unbiased = total_x / (n * (n - 1)) + total_y / (m * (m - 1)) - 2 * total / (n * m)
    own = SCALE * _influence(total_x, within_x, across_x, total, m)
    other = SCALE * _influence(total_y, within_y, across_y, total, n)
    se = math.sqrt(float((own**2).sum() + (other**2).sum()))
    extra = {"n_reference": m, "unbiased": SCALE * unbiased}
    return Score(SCALE * max(value, 0.0), n, se, extra, {"sample": own, "test": other})
