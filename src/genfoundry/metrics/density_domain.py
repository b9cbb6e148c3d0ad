"""Density: how many real neighbourhoods a sample lies in, in the features of the data set's own network.

Naeem et al. 2020 (arXiv:2002.09797), equation 3: balls of held-out real records that hold a sample, per sample, over k
(``_neighbours.py``). Unlike precision it is not moved by one outlier's large ball. About 1 for equal laws and more than
1 for samples crowded where real data are dense.
"""

import math
from typing import Any

from genfoundry.config.specs import Score
from genfoundry.metrics._neighbours import NeighbourConfig, neighbour_score

TITLE = "Density (own features)"
CAVEAT = (
    "Not bounded by 1: samples crowded where real data are dense exceed the floor, which is no merit. "
    "Read it with coverage."
)
COST = "as precision_domain"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, math.inf)


class Config(NeighbourConfig):
    """k and the most rows of a side."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Balls of real data that hold a sample, per sample, over k: at least 0.

    Equal numbers of both sides; count is that number, k the neighbours taken. The standard error is the
    jackknife over the rows of both sides, and errs upwards.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: k and the most rows of a side.

    Raises:
        DataError: Fewer than three rows on a side, unequal D, or a value that is not finite.
    """
    return neighbour_score("density_domain", "density", features, reference_features, config)
