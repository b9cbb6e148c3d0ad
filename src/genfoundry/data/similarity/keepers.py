"""Choose the records to keep: a row is removed only if a kept row is similar to it (greedy, by priority).

Unlike connected components this never removes a row for a chain of others; the result can be checked: no two
kept rows are similar, and every removed row names a kept one, with the verified score.
"""

from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from genfoundry.config.specs import Sets, Vectors
from genfoundry.core.io import read_json, write_json
from genfoundry.data.similarity import setjoin, vectorjoin
from genfoundry.data.similarity.pairs import Verdicts
from genfoundry.data.similarity.setjoin import EXACT, Engine, Matches
from genfoundry.data.similarity.setkeepers import settle
from genfoundry.data.similarity.setstore import SetStore

BLOCK = 1024
"""Rows decided together."""

Fingerprints = Sets | Vectors


RULE = "rule.json"
"""File beside the kept ids with the similarity rule, for the stage that checks it."""


class Rule(NamedTuple):
    """Thresholds by which two records count as similar."""

    threshold: float
    """Least Jaccard index (sets) or verified similarity (vectors)."""
    floor: float = -1.0
    """Least cosine of two vectors to be compared at all (vectors only)."""
    mirror: bool = False
    """Mirrored pictures count as alike (vectors only)."""

    def write(self, folder: Path) -> None:
        """Keep it in a folder that is being published."""
        write_json(folder / RULE, self._asdict())

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What ``write`` kept."""
        return cls(**read_json(folder / RULE))


def engine_of(config: Any) -> Engine:
    """The candidate search that a modality's settings choose."""
    return Engine(config.bands, config.rows) if getattr(config, "engine", "exact") == "minhash" else EXACT


def store_of(config: Any, folder: Path) -> SetStore:
    """An empty store of hash sets: half of ``memory`` for hashes, the rest for the search; overflow to ``folder``."""
    return SetStore(int(getattr(config, "memory", 0) * 1e6 / 2), folder)


class Index(Protocol):
    """The rows kept so far, searchable by similarity."""

    def add(self, chosen: np.ndarray, /) -> None: ...
    def similar(self, chosen: np.ndarray, /) -> Matches: ...


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
    bounds, hashes = fingerprints.ptr, np.asarray(fingerprints.hashes)  # a slice of a memmap costs ten microseconds
    parts = [hashes[start:stop] for start, stop in zip(bounds[rows].tolist(), bounds[rows + 1].tolist(), strict=True)]
    ptr = np.concatenate([[0], np.cumsum(np.diff(bounds)[rows])]).astype(np.int64)
    return Sets(np.concatenate([np.empty(0, np.uint64), *parts]), ptr)


def join(parts: list[Fingerprints]) -> Fingerprints:
    """Fingerprints of several tables as one."""
    if isinstance(parts[0], Vectors):
        return Vectors(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    lengths = np.concatenate([np.diff(part.ptr) for part in parts])
    hashes = np.concatenate([part.hashes for part in parts])
    return Sets(hashes, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def index_of(fingerprints: Fingerprints, rule: Rule, engine: Engine = EXACT) -> Index:
    """An empty index over fingerprints."""
    if isinstance(fingerprints, Vectors):
        return _vector_index(fingerprints, rule)
    rows = setjoin.Rows.of(fingerprints)
    sketch = setjoin.Sketch(len(fingerprints.hashes)).add(fingerprints.hashes)
    return setjoin.Index(rows, setjoin.tokens_of(rows, sketch, rule.threshold, engine), rule.threshold)


def _vector_index(
    vectors: Vectors, rule: Rule, verdicts: Verdicts | None = None, marks: np.ndarray | None = None
) -> vectorjoin.Index:
    return vectorjoin.Index(vectors, rule.threshold, rule.floor, rule.mirror, verdicts, marks)


def keep(
    fingerprints: Fingerprints | SetStore,
    rule: Rule,
    order: np.ndarray | None = None,
    engine: Engine = EXACT,
    verdicts: Verdicts | None = None,
    marks: np.ndarray | None = None,
) -> Kept:
    """Decide all rows; the first one in ``order`` (default: as they stand) has the highest priority.

    Rows of the outcome are places in that order. ``marks`` are ``pairs.digests`` of the fingerprints, where the caller
    has them: several calls then hash nothing twice.
    """
    if isinstance(fingerprints, Vectors):
        if order is not None:
            fingerprints, marks = take(fingerprints, order), marks if marks is None else marks[order]
        gone, pairs = _settle_vectors(_vector_index(fingerprints, rule, verdicts, marks), count(fingerprints))
    else:
        store = fingerprints if isinstance(fingerprints, SetStore) else SetStore.of(fingerprints)
        order = np.arange(len(store)) if order is None else order
        gone, pairs = settle(store, order, rule.threshold, engine)
    pairs = pairs.take(np.lexsort((pairs.second, pairs.first)))
    pairs = pairs._replace(score=np.round(pairs.score, 6))
    keeper, score = np.arange(len(gone)), np.ones(len(gone))
    best = np.lexsort((pairs.second, -pairs.score, pairs.first))
    best = best[pairs.second[best] < pairs.first[best]]
    rows, place = np.unique(pairs.first[best], return_index=True)
    keeper[rows], score[rows] = pairs.second[best][place], pairs.score[best][place]
    assert np.array_equal(rows, np.flatnonzero(gone)), "a row went without a keeper"
    return Kept(keeper, score, pairs)


def _settle_vectors(index: vectorjoin.Index, number: int) -> tuple[np.ndarray, Matches]:
    """(which rows go, every similar pair of one that goes and one that stays)."""
    stays = np.ones(number, bool)
    for start in range(0, number, BLOCK):
        _settle(index, np.arange(start, min(start + BLOCK, number)), stays)
    gone = np.flatnonzero(~stays)
    parts = [index.similar(gone[start : start + BLOCK]) for start in range(0, len(gone), BLOCK)]
    return ~stays, Matches.of(parts)


def _settle(index: vectorjoin.Index, rows: np.ndarray, stays: np.ndarray) -> None:
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
