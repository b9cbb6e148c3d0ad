"""Frechet distance without its bias, in the features of the data set's own network.

The distance at n rows is too high by about a/n, with an a that depends on the model (Chong and Forsyth 2020,
arXiv:1911.07023): equal n does not cancel it. Here ``2 F(n) - mean F(n/2)`` over two fixed random halves of both
sides; their FID-infinity fits a line in 1/n through fifteen sizes. Below about ten rows a feature
(``rows_per_feature``) the bias has another form: the result has no error bar, and below two stays too high.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import two_sets
from genfoundry.metrics._distances import SIDES, frechet_difference
from genfoundry.metrics._frechet import frechet_distance, frechet_extrapolated
from genfoundry.metrics._paired import Difference, least_rows

TITLE = "Fréchet distance, bias removed (own features)"
CAVEAT = (
    "Noisier than the plain distance, and raised to 0 where the extrapolation falls below. "
    "Below 10 rows a feature it has no error bar, below 2 part of the bias stays."
)
COST = "three Fréchet distances; about nine where samples and as many real records of each class have labels"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)
RATIO_TO_FLOOR = False

LEAST_ROWS = 4
"""Two for each half."""


class Config(Section):
    """No settings: all features, all rows, fixed halves."""


def score(
    features: Any,
    reference_features: Any,
    config: Config,
    *,
    sample_labels: Any = None,
    reference_labels: Any = None,
) -> Score:
    """Extrapolated squared distance, at least 0, in squared units of the features.

    ``unclipped`` is the extrapolation as it came out, ``rows_per_feature`` the smaller side's; ``extrapolated`` is 0
    where a side has fewer than four rows, which can't be halved: there the plain distance stands. The standard error
    covers the sampling of both sides, within labels where those were asked for; NaN below ten rows a feature.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Nothing to set.
        sample_labels: (N,) classes that were asked for, where there are any.
        reference_labels: (M,) classes of the held-out records, where they have any.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = two_sets("fid_inf_domain", features, reference_features, SIDES)
    least, width = min(len(x), len(y)), x.shape[1]
    extra: dict[str, float] = {"n_reference": len(y), "rows_per_feature": least / width}
    if least < LEAST_ROWS:
        return Score(frechet_distance(x, y), len(x), extra={**extra, "extrapolated": 0})
    found = frechet_extrapolated(x, y, sample_labels, reference_labels)
    extra |= {"extrapolated": 1, "unclipped": found.unclipped}
    if least < least_rows(width):
        return Score(found.distance, len(x), extra=extra)
    influence = {"sample": found.influence, "test": found.reference_influence}
    return Score(found.distance, len(x), found.se, extra, influence)


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """Before either is raised to 0, by the influence of every row."""
    return frechet_difference(a, b, "features")
