"""Inception score by a published network (Salimans et al. 2016, arXiv:1606.03498, section 4).

``exp(mean_x KL(p(y|x) || p(y)))``, high where the network is sure of each sample and of all classes alike, in ten
contiguous parts, cut at ``i * n // splits``, whose mean is reported. By Inception-v3 it is ``isc``, over the 1,008
outputs of TensorFlow's weights, logits without the bias as in the published code. It says nothing of data that are not
of the network's classes (Barratt and Sharma 2018, arXiv:1801.01973), and a part with few images can't reach many
classes: at n images it is below n / splits.
"""

import math
from typing import Any

from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError, TooFewError
from genfoundry.metrics._checks import rows
from genfoundry.metrics._inception import inception_score, sureness

TITLE = "Inception score"
CAVEAT = (
    "About the network's classes only; never sees real data, misses copying and lack of variety within a class, grows "
    "with n / splits, and may exceed the floor: read it, don't promote by it."
)
COST = "the network on every image once (shared with fd), then under 1 s for 10,000 images"
HIGHER_IS_BETTER = True
VERSION = 2
RANGE = (1.0, math.inf)
NAMES = {"inception": "isc"}
"""What the score is called where a tool gave the name; else ``is_`` and the network."""


class Config(Section):
    splits: int = Field(default=10, ge=1)
    """Contiguous parts, each scored on its own; ten in papers."""


def score(network_logits: Any, config: Config, name: str = "is_network") -> Score:
    """Between 1 and the number of classes: the mean over the parts, whose population deviation is ``splits_std``.

    The standard error is that over samples, to first order (a sample's influence is its own divergence), as one part
    has it, in proportion to the value; it does not cover the bias of small parts.

    Args:
        network_logits: (N, K) of the generated samples, before the softmax.
        config: Number of parts.
        name: Of the score, for errors.

    Raises:
        TooFewError: Fewer than two rows a part.
        DataError: Fewer than two classes, or a logit that is not finite.
    """
    values = rows(f"{name}: logits", network_logits)
    if values.shape[1] < 2:
        raise DataError(f"{name}: logits have 1 column; a score over classes needs at least 2")
    if len(values) < 2 * config.splits:
        raise TooFewError(
            f"{name}: {len(values)} samples for {config.splits} parts; each needs 2: lower splits or sample more"
        )
    found, whole = inception_score(values, config.splits), sureness(values)
    scale = found.mean / whole.value
    influence = {"sample": whole.influence * scale}
    return Score(found.mean, len(values), whole.se * scale, {"splits_std": found.std}, influence)
