"""Precision: share of the samples that lie among real data, in the features of the data set's own network.

Kynkaanniemi et al. 2019 (arXiv:1904.06991), equations 1 and 2: a sample counts if it is in a closed ball around a
held-out real record that reaches to the record's k-th nearest other (``_neighbours.py``). It says how many samples are
believable, not how varied they are: one good sample repeated scores 1. A single outlier among the real records has a
large ball, in which many bad samples may lie.
"""

from typing import Any

from genfoundry.config.specs import Score
from genfoundry.metrics._neighbours import NeighbourConfig, neighbour_score

TITLE = "Precision (own features)"
CAVEAT = (
    "One good sample repeated scores 1, and an outlier among the real records takes in bad samples: "
    "read it with recall, and beside the floor at equal n."
)
COST = "quadratic in the rows: seconds for 5,000 x 512"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, 1.0)


class Config(NeighbourConfig):
    """k and the most rows of a side."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Share of the samples in a ball of real data, in [0, 1].

    Equal numbers of both sides; count is that number, k the neighbours taken. The standard error is the
    jackknife over the rows of both sides, and errs upwards.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: k and the most rows of a side.

    Raises:
        DataError: Fewer than three rows on a side, unequal D, or a value that is not finite.
    """
    return neighbour_score("precision_domain", "precision", features, reference_features, config)
