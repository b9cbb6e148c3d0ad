"""Two-sample drift tests of new records against those learnt, with thresholds from null runs.

A null run splits the learnt records at random as if a part of them were new, and so shows what chance alone does at
these very sizes. Of each field the population stability index and the Kolmogorov-Smirnov distance are taken
(``data/validate/distances.py``), each in units of its null runs; the largest of all is compared with the largest of
each null run (Westfall and Young 1993, the single-step maxT), so that many fields do not add up to a false alarm. Of
features or n-gram profiles it is the squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, section 5) with
the cubic kernel of the kernel distance. A difference counts only if it is both improbable and large.

Records of one group or one time are alike, so a new group may look like drift: it is news, and may well be learnt.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.data.validate.distances import LEFT_OUT, POINTS, WORDS, coarse, kolmogorov, stability

if TYPE_CHECKING:
    import pandas as pd

LEAST = 50
"""Least number of records on each side for a test."""

RUNS = 4.0
"""Null runs times alpha of a test: the smallest p a test can show is a quarter of its alpha."""

ROWS = 1000
"""Rows of features on each side at most: the kernel matrix of twice as many is 32 MB."""


@dataclass(frozen=True)
class Finding:
    """One statistic."""

    name: str
    """Such as ``psi of width``."""
    value: float
    """The effect size: the statistic itself; for features the squared distance over the variance within."""
    p: float
    """Probability of one as extreme, among all that were looked at, without drift."""
    counts: bool
    """Improbable enough, and large enough."""

    def words(self) -> str:
        return f"{self.name} {self.value:.3g} (p {self.p:.2g})"


def sizes(old: int, new: int) -> int:
    """How many rows play the new ones: so many that the learnt ones can be split likewise; 0: too few on a side."""
    taken = min(new, old // 2)
    return taken if taken >= LEAST else 0


def runs_of(alpha: float) -> int:
    """Null runs for a test at ``alpha``."""
    return int(np.ceil(RUNS / alpha))


def fields_shift(
    old: "pd.DataFrame", new: "pd.DataFrame", alpha: float, floors: Mapping[str, float], generator: np.random.Generator
) -> list[Finding]:
    """PSI and KS of each field that both tables have; empty with too few records.

    Args:
        old: Learnt records, one row each.
        new: New ones.
        alpha: Probability that any field counts without drift.
        floors: Least ``psi`` and ``ks`` that count.
        generator: Of the null runs.
    """
    names = [name for name in sorted(old.columns) if name in new.columns and name not in LEFT_OUT]
    m = sizes(len(old), len(new))
    if not names or not m:
        return []
    rows = [generator.permutation(len(old))[: len(old) - m], generator.permutation(len(new))[:m]]
    codes = [_codes(old[name], new[name]) for name in names]
    observed = np.array([_statistics(*_counts(code, rows), ordered) for *code, ordered in codes])
    null = np.empty((runs_of(alpha), *observed.shape))
    totals = [np.bincount(one[0], minlength=one[2]) for one in codes]
    for run in range(len(null)):
        part = generator.permutation(len(old))[:m]
        for number, (total, (code, _, bins, ordered)) in enumerate(zip(totals, codes, strict=True)):
            mine = np.bincount(code[part], minlength=bins)
            null[run, number] = _statistics(total - mine, mine, ordered)
    return _judged(names, observed, null, alpha, floors)


def _judged(
    names: list[str], observed: np.ndarray, null: np.ndarray, alpha: float, floors: Mapping[str, float]
) -> list[Finding]:
    mean, spread = null.mean(axis=0), null.std(axis=0)
    scale = np.where(spread > 0, spread, 1)
    largest = ((null - mean) / scale).max(axis=(1, 2))
    found = []
    for row, name in enumerate(names):
        for column, kind in enumerate(("psi", "ks")):
            value = float(observed[row, column])
            away = value - mean[row, column]
            deviate = away / spread[row, column] if spread[row, column] > 0 else (np.inf if away > 1e-12 else -np.inf)
            p = (1 + int((largest >= deviate).sum())) / (1 + len(null))
            found.append(Finding(f"{kind} of {name}", value, p, p <= alpha and value >= floors[kind]))
    return sorted(found, key=lambda one: (not one.counts, one.p, -one.value))


def _codes(old: "pd.Series", new: "pd.Series") -> tuple[np.ndarray, np.ndarray, int, bool]:
    """Bin of each value, old and new; number of bins, the last for missing ones; whether their order has a meaning."""
    if all(column.dtype.kind in "iuf" for column in (old, new)):
        values = [column.to_numpy(np.float64) for column in (old, new)]
        kept = values[0][~np.isnan(values[0])]
        edges = np.unique(np.quantile(kept, np.arange(1, POINTS) / POINTS)) if len(kept) else np.empty(0)
        bins = len(edges) + 2
        coded = [np.where(np.isnan(one), bins - 1, np.searchsorted(edges, one, "left")) for one in values]
        return coded[0], coded[1], bins, True
    words = [column.astype("object").where(column.notna(), None) for column in (old, new)]
    common = words[0].dropna().astype(str).value_counts().head(WORDS).index
    place = {word: number for number, word in enumerate(common)}
    # Two more: words that are no common ones, and none at all.
    bins = len(place) + 2
    coded = [
        np.array([bins - 1 if word is None else place.get(str(word), bins - 2) for word in column], np.int64)
        for column in words
    ]
    return coded[0], coded[1], bins, False


def _counts(code: list[Any], rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    old, new, bins = code
    return np.bincount(old[rows[0]], minlength=bins), np.bincount(new[rows[1]], minlength=bins)


def _statistics(old: np.ndarray, new: np.ndarray, ordered: bool) -> tuple[float, float]:
    """(psi, ks) of two counts over the same bins, the last of them for missing values; words have no ks."""
    if not ordered:
        return stability(old, new)[0], 0.0
    joined = zip(coarse(old[:-1], new[:-1]), (old, new), strict=True)
    return stability(*(np.append(bins, counts[-1]) for bins, counts in joined))[0], kolmogorov(old, new)


def distance_shift(
    old: np.ndarray, new: np.ndarray, alpha: float, floor: float, generator: np.random.Generator, name: str
) -> list[Finding]:
    """Squared maximum mean discrepancy of two sets of features; empty with too few rows.

    Args:
        old: float (N, D), of learnt records; of more than ``ROWS`` the first are taken.
        new: float (M, D), of new ones.
        alpha: Probability that it counts without drift.
        floor: Least squared distance over the variance within the learnt ones.
        generator: Of the null runs.
        name: What the features are.
    """
    old, new = old[:ROWS].astype(np.float64), new[:ROWS].astype(np.float64)
    m = sizes(len(old), len(new))
    if not m:
        return []
    mean, spread = old.mean(axis=0), old.std(axis=0)
    # A feature that never varied would have no scale; any change of it is as large as that of a common one.
    scale = np.where(spread > 0, spread, spread[spread > 0].mean() if (spread > 0).any() else 1.0)
    old, new = (old - mean) / scale, (new[generator.permutation(len(new))[:m]] - mean) / scale
    own = _kernel(old, old)
    kept = generator.permutation(len(old))[: len(old) - m]
    across, theirs = _kernel(old[kept], new), _kernel(new, new)
    value = _within(own[np.ix_(kept, kept)]) + _within(theirs) - 2 * float(across.mean())
    null = _null_distances(own, m, runs_of(alpha), generator)
    p = (1 + int((null >= value).sum())) / (1 + len(null))
    variance = float(np.trace(own)) / len(own) - _within(own)
    effect = value / variance if variance > 0 else (np.inf if value > 0 else 0.0)
    return [Finding(f"distance of {name}", float(effect), p, p <= alpha and effect >= floor)]


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(kernel: np.ndarray) -> float:
    """Mean over pairs of different rows."""
    n = len(kernel)
    return float(kernel.sum() - np.trace(kernel)) / (n * (n - 1))


def _null_distances(own: np.ndarray, m: int, runs: int, generator: np.random.Generator) -> np.ndarray:
    n, found = len(own), []
    diagonal = np.diagonal(own)
    for start in range(0, runs, 256):
        chosen = np.zeros((min(256, runs - start), n))
        for row in chosen:
            row[generator.permutation(n)[:m]] = 1
        to_chosen = chosen @ own
        inside = (to_chosen * chosen).sum(axis=1)
        across = to_chosen.sum(axis=1) - inside
        outside = own.sum() - inside - 2 * across
        mine = chosen @ diagonal
        found.append(
            (inside - mine) / (m * (m - 1))
            + (outside - (diagonal.sum() - mine)) / ((n - m) * (n - m - 1))
            - 2 * across / (m * (n - m))
        )
    return np.concatenate(found)


WIDTH = 256
"""Places of an n-gram profile."""


def profile(text: str, n: int = 3) -> np.ndarray:
    """Root of the shares of a text's character n-grams, hashed to places: float32 (``WIDTH``,), of length 1 or 0."""
    data = np.frombuffer(text.lower().encode(), np.uint8).astype(np.uint32)
    if len(data) < n:
        return np.zeros(WIDTH, np.float32)
    # FNV-1a over the bytes of each n-gram (Fowler, Noll, Vo).
    place = np.full(len(data) - n + 1, 2166136261, np.uint32)
    for shift in range(n):
        place = (place ^ data[shift : len(data) - n + 1 + shift]) * np.uint32(16777619)
    counts = np.bincount((place ^ (place >> np.uint32(16))) % WIDTH, minlength=WIDTH)
    return np.sqrt(counts / counts.sum()).astype(np.float32)
