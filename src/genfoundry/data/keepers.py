"""Which rows stay: a row goes only if a row that stays is similar to it (greedy, in the order of priority).

Unlike connected components this never drops a row for a chain of others; what it promises can be checked: no two
rows that stay are similar, and every row that goes names one that stays, with the verified score.
"""

from typing import NamedTuple, Protocol

import numpy as np

from genfoundry.data import setjoin, vectorjoin
from genfoundry.data.setjoin import Matches
from genfoundry.specs import Sets, Vectors

BLOCK = 1024
"""Rows settled together."""

Fingerprints = Sets | Vectors


class Rule(NamedTuple):
    """What counts as similar."""

    threshold: float
    """Least Jaccard index (sets) or verified similarity (vectors)."""
    floor: float = -1.0
    """Least cosine of two vectors to be compared at all (vectors only)."""
    mirror: bool = False
    """Mirrored pictures count as alike (vectors only)."""


class Index(Protocol):
    """Rows that stay so far, and the search for their likes."""

    def add(self, rows: np.ndarray) -> None: ...
    def similar(self, rows: np.ndarray) -> Matches: ...
    def among(self, rows: np.ndarray) -> Matches | None: ...


class Kept(NamedTuple):
    """The outcome for N rows in the order of priority."""

    keeper: np.ndarray
    """int64 (N,): the row itself if it stays, else the most similar row of higher priority that stays."""
    score: np.ndarray
    """float64 (N,): similarity to the keeper; 1 for rows that stay."""
    pairs: Matches
    """Every similar pair (row that goes, row that stays)."""


def count(fingerprints: Fingerprints) -> int:
    """Number of records."""
    return len(fingerprints.ptr) - 1 if isinstance(fingerprints, Sets) else len(fingerprints.vectors)


def take(fingerprints: Fingerprints, rows: np.ndarray) -> Fingerprints:
    """Fingerprints of some rows, in that order."""
    if isinstance(fingerprints, Vectors):
        return Vectors(fingerprints.vectors[rows], fingerprints.details[rows])
    lengths = np.diff(fingerprints.ptr)[rows]
    _, place = setjoin.expand(fingerprints.ptr[rows], lengths)
    return Sets(fingerprints.hashes[place], np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def join(parts: list[Fingerprints]) -> Fingerprints:
    """Fingerprints of several tables as one."""
    if isinstance(parts[0], Vectors):
        return Vectors(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    lengths = np.concatenate([np.diff(part.ptr) for part in parts])
    hashes = np.concatenate([part.hashes for part in parts])
    return Sets(hashes, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def index_of(fingerprints: Fingerprints, rule: Rule) -> Index:
    """An empty index over fingerprints."""
    if isinstance(fingerprints, Sets):
        return setjoin.Index(setjoin.Collection(fingerprints), rule.threshold)
    return vectorjoin.Index(fingerprints, rule.threshold, rule.floor, rule.mirror)


def keep(fingerprints: Fingerprints, rule: Rule) -> Kept:
    """Settle all rows; row 0 has the highest priority."""
    number = count(fingerprints)
    index = index_of(fingerprints, rule)
    stays = np.ones(number, bool)
    for start in range(0, number, BLOCK):
        _settle(index, np.arange(start, min(start + BLOCK, number)), stays)
    gone = np.flatnonzero(~stays)
    parts = [index.similar(gone[start : start + BLOCK]) for start in range(0, len(gone), BLOCK)]
    pairs = Matches.of(parts)
    pairs = pairs._replace(score=np.round(pairs.score, 6))
    keeper, score = np.arange(number), np.ones(number)
    best = np.lexsort((pairs.second, -pairs.score, pairs.first))
    best = best[pairs.second[best] < pairs.first[best]]
    rows, place = np.unique(pairs.first[best], return_index=True)
    keeper[rows], score[rows] = pairs.second[best][place], pairs.score[best][place]
    assert np.array_equal(rows, gone), "a row went without a keeper"
    return Kept(keeper, score, pairs)


def _settle(index: Index, rows: np.ndarray, stays: np.ndarray) -> None:
    """Decide a block whose predecessors are all decided and, where they stay, entered."""
    stays[index.similar(rows).first] = False
    rows = rows[stays[rows]]
    inside = index.among(rows)
    if inside is None:
        _settle(index, rows[: len(rows) // 2], stays)
        _settle(index, rows[len(rows) // 2 :], stays)
        return
    later, earlier = np.maximum(inside.first, inside.second), np.minimum(inside.first, inside.second)
    for number in np.argsort(later, kind="stable"):
        if stays[earlier[number]]:
            stays[later[number]] = False
    index.add(rows[stays[rows]])
