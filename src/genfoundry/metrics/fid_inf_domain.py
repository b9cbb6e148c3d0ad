"""Frechet distance without its bias, in the features of the data set's own network.

The distance at n rows is too high by about a/n, with an a that depends on the model (Chong and Forsyth 2020,
arXiv:1911.07023): equal n does not cancel it. Here ``2 F(n) - mean F(n/2)`` over two fixed random halves of both
sides; their FID-infinity fits a line in 1/n through fifteen sizes. Below about two rows a feature
(``rows_per_feature``) the bias has another form and the result stays too high.
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import per_unit, two_sets
from genfoundry.metrics._frechet import frechet, frechet_extrapolated

TITLE = "Fréchet distance, bias removed (own features)"
CAVEAT = (
    "Noisier than the plain distance, and raised to 0 where the extrapolation falls below. "
    "Below 2 rows a feature part of the bias stays."
)
COST = "three Fréchet distances"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)
RATIO_TO_FLOOR = False

LEAST_ROWS = 4
"""Two for each half."""


class Config(Section):
    """No settings: all features, all rows, fixed halves."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Extrapolated squared distance, at least 0, in squared units of the features.

    ``unclipped`` is the extrapolation as it came out, ``rows_per_feature`` the smaller side's; ``extrapolated`` is 0
    where a side has fewer than four rows, which can't be halved: there the plain distance stands. The standard error
    covers the sampling of both sides to first order, for the combination of the three distances.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = two_sets("fid_inf_domain", features, reference_features, ("features", "reference_features"))
    least = min(len(x), len(y))
    extra: dict[str, float] = {"n_reference": len(y), "rows_per_feature": least / x.shape[1]}
    if least < LEAST_ROWS:
        plain = frechet(x, y)
        influence = {"sample": per_unit(plain.influence), "test": per_unit(plain.reference_influence)}
        return Score(plain.distance, len(x), plain.se, {**extra, "extrapolated": 0}, influence)
    found = frechet_extrapolated(x, y)
    influence = {"sample": per_unit(found.influence), "test": per_unit(found.reference_influence)}
    extra |= {"extrapolated": 1, "unclipped": found.unclipped}
    return Score(found.distance, len(x), found.se, extra, influence)
