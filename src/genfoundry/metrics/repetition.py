"""Repetition inside a sample: the share of its n-grams that it has said before.

seq-rep-n of Welleck et al. 2020 (arXiv:1908.04319), section 6: ``1 - different n-grams / n-grams`` of each sample,
averaged. A model that loops comes near 1; real text is not at 0 either, and grows with length, so read it beside
held-out text cut to the same lengths.
"""

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import TooFewError
from genfoundry.metrics.distinct_n import grams

TITLE = "Repetition within a sample"
CAVEAT = "Lower is better only down to real text's value: noise repeats nothing. It grows with a sample's length."
COST = "0.01 s for 64 samples of 256 tokens"
HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False
RANGE = (0.0, 1.0)


class Config(Section):
    n: int = Field(default=4, ge=1)
    """Length of an n-gram, in tokens."""


def score(sample_tokens: Sequence[Sequence[int]], config: Config) -> Score:
    """Mean share in [0, 1); ``worst`` is the largest of a sample, ``count`` the number of samples of n tokens or more.

    The standard error is that of a mean over samples.

    Args:
        sample_tokens: Token sequences without padding or boundary.
        config: Length of the n-gram.

    Raises:
        TooFewError: Fewer than two samples are ``n`` tokens long.
    """
    found = [grams(tokens, config.n) for tokens in sample_tokens]
    shares = np.array([1 - len(set(bag)) / len(bag) for bag in found if bag])
    if len(shares) < 2:
        raise TooFewError(
            f"repetition: {len(shares)} of {len(found)} samples have {config.n} tokens, 2 are needed; "
            "lower n or sample longer"
        )
    influence = (shares - shares.mean()) / math.sqrt(len(shares) * (len(shares) - 1))
    se = float(np.sqrt((influence**2).sum()))
    return Score(float(shares.mean()), len(shares), se, {"worst": float(shares.max())}, {"sample": influence})
