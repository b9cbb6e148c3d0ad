"""Recall: share of real data that the samples reach, in the features of the data set's own network.

Kynkaanniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2 with the sides swapped: a held-out real record counts if
it is in a closed ball around a sample that reaches to the sample's k-th nearest other (``_neighbours.py``). It says how
much of the variety is there, not how good it is: widely scattered samples have large balls and score high.
"""

from typing import Any

from genfoundry.config.specs import Score
from genfoundry.metrics._neighbours import NeighbourConfig, neighbour_score

TITLE = "Recall (own features)"
CAVEAT = (
    "Widely scattered bad samples have large balls and score high: read it with precision, "
    "and beside the floor at equal n."
)
COST = "as precision_domain"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, 1.0)


class Config(NeighbourConfig):
    """k and the most rows of a side."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Share of real data in a ball of samples, in [0, 1].

    Equal numbers of both sides; count is that number, k the neighbours taken. The standard error is the
    jackknife over the rows of both sides, and errs upwards.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: k and the most rows of a side.

    Raises:
        DataError: Fewer than three rows on a side, unequal D, or a value that is not finite.
    """
    return neighbour_score("recall_domain", "recall", features, reference_features, config)
