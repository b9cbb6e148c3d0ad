"""The search for evaluation records in training, in groups of evaluation records: each fits into memory, and anyone
may search it. What a group finds does not depend on the others.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from genfoundry.data.keepers import Rule
from genfoundry.data.leakcheck import nearest
from genfoundry.data.prints import Gathered, Prepared
from genfoundry.data.setjoin import Collection, contained
from genfoundry.specs import Sets

ELEMENT = 400
"""Bytes of memory that the search takes for an element of an evaluation record, about (measured: 150 to 350)."""

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


class Outcome(NamedTuple):
    """What a group's search found, by the number of each record."""

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


def groups(elements: np.ndarray, memory: float) -> Iterator[np.ndarray]:
    """Records cut so that the search for each group takes ``memory`` megabytes, about.

    Args:
        elements: int64, of each record.
        memory: Megabytes; 0 makes one group.
    """
    most = memory * 1e6 / ELEMENT if memory else float("inf")
    ends, start = np.cumsum(elements), 0
    while start < len(elements):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + most, "right")))
        yield np.arange(start, stop)
        start = stop


def search(task: Task) -> Outcome:
    """Look for a group in training."""
    prepared, training = Prepared(task.work), np.load(task.work.parent / TRAINING)
    wanted = np.zeros(len(training), bool)
    wanted[task.group] = True
    gathered = prepared.gather(wanted, training, guards=not len(task.group))
    inner, outer, share = _contained(gathered, task.share)
    left = gathered.evaluation[~np.isin(gathered.record[gathered.evaluation], inner)]
    asked = np.concatenate([left, gathered.guards])
    found = nearest(gathered.prints, asked, gathered.training, task.rule, task.share, gathered.sizes)
    known = found.row >= 0
    close = np.where(known, gathered.record[np.where(known, found.row, 0)] if len(gathered.record) else -1, -1)
    return Outcome(
        inner, outer, share, gathered.record[asked], close.astype(np.int64), found.score, found.containment, found.leaks
    )


def _contained(gathered: Gathered, share: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluation records that a training record contains, the one that holds most of each, and how much."""
    prints, evaluation, training = gathered.prints, gathered.evaluation, gathered.training
    if not isinstance(prints, Sets) or not len(evaluation) or not len(training):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    found = contained(Collection(prints), evaluation, training, share)
    first, second = gathered.record[found.first], gathered.record[found.second]
    order = np.lexsort((second, -found.score, first))
    inner, place = np.unique(first[order], return_index=True)
    return inner, second[order][place], found.score[order][place]
