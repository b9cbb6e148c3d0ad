"""Inception score by the data set's own classifier (Salimans et al. 2016, arXiv:1606.03498, section 4).

``exp(mean_x KL(p(y|x) || p(y)))``: from 1 (every sample looks alike to the classifier) to K (each sample is surely of
one class, all classes equally often). It never looks at real data and cannot see memorising or a missing
variety within a class: read it beside the value of the held-out records, and never promote by it alone. One split
over all samples, not ten, so there is no random partition and no bias by small splits (Barratt and Sharma 2018,
arXiv:1801.01973).
"""

import math
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import rows
from genfoundry.metrics._inception import sureness

TITLE = "Inception score (own classifier)"
CAVEAT = (
    "Never sees real data, misses copying and lack of variety within a class, and may exceed the floor: "
    "read it, don't promote by it."
)
COST = "milliseconds"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (1.0, math.inf)


class Config(Section):
    """No settings: all samples in one split."""


def score(logits: Any, config: Config) -> Score:
    """Between 1 and K. The standard error is exact to first order: a sample's influence on the mean is its own KL.

    Args:
        logits: (N, K) of the generated samples, before the softmax.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows or classes, or a logit that is not finite.
    """
    values = rows("is_domain: logits", logits)
    if values.shape[1] < 2:
        raise DataError("is_domain: logits have 1 column; a score over classes needs at least 2")
    found = sureness(values)
    return Score(found.value, len(values), found.se, {}, {"sample": found.influence})
