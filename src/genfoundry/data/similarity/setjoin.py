"""Exact search for similar sets: every pair with a Jaccard index at or above a threshold, and no other.

If J(A, B) >= t, A and B share one of the ``n - ceil(t n) + 1`` first elements of each, under any common order (the
prefix filter: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). Rarest first keeps the lists short,
so boilerplate costs nothing. Rarity comes from a count sketch, whose errors cost time, never a pair. Candidates
are verified in full: recall and precision are 1 by construction.

MinHash bands are the other source of candidates, verified by the same code: they may miss pairs, but never invent one.
"""

from typing import NamedTuple

import numpy as np

from genfoundry.config.specs import Sets

PAIRS = 1 << 21
"""Pairs held at once: tens of megabytes."""

SEED = 0x5E7
"""Of the permutations of MinHash: other ones would find other candidates."""


class Matches(NamedTuple):
    """Verified pairs of rows with their score."""

    first: np.ndarray
    """int64 (P,)."""
    second: np.ndarray
    """int64 (P,)."""
    score: np.ndarray
    """float64 (P,)."""

    @classmethod
    def of(cls, parts: "list[Matches]") -> "Matches":
        """All parts as one."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        first, second, score = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return cls(first, second, score)

    def take(self, chosen: np.ndarray) -> "Matches":
        return Matches(self.first[chosen], self.second[chosen], self.score[chosen])


class Engine(NamedTuple):
    """Source of candidates: exact prefix filter or MinHash bands."""

    bands: int = 0
    """Bands of MinHash; 0 for the exact prefix filter."""
    rows: int = 0
    """Permutations of a band."""


EXACT = Engine()


class Rows(NamedTuple):
    """Sets as ranges of one array, in any order, so that no row has to move."""

    hashes: np.ndarray
    """uint64; each range ascending and distinct."""
    starts: np.ndarray
    """int64 (N,)."""
    stops: np.ndarray
    """int64 (N,)."""

    @classmethod
    def of(cls, sets: Sets, order: np.ndarray | None = None) -> "Rows":
        """The sets in an order of one's own (default: as they stand)."""
        starts, stops = sets.ptr[:-1], sets.ptr[1:]
        return cls(sets.hashes, *((starts, stops) if order is None else (starts[order], stops[order])))


class Tokens(NamedTuple):
    """Index tokens of each row: ``tokens[firsts[i] : lasts[i]]``."""

    tokens: np.ndarray
    """uint64."""
    firsts: np.ndarray
    """int64 (N,)."""
    lasts: np.ndarray
    """int64 (N,)."""


class Sketch:
    """Count sketch of element frequencies: uint8 counts by the top bits of the hash."""

    def __init__(self, elements: int, most: int = 1 << 34) -> None:
        """Cells for a number of elements: 1.5 for each or more, but not over ``most``."""
        self.bits = 8
        while (1 << self.bits) < 1.5 * elements and (2 << self.bits) <= most:
            self.bits += 1
        self.cells = np.zeros(1 << self.bits, np.uint8)

    def add(self, hashes: np.ndarray) -> "Sketch":
        """Count elements; each set brings an element once."""
        from genfoundry.data.similarity import setkernel

        setkernel.tally(hashes, self.cells, self.bits)
        return self


class Collection:
    """Sets to be searched, with the rarity of their elements."""

    def __init__(self, sets: Sets) -> None:
        self.rows = Rows.of(sets)
        self.sketch = Sketch(len(sets.hashes)).add(sets.hashes)

    def __len__(self) -> int:
        return len(self.rows.starts)


def prefixes(rows: Rows, sketch: Sketch, share: float) -> Tokens:
    """Those elements that any set holding ``share`` of a row must meet, singles left out."""
    from genfoundry.data.similarity import setkernel

    # What is never written costs address space alone.
    tokens = np.empty(int((rows.stops - rows.starts).sum()), np.uint64)
    ptr = np.empty(len(rows.starts) + 1, np.int64)
    number = setkernel.rarest(*rows, sketch.cells, sketch.bits, float(share), tokens, ptr)
    tokens.resize(number, refcheck=False)
    return Tokens(tokens, ptr[:-1], ptr[1:])


def signatures(rows: Rows, engine: Engine) -> Tokens:
    """Tokens of the MinHash bands of each row."""
    from genfoundry.data.similarity import setkernel

    generator = np.random.Generator(np.random.PCG64(SEED))
    count = engine.bands * engine.rows
    factors = generator.integers(0, 1 << 32, count, np.uint32) | np.uint32(1)
    terms = generator.integers(0, 1 << 32, count, np.uint32)
    tokens = np.empty(len(rows.starts) * engine.bands, np.uint64)
    ptr = np.empty(len(rows.starts) + 1, np.int64)
    number = setkernel.bands(*rows, factors, terms, engine.rows, tokens, ptr)
    return Tokens(tokens[:number], ptr[:-1], ptr[1:])


def tokens_of(rows: Rows, sketch: Sketch, threshold: float, engine: Engine) -> Tokens:
    """Index tokens of each row, of the exact filter or of MinHash."""
    return signatures(rows, engine) if engine.bands else prefixes(rows, sketch, threshold)


class Index:
    """Inverted index of entered rows by their tokens."""

    def __init__(self, rows: Rows, tokens: Tokens, threshold: float) -> None:
        assert len(tokens.tokens) < 1 << 31 and len(rows.starts) < 1 << 31, "too many rows for one index"
        self.rows, self.tokens, self.threshold = rows, tokens, float(threshold)
        self.gone = np.zeros(len(rows.starts), bool)
        self.compared = 0
        """Pairs compared element by element so far."""
        entries = int((tokens.lasts - tokens.firsts).sum())
        self.heads = np.full(1 << max(4, (2 * entries).bit_length()), -1, np.int32)
        self.entries = np.empty((entries, 3), np.int32)
        self.used = np.zeros(1, np.int64)

    def add(self, chosen: np.ndarray) -> None:
        """Enter rows."""
        self._search(self.rows, self.tokens, chosen, "NONE", enter=True)

    def settle(self) -> np.ndarray:
        """Rows to remove, bool (N,): in order, a row similar to an entered one is removed, any other is entered."""
        self._search(self.rows, self.tokens, np.arange(len(self.gone)), "FIRST", enter=True)
        return self.gone

    def meets(self, rows: Rows, tokens: Tokens) -> np.ndarray:
        """Which of other rows are like an entered one, bool (N,)."""
        gone = np.zeros(len(rows.starts), bool)
        self._search(rows, tokens, np.arange(len(gone)), "FIRST", gone=gone)
        return gone

    def may_meet(self, rows: Rows, tokens: Tokens) -> np.ndarray:
        """Which of other rows have a candidate, bool (N,); only their sizes are read."""
        gone = np.zeros(len(rows.starts), bool)
        self._search(rows, tokens, np.arange(len(gone)), "MAYBE", gone=gone)
        return gone

    def similar(self, chosen: np.ndarray) -> Matches:
        """Every pair (row, entered row) at or above the threshold."""
        found = self._search(self.rows, self.tokens, chosen, "ALL")
        return found.take(found.first != found.second)

    def among(self, rows: Rows, tokens: Tokens, wanted: str = "ALL") -> Matches:
        """Every pair (other row, entered row) at or above the threshold."""
        return self._search(rows, tokens, np.arange(len(rows.starts)), wanted)

    def _search(
        self,
        rows: Rows,
        tokens: Tokens,
        chosen: np.ndarray,
        wanted: str,
        enter: bool = False,
        gone: np.ndarray | None = None,
    ) -> Matches:
        from genfoundry.data.similarity import setkernel

        room = PAIRS if wanted in ("ALL", "INSIDE") else 1
        progress, seen = np.zeros(4, np.int64), np.zeros(len(self.gone), np.int32)
        pairs, scores = np.empty((room, 2), np.int64), np.empty(room)
        gone = gone if gone is not None else self.gone if rows is self.rows else np.zeros(len(rows.starts), bool)
        parts = []
        while True:
            begun = progress[0]
            setkernel.search(
                *rows, *tokens, chosen, *self.rows, self.heads, self.entries, self.used, seen, self.threshold,
                getattr(setkernel, wanted), enter, gone, pairs, scores, progress,
            )  # fmt: skip
            parts.append(Matches(*pairs[: progress[1]].T.copy(), scores[: progress[1]].copy()))
            progress[1] = 0
            if progress[0] == len(chosen):
                break
            if progress[0] == begun:
                pairs, scores = np.empty((2 * len(pairs), 2), np.int64), np.empty(2 * len(scores))
        self.compared += int(progress[3])
        return Matches.of(parts)


def contained(sets: Collection, inner: np.ndarray, outer: np.ndarray, share: float) -> Matches:
    """Every pair (inner row, outer row) where the outer one holds ``share`` of the inner one's elements."""
    hashes, starts, stops = sets.rows
    rows, around = Rows(hashes, starts[inner], stops[inner]), Rows(hashes, starts[outer], stops[outer])
    index = Index(rows, prefixes(rows, sets.sketch, share), share)
    index.add(np.arange(len(inner)))
    found = index.among(around, Tokens(*around), "INSIDE")
    order = np.lexsort((outer[found.first], inner[found.second]))
    return Matches(inner[found.second][order], outer[found.first][order], found.score[order])
