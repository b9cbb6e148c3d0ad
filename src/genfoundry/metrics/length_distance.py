"""Kolmogorov-Smirnov distance between the lengths of the samples and of held-out documents.

Smirnov 1948 (doi:10.1214/aoms/1177730256): the largest gap between the two distribution functions of the number of
tokens. Sampling stops at a limit, so both are cut at it: a document that is longer counts as one of that length.
"""

import math
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError

TITLE = "Distance of lengths"
CAVEAT = "It sees lengths up to the sampling limit alone. Never 0 for few samples: read it beside real documents'."
COST = "milliseconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, 1.0)


class Config(Section):
    limit: int | None = Field(default=None, ge=1)
    """Most tokens of a sample; empty takes the longest sample's, the limit unless all of them ended by themselves."""


def lengths_of(what: str, rows: Sequence[Sequence[int]]) -> np.ndarray:
    """int64 (N,), sorted."""
    if len(rows) < 2:
        raise DataError(f"length_distance: {what} are {len(rows)}; give at least 2")
    return np.sort([len(row) for row in rows])


def score(sample_tokens: Sequence[Sequence[int]], reference_tokens: Sequence[Sequence[int]], config: Config) -> Score:
    """Distance in [0, 1]; ``mean`` and ``reference_mean`` are the mean lengths cut at ``limit``.

    The standard error is that of the gap at the length where it is largest, as if that length were given: right for
    a clear difference, too small an allowance for chance near 0, where the floor says more.

    Args:
        sample_tokens: Token sequences without padding or boundary.
        reference_tokens: The held-out documents' tokens.
        config: The limit of the sampling.

    Raises:
        DataError: Fewer than two sequences on a side, or only empty samples without a limit.
    """
    x, y = lengths_of("sample_tokens", sample_tokens), lengths_of("reference_tokens", reference_tokens)
    limit = config.limit or int(x[-1])
    if limit == 0:
        raise DataError(f"length_distance: all {len(x)} samples are empty; look at them, or give the limit")
    x, y = np.minimum(x, limit), np.minimum(y, limit)
    at = np.union1d(x, y)
    below_x, below_y = (np.searchsorted(side, at, side="right") / len(side) for side in (x, y))
    widest = int(np.abs(below_x - below_y).argmax())
    p, q = float(below_x[widest]), float(below_y[widest])
    sign = 1.0 if p >= q else -1.0
    influence = {
        name: direction * ((side <= at[widest]) - share) / math.sqrt(len(side) * (len(side) - 1))
        for name, side, share, direction in (
            ("sample", np.minimum([len(row) for row in sample_tokens], limit), p, sign),
            ("test", np.minimum([len(row) for row in reference_tokens], limit), q, -sign),
        )
    }
    se = math.sqrt(sum(float((part**2).sum()) for part in influence.values()))
    extra = {"limit": limit, "mean": float(x.mean()), "reference_mean": float(y.mean()), "n_reference": len(y)}
    return Score(abs(p - q), len(x), se, extra, influence)
