"""Frechet Inception Distance: of generated from held-out real images in the features of Inception-v3.

Heusel et al. 2017 (arXiv:1706.08500), equation 6, with the TensorFlow weights of 2015 and TensorFlow 1's bilinear
resize. The papers' number is of 50,000 samples against the training set; this one is against the held-out records,
so that copying does not pay: it stands beside its own floor, not in a table of papers. Biased upwards by about D/n with
D = 2048 (Chong and Forsyth 2020, arXiv:1911.07023): compare at equal n.
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._published import frechet_score

TITLE = "FID (Inception-v3)"
CAVEAT = (
    "Against held-out records, not the training set of papers; biased upwards by about 2048/n: compare at equal n and "
    "beside the floor; below 20,480 images don't trust its error bar. Knows ImageNet's classes and little else."
)
COST = "the network on every image once, 0.2 s an image on one CPU core, then seconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: all features, all rows."""


def score(inception_features: Any, reference_inception_features: Any, config: Config) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    The standard error covers the sampling of both sides to first order (influence functions); it is too small below
    ten rows a feature, and does not cover the bias.

    Args:
        inception_features: (N, 2048) of the generated samples.
        reference_inception_features: (M, 2048) of held-out real records.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal width, or a value that is not finite.
    """
    return frechet_score("fid", "inception", inception_features, reference_inception_features)
