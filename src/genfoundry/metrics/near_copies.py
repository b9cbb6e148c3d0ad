"""Samples that lie unusually near to one training record, by the measure of held-out records.

After Carlini et al. 2023 (arXiv:2301.13188): the distance to the nearest training record over the mean
distance to the k nearest. Where they take a fixed threshold, this takes the 1 % quantile of held-out records: so a
hundredth of fresh real data counts as copied, whatever the data and the network, and more of the samples is copying.
The held-out records fall into two fixed halves: the first sets the threshold, so that the second is an honest floor.
Measured on the default digits: of 31 synthetic duplicates it finds 31 unchanged, 30 under noise of half a grey step,
15 under a whole one, none shifted by a pixel of their 8 x 8: the network's features part those like other records.
"""

from typing import Any

from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import rows, same_width
from genfoundry.metrics._copies import halves, near_copy_share, usual_k

TITLE = "Near copies of training records"
CAVEAT = (
    "As blind as the features: a shifted copy may escape them, and what they confuse counts as near: look at the pairs."
)
COST = "5 s for 2,000 samples, 1,000 held-out and 10,000 training records in 512 features on one thread"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, 1.0)
FLOOR = "reference"
RATIO_TO_FLOOR = False


class Config(Section):
    k: int | None = Field(default=None, ge=2)
    """Neighbours that the nearest is compared with; empty takes 50, or half of fewer than 100 training records."""
    quantile: float = Field(default=0.01, gt=0, lt=1)
    """Share of held-out records that may count as copies."""


def score(features: Any, train_features: Any, reference_features: Any, config: Config) -> Score:
    """Share in [0, 1]; ``threshold`` is the ratio up to which a sample counts, ``expected`` the share by chance.

    Only the first of ``_copies.halves`` of the held-out records sets the threshold.

    Args:
        features: (N, D) of the samples.
        train_features: (L, D) of the training records.
        reference_features: (M, D) of held-out records.
        config: Neighbours and quantile.

    Raises:
        DataError: Fewer than four training or held-out records, k not below L, unequal widths, a value not finite.
    """
    x, train = rows("near_copies: features", features, 1), rows("near_copies: train_features", train_features, 4)
    held_out = rows("near_copies: reference_features", reference_features, 4)
    same_width("near_copies", train, held_out, ("train_features", "reference_features"))
    setters, _ = halves(len(held_out))
    k = config.k or usual_k(len(train))
    found = near_copy_share(x, train, held_out[setters], k, config.quantile)
    extra = {
        "copies": int(found.copied.sum()),
        "threshold": found.threshold,
        "expected": found.expected,
        "k": k,
        "n_reference": len(setters),
    }
    return Score(found.value, len(x), found.se, extra)
