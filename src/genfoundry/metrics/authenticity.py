"""Authenticity: samples farther from the nearest training record than that is from its own nearest.

Alaa et al. 2022 (arXiv:2102.08921), section 4.2 (AuthPct of dgm-eval, as a share). Fresh real data do not
score 1 or 1/2: measured on normal data, 0.38 in 2 dimensions and 0.87 in 512. So the value says little alone: what
counts is how far it lies below the held-out records'. A twentieth of copies moves it by less than a twentieth; the
counts of copies find those.
"""

from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics import _copies
from genfoundry.metrics._checks import rows

TITLE = "Authentic samples"
CAVEAT = "Only the gap to held-out records means something; noise is fully authentic, and a few copies hardly move it."
COST = "2.6 s for 2,000 samples and 10,000 training records in 512 features on one thread"
HIGHER_IS_BETTER = None
VERSION = 1
RANGE = (0.0, 1.0)


class Config(Section):
    """No settings."""


def score(features: Any, train_features: Any, config: Config) -> Score:
    """Share in [0, 1], with half of Wilson's 95 % interval over 1.96 as the standard error over samples.

    Args:
        features: (N, D) of the samples.
        train_features: (L, D) of the training records.
        config: Nothing to set.

    Raises:
        DataError: No sample, fewer than two training records, unequal widths, or a value that is not finite.
    """
    x, train = rows("authenticity: features", features, 1), rows("authenticity: train_features", train_features, 2)
    found = _copies.authenticity(x, train)
    return Score(found.value, len(x), found.se)
