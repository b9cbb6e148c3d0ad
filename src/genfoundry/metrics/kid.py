"""Kernel Inception Distance: of generated from held-out real images in the features of Inception-v3.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared maximum mean discrepancy with the kernel
``(x.y / D + 1)^3``, over all pairs instead of random subsets, so that it has no seed (``_kernel.py``); features as
they are, as published. Unbiased at any n, so it is the one to read where images are too few for FID.
"""

from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import two_sets
from genfoundry.metrics._kernel import kernel_distance

TITLE = "KID (Inception-v3)"
CAVEAT = (
    "Near 0 it is not normal and may be negative; weak against small differences of spread: never promote by it alone. "
    "Papers that average over subsets of 1,000 get the same mean with more noise."
)
COST = "the network on every image once (shared with fid), then 2 to 3 s for 5,000 images on each side"
HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False


class Config(Section):
    """No settings: all pairs, features as they are."""


def score(inception_features: Any, reference_inception_features: Any, config: Config) -> Score:
    """Squared discrepancy, about 0 for equal laws. The standard error is the jackknife over the rows of both sides.

    Args:
        inception_features: (N, 2048) of the generated samples.
        reference_inception_features: (M, 2048) of held-out real records.
        config: Nothing to set.

    Raises:
        DataError: Fewer than three rows on a side (the error bar leaves one out), unequal width, or a value that is
            not finite.
    """
    names = "inception_features", "reference_inception_features"
    x, y = two_sets("kid", inception_features, reference_inception_features, names, 3)
    result = kernel_distance(x, y)
    return Score(result.value, len(x), result.se, {"n_reference": len(y)})
