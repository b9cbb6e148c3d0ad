"""Inception Score (Salimans et al. 2016, arXiv:1606.03498, section 4): Inception-v3 is sure, of all classes alike.

``exp(mean_x KL(p(y|x) || p(y)))`` over the 1,008 outputs of the TensorFlow weights, logits without the bias as in the
published code, in ten contiguous parts whose mean is reported. It says nothing of data that are not ImageNet's (Barratt
and Sharma 2018, arXiv:1801.01973), and a part with few images can't reach many classes: at n images it is
below n / splits.
"""

import math
from typing import Any

from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import rows
from genfoundry.metrics._inception import inception_score, sureness

TITLE = "Inception score (Inception-v3)"
CAVEAT = (
    "About ImageNet's classes only; never sees real data, misses copying and lack of variety within a class, grows "
    "with n / splits, and may exceed the floor: read it, don't promote by it."
)
COST = "the network on every image once (shared with fid), then under 1 s for 10,000 images"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (1.0, math.inf)


class Config(Section):
    splits: int = Field(default=10, ge=1)
    """Contiguous parts, each scored on its own; ten in papers."""


def score(inception_logits: Any, config: Config) -> Score:
    """Between 1 and 1008: the mean over the parts, whose population deviation is ``splits_std``.

    The standard error is that over samples, to first order (a sample's influence is its own divergence), as one part
    has it, in proportion to the value; it does not cover the bias of small parts.

    Args:
        inception_logits: (N, 1008) of the generated samples, before the softmax, without the bias.
        config: Number of parts.

    Raises:
        DataError: Fewer than two rows a part, fewer than two classes, or a logit that is not finite.
    """
    values = rows("isc: inception_logits", inception_logits)
    if values.shape[1] < 2:
        raise DataError("isc: inception_logits have 1 column; a score over classes needs at least 2")
    if len(values) < 2 * config.splits:
        raise DataError(
            f"isc: {len(values)} samples for {config.splits} parts; each needs 2: lower splits or sample more"
        )
    found, whole = inception_score(values, config.splits), sureness(values)
    se = whole.se * found.mean / whole.value
    return Score(found.mean, len(values), se, {"splits_std": found.std})
