"""Is anything of evaluation in training? Brute force, on purpose another way than the search that removed copies."""

from typing import NamedTuple

import numpy as np

from genfoundry.data.keepers import Rule, take
from genfoundry.data.prints import Shared
from genfoundry.data.vectorjoin import Verifier
from genfoundry.data.verdicts import Verdicts
from genfoundry.modalities.shared.descriptor import MIRROR
from genfoundry.specs import Sets, Vectors

BLOCK = 256
"""Evaluation rows compared with all training rows at once."""


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
        verdicts: What was said of pairs of pictures before.
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
    # What no training row holds counts for nothing, and is most of it: numbering it would take the most time.
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
    """By products in double precision over all pairs, plain and mirrored; whatever is close is verified."""
    signs = [np.ones_like(MIRROR), MIRROR] if rule.mirror else [np.ones(vectors.vectors.shape[1], np.float32)]
    verifier = Verifier(vectors, rule.floor, rule.mirror, verdicts)
    for start in range(0, len(evaluation), BLOCK):
        mine = evaluation[start : start + BLOCK]
        sides = [(vectors.vectors[mine] * sign).astype(np.float64) @ vectors.vectors[training].T for sign in signs]
        cosine = np.round(np.max(sides, axis=0), 6)
        best = cosine.argmax(axis=1)
        places = np.arange(start, start + len(mine))
        found.row[places], found.score[places] = training[best], cosine[np.arange(len(mine)), best]
        row, column = np.nonzero(cosine >= rule.floor)
        score = verifier.score(mine[row], training[column], rule.threshold)
        order = np.lexsort((-column, score))  # the best is written last
        row, column, score = (values[order][score[order] >= rule.threshold] for values in (row, column, score))
        found.row[start + row], found.score[start + row] = training[column], score
        found.leaks[start + row] = True
