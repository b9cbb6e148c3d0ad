"""Memorization-informed Fréchet distance of generated from training records, in the features of a published network.

Bai et al. 2021 (arXiv:2106.03062), section 4: the Fréchet distance over the mean cosine distance of a sample to the
nearest training record, where that is below a threshold, else the Fréchet distance alone. In the features of
Inception-v3 it is MiFID, ``mifid``, with the threshold 0.1 of Kaggle's competition of 2019. As published both parts are
against the training records, so it is no replacement for ``fd``, which is against held-out ones. For each sample the
nearest training record is sought, as the paper says; torchmetrics 1.9 seeks the nearest sample of each real record.
"""

import math
from typing import Any

from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import per_unit, two_sets
from genfoundry.metrics._cosine import directions, nearest_angles
from genfoundry.metrics._frechet import frechet

TITLE = "Memorization-informed distance"
CAVEAT = (
    "It jumps where the memorization distance crosses the threshold, which is Inception's; biased upwards by about "
    "D/n, and copies too few to move the mean are not seen: read near_copies."
)
COST = "as fd, and the similarity of every sample with every training record"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)
BY_DEFAULT = False
FLOOR = "reference"
NAMES = {"inception": "mifid"}
"""What the score is called where a paper gave the name; else ``mifid_`` and the network."""

SMALLEST = 1e-14
"""Added to the memorization distance, as by the published code: copies have a distance of 0."""


class Config(Section):
    threshold: float = Field(default=0.1, gt=0, le=1)
    """Memorization distance from which there is no penalty; 0.1 is the competition's for Inception's features."""


def score(network_features: Any, train_network_features: Any, config: Config, name: str = "mifid_network") -> Score:
    """At least 0, in squared units of the features; ``frechet`` and ``memorization`` are its two parts.

    The standard error covers the sampling of both sides to first order, the nearest record of each sample held fixed.

    Args:
        network_features: (N, D) of the generated samples.
        train_network_features: (L, D) of training records.
        config: Threshold.
        name: Of the score, for errors.

    Raises:
        DataError: Fewer than two rows on a side, unequal width, a row of zeros, or a value that is not finite.
    """
    x, train = two_sets(name, network_features, train_network_features, ("features", "train_features"))
    distance = frechet(x, train)
    angles = nearest_angles(directions(f"{name}: features", x), directions(f"{name}: train_features", train))
    memorized = float(angles.mean())
    copies = memorized < config.threshold
    penalty = 1 / (memorized + SMALLEST) if copies else 1.0
    own = penalty * distance.influence
    if copies:
        own = own - distance.distance * penalty**2 * (angles - memorized)
    influence = {"sample": per_unit(own), "train": per_unit(penalty * distance.reference_influence)}
    se = math.sqrt(sum(float((part**2).sum()) for part in influence.values()))
    extra = {"frechet": distance.distance, "memorization": memorized, "n_train": len(train)}
    return Score(distance.distance * penalty, len(x), se, extra, influence)
