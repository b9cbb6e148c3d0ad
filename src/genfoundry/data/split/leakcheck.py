"""Check for evaluation records in training by brute force, independently of the search that removed duplicates."""

from typing import NamedTuple

import numpy as np

from genfoundry.config.specs import Sets, Vectors
from genfoundry.data.similarity.descriptor import MIRROR
from genfoundry.data.similarity.fingerprints import Shared
from genfoundry.data.similarity.keepers import Rule, take
from genfoundry.data.similarity.pairs import Verdicts
from genfoundry.data.similarity.vectorjoin import MARGIN, Verifier, cosine

BLOCK, COLUMNS = 256, 4096
"""Evaluation rows compared at once, and training rows of one product."""

PAIRS = 1 << 16
"""Pairs whose cosine is taken in double precision at once."""


class Nearest(NamedTuple):
    """For each evaluation row, the training record most like it, and whether that is a leak."""

    row: np.ndarray
    """int64 (E,): row of the training record; -1 where none shares anything."""
    score: np.ndarray
    """float64 (E,): Jaccard index; for vectors the verified similarity of a leak, else the cosine."""
    containment: np.ndarray
    """float64 (E,): largest share of the row's elements that one training record holds; 0 for vectors."""
    leaks: np.ndarray
    """bool (E,): similar by the rule to some training record, or contained in one."""


def nearest(
    prints: Sets | Vectors,
    evaluation: np.ndarray,
    training: np.ndarray,
    rule: Rule,
    max_containment: float,
    sizes: np.ndarray | None = None,
    verdicts: Verdicts | None = None,
) -> Nearest:
    """Compare every evaluation row with every training row.

    Args:
        prints: Fingerprints of all rows.
        evaluation: Rows to look for.
        training: Rows to look in.
        rule: What counts as similar.
        max_containment: Share of an evaluation row inside one training row that is a leak.
        sizes: int64, true number of elements of each set, where ``prints`` holds only what evaluation shares.
        verdicts: Cached verdicts on pairs of pictures.
    """
    found = Nearest(
        np.full(len(evaluation), -1, np.int64),
        np.zeros(len(evaluation)),
        np.zeros(len(evaluation)),
        np.zeros(len(evaluation), bool),
    )
    if not len(evaluation) or not len(training):
        return found
    if isinstance(prints, Sets):
        _nearest_sets(prints, evaluation, training, rule, max_containment, sizes, found)
    else:
        _nearest_vectors(prints, evaluation, training, rule, found, verdicts)
    return found


def _nearest_sets(
    sets: Sets,
    evaluation: np.ndarray,
    training: np.ndarray,
    rule: Rule,
    share: float,
    sizes: np.ndarray | None,
    found: Nearest,
) -> None:
    """By a sparse matrix product: entry (i, j) counts the elements that i and j share."""
    from scipy.sparse import csr_matrix

    sizes = np.diff(sets.ptr) if sizes is None else sizes
    # Elements in no training row don't count; they are most of all, so numbering them would take the most time.
    held = take(sets, training)
    assert isinstance(held, Sets)
    sets = Shared(held.hashes).keep(sets)
    _, column = np.unique(sets.hashes, return_inverse=True)
    matrix = csr_matrix(
        (np.ones(len(column), np.int32), column, sets.ptr), shape=(len(sets.ptr) - 1, column.max(initial=0) + 1)
    )
    other = matrix[training].T.tocsr()
    for start in range(0, len(evaluation), BLOCK):
        mine = evaluation[start : start + BLOCK]
        product = (matrix[mine] @ other).tocoo()
        place, train, shared = product.row + start, training[product.col], product.data
        inside = shared / sizes[evaluation[place]]
        score = shared / (sizes[evaluation[place]] + sizes[train] - shared)
        order = np.lexsort((-train, score))  # the best is written last
        found.row[place[order]], found.score[place[order]] = train[order], score[order]
        np.maximum.at(found.containment, place, inside)
        found.leaks[place[(score >= rule.threshold) | (inside >= share)]] = True


def _nearest_vectors(
    vectors: Vectors,
    evaluation: np.ndarray,
    training: np.ndarray,
    rule: Rule,
    found: Nearest,
    verdicts: Verdicts | None,
) -> None:
    """By products over all pairs, plain and mirrored; double precision decides, and whatever is close is verified."""
    signs = [np.ones_like(MIRROR), MIRROR] if rule.mirror else [np.ones(vectors.vectors.shape[1], np.float32)]
    verifier = Verifier(vectors, rule.floor, rule.mirror, verdicts)
    held = np.ascontiguousarray(vectors.vectors[training])
    for start in range(0, len(evaluation), BLOCK):
        mine = evaluation[start : start + BLOCK]
        row, column = _close(vectors.vectors[mine], held, signs, rule.floor - MARGIN)
        near = np.empty(len(row))
        for part in (slice(first, first + PAIRS) for first in range(0, len(row), PAIRS)):
            asked, other = vectors.vectors[mine[row[part]]], held[column[part]]
            near[part] = np.max([cosine(asked * sign, other) for sign in signs], axis=0)
        order = np.lexsort((-column, near))  # the best is written last
        found.row[start + row[order]], found.score[start + row[order]] = training[column[order]], near[order]
        row, column = row[near >= rule.floor], column[near >= rule.floor]
        score = verifier.score(mine[row], training[column], rule.threshold)
        order = np.lexsort((-column, score))
        row, column, score = (values[order][score[order] >= rule.threshold] for values in (row, column, score))
        found.row[start + row], found.score[start + row] = training[column], score
        found.leaks[start + row] = True


def _close(asked: np.ndarray, held: np.ndarray, signs: list[np.ndarray], floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Places (asked, held) of every pair whose cosine may reach the floor, or may be the row's largest.

    Single precision: off by less than ``MARGIN``, which is a hundred times what it can be.
    """
    turned, best = [asked * sign for sign in signs], np.full(len(asked), -2.0, np.float32)
    rows, columns = [], []
    for left in range(0, len(held), COLUMNS):
        other = held[left : left + COLUMNS].T
        product = turned[0] @ other
        for one in turned[1:]:
            np.maximum(product, one @ other, out=product)
        np.maximum(best, product.max(axis=1), out=best)
        least = np.minimum(best - np.float32(2 * MARGIN), np.float32(floor))
        place = np.flatnonzero(product >= least[:, None])
        rows.append(place // other.shape[1])
        columns.append(place % other.shape[1] + left)
    return np.concatenate(rows), np.concatenate(columns)
