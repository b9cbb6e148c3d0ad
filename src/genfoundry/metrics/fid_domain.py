"""Frechet distance of generated from held-out real images in the features of the data set's own network.

Equation 6 of Heusel et al. 2017 (arXiv:1706.08500); arithmetic and error bar in ``_frechet.py``. It is not the FID of
papers, whose features are Inception's: values of different networks are not comparable, so the network's digest is
part of the protocol. Biased upwards by about D/n: compare at equal n, and read it against the floor, real training
data held against the same reference at the same n.
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import per_unit, two_sets
from genfoundry.metrics._frechet import frechet

TITLE = "Fréchet distance (own features)"
CAVEAT = (
    "Biased upwards by about D/n: compare at equal n and beside the floor. Not the FID of papers, which is Inception's."
)
COST = "0.6 s for 5,000 x 512 with its error bar, on one thread"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: all features, all rows."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    The standard error covers the sampling of both sides to first order (influence functions); it is too small below
    ten rows a feature, and does not cover the bias.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = two_sets("fid_domain", features, reference_features, ("features", "reference_features"))
    result = frechet(x, y)
    extra: dict[str, float] = {"n_reference": len(y)}
    if result.spread > 0:
        extra["relative_to_spread"] = result.distance / result.spread
    influence = {"sample": per_unit(result.influence), "test": per_unit(result.reference_influence)}
    return Score(result.distance, len(x), result.se, extra, influence)
