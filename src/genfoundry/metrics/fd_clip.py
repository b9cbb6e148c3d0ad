"""Frechet distance of generated from held-out real images in the image embedding of CLIP.

Kynkäänniemi et al. 2023 (arXiv:2203.06026), section 5, ask for it beside FID: Inception's features reward samples that
look like ImageNet's classes, CLIP's much less. Equation 6 of Heusel et al. 2017 (arXiv:1706.08500) on the projected
embedding of Radford et al. 2021 (arXiv:2103.00020), not normalised. Biased upwards by about D/n: compare at equal n.
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._published import frechet_score

TITLE = "Fréchet distance (CLIP)"
CAVEAT = (
    "Biased upwards by about D/n: compare at equal n and beside the floor. Its scale is not FID's. CLIP crops "
    "images that are not square, and has learnt from captions: what they leave out it sees less well."
)
COST = "the network on every image once (wants a GPU), then seconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: all features, all rows."""


def score(clip_features: Any, reference_clip_features: Any, config: Config) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    The standard error covers the sampling of both sides to first order (influence functions); it is too small below
    ten rows a feature, and does not cover the bias.

    Args:
        clip_features: (N, D) of the generated samples.
        reference_clip_features: (M, D) of held-out real records.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal width, or a value that is not finite.
    """
    return frechet_score("fd_clip", "clip", clip_features, reference_clip_features)
