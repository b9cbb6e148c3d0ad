"""Self-BLEU: how much the samples are like each other (Zhu et al. 2018, arXiv:1802.01886, section 3.2).

BLEU (Papineni et al. 2002, doi:10.3115/1073083.1073135) of each sample with all others as its references, averaged:
``min(1, exp(1 - r/c)) (p_1 ... p_n)^(1/n)``, p_i the share of its i-grams found in a reference, each as often as in the
reference that has most of them, c its length and r the nearest length of a reference, the shorter of two. An order
without a match, or without an i-gram, counts as a tenth of a match (method 1 of Chen and Cherry 2014,
doi:10.3115/v1/W14-3346); no shared token at all is 0. A model that says one thing again and again comes near 1.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import TooFewError
from genfoundry.metrics.distinct_n import grams

TITLE = "Likeness of samples to each other"
CAVEAT = "Lower is better only down to real text's value: noise is unlike itself. It grows with the number of samples."
COST = "0.2 s for 64 samples of 256 tokens; grows with the tokens, not with the pairs"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, 1.0)

EPSILON = 0.1
"""Matches of an order that has none."""


class Config(Section):
    n: int = Field(default=4, ge=1)
    """Longest n-gram, in tokens; all orders up to it weigh the same."""
    most: int = Field(default=500, ge=3)
    """Samples that are compared, the first ones; the value grows with their number."""


class Bleu(NamedTuple):
    """BLEU of each sample against the others, and what changes when one of these is left out."""

    values: np.ndarray
    """float64 (N,)."""
    without: list[dict[int, float]]
    """For each sample its BLEU without another one, by the other's number, where it differs."""


class _Best(NamedTuple):
    """The samples that hold an n-gram most often, best first: (count, sample), three at most."""

    first: tuple[int, int]
    second: tuple[int, int]
    third: tuple[int, int]

    def besides(self, *samples: int) -> tuple[int, int]:
        """Best but for the given one or two."""
        return next(entry for entry in self if entry[1] not in samples)


def _bests(bags: Sequence[Counter[tuple[int, ...]]]) -> dict[tuple[int, ...], _Best]:
    holders = defaultdict(list)
    for number, bag in enumerate(bags):
        for gram, count in bag.items():
            holders[gram].append((count, number))
    nobody = [(0, -1), (0, -2), (0, -3)]
    # Of equal counts the lower number first, so that the choice never depends on a hash.
    return {
        gram: _Best(*sorted(found + nobody, key=lambda entry: (-entry[0], entry[1]))[:3])
        for gram, found in holders.items()
    }


def _combined(matches: Sequence[int], totals: Sequence[int], length: int, nearest: int) -> float:
    if not matches[0]:
        return 0.0
    logs = [math.log((m or EPSILON) / max(t, 1)) for m, t in zip(matches, totals, strict=True)]
    return min(1.0, math.exp(1 - nearest / length)) * math.exp(math.fsum(logs) / len(logs))


def self_bleu(samples: Sequence[Sequence[int]], n: int) -> Bleu:
    """BLEU of each sample against all others, in time that grows with their tokens, not with their pairs.

    A clipped count needs only the three samples that hold an n-gram most often: the best of the others, and the best
    when one of these is left out, for the jackknife.

    Args:
        samples: Three or more token sequences, none empty.
        n: Longest n-gram.
    """
    bags = [[Counter(grams(tokens, order)) for tokens in samples] for order in range(1, n + 1)]
    lengths = [len(tokens) for tokens in samples]
    by_length = _near_lengths(lengths)
    bests = [_bests(row) for row in bags]
    values, without = [], []
    for i, length in enumerate(lengths):
        totals = [row[i].total() for row in bags]
        matches = [0] * n
        lost: dict[int, list[int]] = {by_length[i][0]: [0] * n}
        for order in range(n):
            for gram, count in bags[order][i].items():
                best = bests[order][gram]
                most, owner = best.besides(i)
                matches[order] += min(count, most)
                if owner >= 0 and (less := min(count, most) - min(count, best.besides(i, owner)[0])):
                    lost.setdefault(owner, [0] * n)[order] += less
        near, next_near = (lengths[j] for j in by_length[i])
        values.append(_combined(matches, totals, length, near))
        without.append(
            {
                j: _combined(
                    [m - less for m, less in zip(matches, gone, strict=True)],
                    totals,
                    length,
                    next_near if j == by_length[i][0] else near,
                )
                for j, gone in lost.items()
            }
        )
    return Bleu(np.array(values), without)


def _near_lengths(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """For each sample the two others of nearest length, the shorter first among equally near."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    found: list[tuple[int, int]] = [(0, 0)] * len(lengths)
    for place, i in enumerate(order):
        around = order[max(place - 2, 0) : place] + order[place + 1 : place + 3]
        near = sorted(around, key=lambda j: (abs(lengths[j] - lengths[i]), lengths[j], j))
        found[i] = near[0], near[1]
    return found


def score(sample_tokens: Sequence[Sequence[int]], config: Config) -> Score:
    """Mean over samples, in [0, 1]; ``count`` is the number of samples compared.

    The standard error is the jackknife over samples (Quenouille 1956, doi:10.1093/biomet/43.3-4.353): a sample leaves
    as a sample and as a reference of the others.

    Args:
        sample_tokens: Token sequences without padding or boundary; empty ones are left out.
        config: Longest n-gram and number of samples.

    Raises:
        TooFewError: Fewer than three samples hold a token.
    """
    samples = [row for row in sample_tokens if len(row)][: config.most]
    if len(samples) < 3:
        raise TooFewError(
            f"self_bleu: {len(samples)} of {len(sample_tokens)} samples hold a token, 3 are needed; sample more"
        )
    found, n = self_bleu(samples, config.n), len(samples)
    left = found.values.sum() - found.values
    for i, changed in enumerate(found.without):
        for j, value in changed.items():
            left[j] += value - found.values[i]
    left /= n - 1
    influence = math.sqrt((n - 1) / n) * (left.mean() - left)
    se = float(np.sqrt((influence**2).sum()))
    return Score(float(found.values.mean()), n, se, {}, {"sample": influence})
