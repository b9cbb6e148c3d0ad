"""Longest run of tokens that a sample shares word for word with any one training document, averaged over samples.

Runs of 50 tokens are what Lee et al. 2022 (arXiv:2107.06499) count as duplicated and Carlini et al. 2023
(arXiv:2202.07646) as memorised. Exact over the whole training text. Real text shares long runs with real text, so the
value of held-out text, cut to the same lengths, is reported with it.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import TooFewError
from genfoundry.metrics._overlap import longest_common_runs

TITLE = "Longest run copied from training text"
CAVEAT = "In tokens, so it depends on the tokenizer, and it grows with a sample's length: compare at equal lengths."
COST = "1 s for 64 samples of 256 tokens against 4.4 million training tokens on one thread"
HIGHER_IS_BETTER = False
VERSION = 1
RATIO_TO_FLOOR = False
RANGE = (0.0, math.inf)


class Config(Section):
    long: int = Field(default=50, ge=1)
    """Tokens from which a run counts as long in ``long_samples``."""


def score(sample_tokens: Sequence[Sequence[int]], train_documents: Any, config: Config) -> Score:
    """Mean over samples, in tokens, with the standard error of a mean.

    ``longest`` is the longest run of all, ``long_samples`` the number of samples with a long one, ``whole_samples`` the
    number that stand as a whole in a training document.

    Args:
        sample_tokens: Token sequences without padding or boundary.
        train_documents: ``tokens`` and ``offsets`` of all training documents.
        config: What counts as long.

    Raises:
        TooFewError: Fewer than two samples hold a token.
    """
    samples = [row for row in sample_tokens if len(row)]
    if len(samples) < 2:
        raise TooFewError(
            f"longest_overlap: {len(samples)} of {len(sample_tokens)} samples hold a token, 2 are needed; sample more"
        )
    lengths = longest_common_runs(samples, train_documents.tokens, train_documents.offsets).lengths
    n, mean = len(lengths), float(lengths.mean())
    influence = (lengths - mean) / math.sqrt(n * (n - 1))
    extra = {
        "longest": int(lengths.max()),
        "long_samples": int((lengths >= config.long).sum()),
        "whole_samples": int((lengths == np.array([len(row) for row in samples])).sum()),
    }
    return Score(mean, n, float(np.sqrt((influence**2).sum())), extra, {"sample": influence})
