"""Search for evaluation records in training, in groups of evaluation records against blocks of training.

A group and a block fit into memory together, and anyone may search for a group: what it finds depends neither on the
other groups nor on where the blocks end.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genfoundry.config.specs import Sets
from genfoundry.data.shards.memo import Memo
from genfoundry.data.similarity.fingerprints import Gathered, Prepared
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.pairs import verdicts_of
from genfoundry.data.similarity.setjoin import Collection, contained
from genfoundry.data.split.leakcheck import Nearest, nearest

ELEMENT = 100
"""Bytes of memory that the search takes for an element, about: its hash, its sorted kind, two indexes, its number in a
sparse matrix and in the transposed one, and what sorting takes beside them.
"""

TRAINING = "training.npy"
"""File beside the fingerprints: which records are training, bool by record."""


class Task(NamedTuple):
    """One group to look for."""

    work: Path
    """Folder of ``Prepared``, with ``TRAINING`` beside it."""
    group: np.ndarray
    """int64: records of evaluation; empty for the external ones."""
    rule: Rule
    share: float
    """Of an evaluation record's elements in one training record, at which it is contained."""
    most: float
    """Elements of a block of training."""
    memo: Memo
    """Cache of verdicts on pairs of pictures."""
    name: tuple[str, int]
    """Dataset, and number of the group."""


class Outcome(NamedTuple):
    """Results of a group's search, by the number of each record."""

    inner: np.ndarray
    """int64: evaluation records inside a training record."""
    outer: np.ndarray
    """int64: that one, the one that holds most."""
    share: np.ndarray
    """float64: what it holds."""
    asked: np.ndarray
    """int64: the other evaluation records; of external sets, their own numbers."""
    nearest: np.ndarray
    """int64: the training record most like each of them; -1 where none is."""
    score: np.ndarray
    """float64."""
    containment: np.ndarray
    """float64."""
    leaks: np.ndarray
    """bool."""


def groups(elements: np.ndarray, most: float) -> Iterator[np.ndarray]:
    """Records cut so that each group has ``most`` elements, about, or is one record.

    Args:
        elements: int64, of each record.
        most: Elements of a group.
    """
    ends, start = np.cumsum(elements), 0
    while start < len(elements):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        yield np.arange(start, stop)
        start = stop


def most_elements(memory: float) -> float:
    """Elements of a group, and of a block of training, by the megabytes for both; 0 bounds nothing."""
    return memory * 1e6 / ELEMENT / 2 if memory else float("inf")


def search(task: Task) -> Outcome:
    """Look for a group in training, block by block."""
    prepared, training = Prepared(task.work), np.load(task.work.parent / TRAINING)
    wanted = np.zeros(len(training), bool)
    wanted[task.group] = True
    best, inside = None, _Inside()
    work = task.work.parent / f"verdicts-{task.name[1]}"
    with verdicts_of(task.memo, ["split", *task.name], work) as verdicts:
        for block in prepared.gather(wanted, training, not len(task.group), task.most):
            inside.add(*_contained(block, task.share))
            asked = np.concatenate([block.evaluation, block.guards])
            found = nearest(block.prints, asked, block.training, task.rule, task.share, block.sizes, verdicts)
            row = np.where(found.row >= 0, block.record[found.row], -1) if len(asked) else found.row
            found = found._replace(row=row.astype(np.int64))
            best = found if best is None else _better(best, found, isinstance(block.prints, Sets))
    assert best is not None
    numbers, stays = block.record[asked], np.ones(len(asked), bool)
    stays[: len(block.evaluation)] = ~np.isin(numbers[: len(block.evaluation)], inside.inner)
    return Outcome(inside.inner, inside.outer, inside.share, numbers[stays], *(column[stays] for column in best))


def _better(one: Nearest, other: Nearest, sets: bool) -> Nearest:
    """Row by row the better one of two blocks' finds, the earlier one if both are equal."""
    # The score of a picture that leaks is its verified similarity, of others the cosine: a leak comes first.
    wins = other.score > one.score
    if not sets:
        wins = np.where(one.leaks == other.leaks, wins, other.leaks)
    wins = (wins | (one.row < 0)) & (other.row >= 0)
    return Nearest(
        np.where(wins, other.row, one.row),
        np.where(wins, other.score, one.score),
        np.maximum(one.containment, other.containment),
        one.leaks | other.leaks,
    )


class _Inside:
    """Evaluation records inside a training record, with the one that holds most of each, the first of equal ones."""

    def __init__(self) -> None:
        self.inner, self.outer, self.share = np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)

    def add(self, inner: np.ndarray, outer: np.ndarray, share: np.ndarray) -> None:
        """Take more pairs into account."""
        inner, outer, share = (
            np.concatenate(both) for both in ((self.inner, inner), (self.outer, outer), (self.share, share))
        )
        order = np.lexsort((outer, -share, inner))
        self.inner, place = np.unique(inner[order], return_index=True)
        self.outer, self.share = outer[order][place], share[order][place]


def _contained(gathered: Gathered, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of an evaluation record and a training record that contains it, and how much of it."""
    prints, evaluation, training = gathered.prints, gathered.evaluation, gathered.training
    if not isinstance(prints, Sets) or not len(evaluation) or not len(training):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found = contained(Collection(prints), evaluation, training, share)
    return gathered.record[found.first], gathered.record[found.second], found.score
