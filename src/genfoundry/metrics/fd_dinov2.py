"""Frechet distance of generated from held-out real images in the features of DINOv2.

Stein et al. 2023 (arXiv:2306.04675) found it to follow people's judgement of realism better than Inception's.
Equation 6 of Heusel et al. 2017 (arXiv:1706.08500) on the class token of Oquab et al. 2023 (arXiv:2304.07193), images
resized whole to 224 x 224. Biased upwards by about D/n: compare at equal n.
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._published import frechet_score

TITLE = "Fréchet distance (DINOv2)"
CAVEAT = (
    "Biased upwards by about D/n, D the width of the chosen DINOv2: compare at equal n and beside the floor. Its scale "
    "is not FID's, and models of other sizes give other numbers."
)
COST = "the network on every image once (wants a GPU), then seconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: all features, all rows."""


def score(dinov2_features: Any, reference_dinov2_features: Any, config: Config) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    The standard error covers the sampling of both sides to first order (influence functions); it is too small below
    ten rows a feature, and does not cover the bias.

    Args:
        dinov2_features: (N, D) of the generated samples.
        reference_dinov2_features: (M, D) of held-out real records.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal width, or a value that is not finite.
    """
    return frechet_score("fd_dinov2", "dinov2", dinov2_features, reference_dinov2_features)
