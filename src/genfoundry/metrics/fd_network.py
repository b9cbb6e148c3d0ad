"""Frechet distance of generated from held-out real records in the features of a published network.

Equation 6 of Heusel et al. 2017 (arXiv:1706.08500); arithmetic and error bar in ``_frechet.py``. In the features of
Inception-v3 it is the Frechet Inception Distance, ``fid``, with the TensorFlow weights of 2015 and TensorFlow 1's
bilinear resize. The papers' number is of 50,000 samples against the training set; this one is against the held-out
records, so that copying does not pay: compare it with its own floor, not with published values. Biased upwards by about
D/n, D the width of the features (Chong and Forsyth 2020, arXiv:1911.07023): compare at equal n.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._distances import frechet_difference, frechet_score
from genfoundry.metrics._paired import Difference

TITLE = "Fréchet distance"
CAVEAT = (
    "Against held-out records, not the training set of papers; biased upwards by about D/n: compare at equal n and "
    "beside the floor; the interval is that of the value less its bias. Each network has its own scale."
)
COST = "the network on every image once (0.05 to 0.5 s an image on a CPU core), then seconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)
NAMES = {"inception": "fid"}
"""What the score is called where a paper gave the name; else ``fd_`` and the network."""


class Config(Section):
    """No settings: all features, all rows."""


def score(
    network_features: Any,
    reference_network_features: Any,
    config: Config,
    name: str = "fd_network",
    *,
    sample_labels: Any = None,
    reference_labels: Any = None,
) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    The interval stands around the value less its ``bias``, where the distance of infinitely many rows is expected; the
    standard error covers the sampling of both sides, within labels where those were asked for. Below ten rows a
    feature neither is known.

    Args:
        network_features: (N, D) of the generated samples.
        reference_network_features: (M, D) of held-out real records.
        config: Nothing to set.
        name: Of the score, for errors.
        sample_labels: (N,) classes that were asked for, where there are any.
        reference_labels: (M,) classes of the held-out records, where they have any.

    Raises:
        DataError: Fewer than two rows on a side, unequal width, or a value that is not finite.
    """
    return frechet_score(name, network_features, reference_network_features, sample_labels, reference_labels)


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """Of both without bias, by the influence of every row."""
    return frechet_difference(a, b, "network_features")
