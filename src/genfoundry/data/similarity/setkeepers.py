"""Choose the sets to keep, out of core: block by block where they don't fit into memory.

Rows that fit into memory are settled in one go. More of them are settled block by block in the order of priority:
a block is searched and settled in itself, then the rows behind it that are like one of its keepers go. When a block's
turn comes, whatever an earlier keeper is like has gone already: the outcome is that of one go, to the last row.
"""

from typing import NamedTuple

import numpy as np

from genfoundry.data.similarity.setjoin import EXACT, Engine, Index, Matches, Rows, Sketch, Tokens, tokens_of
from genfoundry.data.similarity.setstore import SetStore

HELD, ASKING, SKETCH = 0.1, 0.05, 0.125
"""Shares of the memory limit: hashes of a block (its index may take four times that), of the rows that are looked up
in it, and counts of elements."""


class Settled(NamedTuple):
    """The outcome by place in the order of priority."""

    gone: np.ndarray
    """bool (N,)."""
    pairs: Matches
    """Every similar pair (row that goes, row that stays)."""


class _Search:
    def __init__(self, store: SetStore, order: np.ndarray, threshold: float, engine: Engine) -> None:
        self.store, self.order, self.threshold = store, order, threshold
        sketch = Sketch(1 if engine.bands else store.elements, int(store.limit * SKETCH) or 1 << 34)
        for hashes in () if engine.bands else store.stream():
            sketch.add(hashes)
        if not store.on_disk:
            self.tokens, self.found_by = None, tokens_of(self.rows(np.arange(len(order))), sketch, threshold, engine)
            return
        # Index tokens are far smaller than the rows, which are not read again.
        self.tokens = SetStore(int(store.limit * SKETCH), store.folder)
        for piece in store.pieces(np.arange(len(order)), HELD):
            found_by = tokens_of(store.rows(order[piece]), sketch, threshold, engine)
            self.tokens.add(found_by.tokens, found_by.lasts - found_by.firsts)

    def rows(self, places: np.ndarray) -> Rows:
        return self.store.rows(self.order[places])

    def lengths(self, places: np.ndarray) -> Rows:
        """Rows without their elements."""
        numbers = self.order[places]
        return Rows(np.empty(0, np.uint64), self.store.ptr[numbers], self.store.ptr[numbers + 1])

    def tokens_at(self, places: np.ndarray) -> Tokens:
        if self.tokens is None:
            return Tokens(self.found_by.tokens, self.found_by.firsts[places], self.found_by.lasts[places])
        return Tokens(*self.tokens.rows(places))

    def index(self, places: np.ndarray) -> Index:
        return Index(self.rows(places), self.tokens_at(places), self.threshold)

    def blocks(self, places: np.ndarray, share: float) -> "list[np.ndarray]":
        """Places cut so that their sets take a share of the limit."""
        lengths = [len(piece) for piece in self.store.pieces(self.order[places], share)]
        return np.split(places, np.cumsum(lengths)[:-1]) if lengths else []

    def candidates(self, index: Index, places: np.ndarray) -> np.ndarray:
        """Those places that share a token with an entered row of fitting size."""
        if not len(places):
            return places
        near = [
            piece[index.may_meet(self.lengths(piece), self.tokens_at(piece))] for piece in np.array_split(places, 16)
        ]
        return np.concatenate(near)


def settle(store: SetStore, order: np.ndarray, threshold: float, engine: Engine = EXACT) -> Settled:
    """Decide in the order of priority which sets to keep; see ``Settled``."""
    search = _Search(store, order, threshold, engine)
    gone = np.zeros(len(order), bool)
    if not store.on_disk:
        places = np.arange(len(order))
        index = search.index(places)
        gone[index.settle()] = True
        return Settled(gone, index.similar(np.flatnonzero(gone)))
    start = 0
    while start < len(order):
        left = np.flatnonzero(~gone[start:]) + start
        if not len(left):
            break
        block = search.blocks(left, HELD)[0]
        index = search.index(block)
        gone[block[index.settle()]] = True
        start = int(block[-1]) + 1
        later = search.candidates(index, left[len(block) :])
        for piece in search.blocks(later, ASKING):
            gone[piece[index.meets(search.rows(piece), search.tokens_at(piece))]] = True
    parts = []
    losers = np.flatnonzero(gone)
    for block in search.blocks(np.flatnonzero(~gone), HELD):
        index = search.index(block)
        index.add(np.arange(len(block)))
        for piece in search.blocks(search.candidates(index, losers), ASKING):
            found = index.among(search.rows(piece), search.tokens_at(piece))
            parts.append(Matches(piece[found.first], block[found.second], found.score))
    return Settled(gone, Matches.of(parts))
