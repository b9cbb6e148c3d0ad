"""Coverage: share of real neighbourhoods that hold a sample, in the features of the data set's own network.

Naeem et al. 2020 (arXiv:2002.09797), equation 4: a held-out real record counts if the closed ball to its k-th nearest
other holds any sample (``_neighbours.py``). Balls are those of real data, so that scattered samples don't help as they
do in recall. At equal n and equal laws it is below 1: about 1 - 1/2^k.
"""

from typing import Any

from genfoundry.config.specs import Score
from genfoundry.metrics._neighbours import NeighbourConfig, neighbour_score

TITLE = "Coverage (own features)"
CAVEAT = (
    "Depends on n of both sides, which are made equal; below 1 even for a perfect model (0.97 at k = 5): "
    "compare with the floor."
)
COST = "as precision_domain"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, 1.0)


class Config(NeighbourConfig):
    """k and the most rows of a side."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Share of the balls of real data that hold a sample, in [0, 1].

    Equal numbers of both sides; count is that number, k the neighbours taken. The standard error is the
    jackknife over the rows of both sides, and errs upwards.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: k and the most rows of a side.

    Raises:
        DataError: Fewer than three rows on a side, unequal D, or a value that is not finite.
    """
    return neighbour_score("coverage_domain", "coverage", features, reference_features, config)
