"""Kernel distance of generated from held-out real records in the features of a published network.

Binkowski et al. 2018 (arXiv:1801.01401), section 4: the unbiased squared maximum mean discrepancy with the kernel
``(x.y / D + 1)^3``, over all pairs instead of random subsets, so that it has no seed (``_kernel.py``); features as
they are, as published. In the features of Inception-v3 it is the Kernel Inception Distance, ``kid``. Unbiased at any n,
so it is the one to read where images are too few for the Fréchet distance.
"""

from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import two_sets
from genfoundry.metrics._distances import SIDES, kernel_difference, kernel_score
from genfoundry.metrics._paired import Difference

TITLE = "Kernel distance"
CAVEAT = (
    "Near 0 it is not normal and may be negative; weak against small differences of spread: never promote by it alone. "
    "Papers that average over subsets of 1,000 get the same mean with more noise."
)
COST = "the network on every image once (shared with fd), then 2 to 3 s for 5,000 images on each side"
HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False
NAMES = {"inception": "kid"}
"""What the score is called where a paper gave the name; else ``kd_`` and the network."""


class Config(Section):
    """No settings: all pairs, features as they are."""


def score(
    network_features: Any,
    reference_network_features: Any,
    config: Config,
    name: str = "kd_network",
    *,
    sample_labels: Any = None,
) -> Score:
    """Squared discrepancy, about 0 for equal laws. The standard error is the jackknife over the rows of both sides.

    Args:
        network_features: (N, D) of the generated samples.
        reference_network_features: (M, D) of held-out real records.
        config: Nothing to set.
        name: Of the score, for errors.
        sample_labels: (N,) classes that were asked for, where there are any.

    Raises:
        DataError: Fewer than three rows on a side (the error bar leaves one out), unequal width, or a value that is
            not finite.
    """
    return kernel_score(*two_sets(name, network_features, reference_network_features, SIDES, 3), sample_labels)


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the jackknife, a row left out of both models at once."""
    return kernel_difference(
        a["network_features"],
        b["network_features"],
        a["reference_network_features"],
        a.get("sample_labels"),
        b.get("sample_labels"),
    )
