"""Exact search for similar sets: every pair with a Jaccard index at or above a threshold, and no other.

If J(A, B) >= t, A and B share one of the ``n - ceil(t n) + 1`` first elements of each, under any common order (the
prefix filter: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). Rarest first keeps the lists short,
so boilerplate costs nothing. Candidates are verified in full: recall and precision are 1 by construction.
"""

from typing import NamedTuple

import numpy as np

from genfoundry.specs import Sets

PAIRS = 1 << 21
"""Candidate pairs held at once: tens of megabytes."""

ELEMENTS = 1 << 22
"""Elements looked up at once when pairs are verified."""

SLACK = 1e-9
"""Keeps rounding in ``t n`` from raising a bound; verification is by exact counts."""


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


def at_least(size: np.ndarray, share: float) -> np.ndarray:
    """Least whole number of elements that is ``share`` of ``size``."""
    return np.ceil(share * size - SLACK).astype(np.int64)


def expand(starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number of the range, place) for every place in ranges of given starts and lengths."""
    owner = np.repeat(np.arange(len(starts)), lengths)
    first = np.concatenate([[0], np.cumsum(lengths)])[:-1]
    return owner, np.arange(len(owner)) - first[owner] + starts[owner]


class Collection:
    """Sets as rows of element numbers, rarest element first; rows keep the order they came in."""

    def __init__(self, sets: Sets) -> None:
        self.ptr = sets.ptr.astype(np.int64)
        self.sizes = np.diff(self.ptr)
        _, element, count = np.unique(sets.hashes, return_inverse=True, return_counts=True)
        rank = np.empty(len(count), np.int64)
        order = np.argsort(count, kind="stable")  # ties by hash, as np.unique sorted them
        rank[order] = np.arange(len(count))
        self.universe = max(len(count), 1)
        self.common = int((count <= 1).sum())
        """Elements below this number stand in one set only."""
        rows = np.repeat(np.arange(len(self.sizes)), self.sizes)
        # One sorted array of (row, element): rows sorted inside, and any membership is one binary search.
        self.keys = np.sort(rows * self.universe + rank[element])

    def __len__(self) -> int:
        return len(self.sizes)

    def elements(self, rows: np.ndarray, number: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(number of the row in ``rows``, element) of the first ``number`` elements of each (default: all)."""
        owner, place = expand(self.ptr[rows], self.sizes[rows] if number is None else number)
        return owner, self.keys[place] - rows[owner] * self.universe

    def prefixes(self, rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """(number of the row in ``rows``, element): those that any set holding ``share`` of a row must meet."""
        sizes = self.sizes[rows]
        need = np.where(sizes > 0, sizes - at_least(sizes, share) + 1, 0)
        owner, element = self.elements(rows, need)
        shared = element >= self.common
        return owner[shared], element[shared]

    def overlaps(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Elements that the two rows of each pair share, int64 (P,)."""
        swap = self.sizes[first] > self.sizes[second]
        small, large = np.where(swap, second, first), np.where(swap, first, second)
        found = np.zeros(len(first), np.int64)
        cuts = np.concatenate([[0], np.cumsum(self.sizes[small])])
        start = 0
        while start < len(small):
            stop = max(start + 1, int(np.searchsorted(cuts, cuts[start] + ELEMENTS, "right")) - 1)
            owner, element = self.elements(small[start:stop])
            wanted = large[start:stop][owner] * self.universe + element
            place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            found[start:stop] = np.bincount(owner[self.keys[place] == wanted], minlength=stop - start)
            start = stop
        return found

    def jaccard(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Jaccard index of each pair, float64 (P,)."""
        shared = self.overlaps(first, second)
        return shared / np.maximum(self.sizes[first] + self.sizes[second] - shared, 1)


class Index:
    """Inverted lists over rows that were added, of the elements in their prefixes."""

    def __init__(self, sets: Collection, threshold: float) -> None:
        self.sets, self.threshold = sets, threshold
        owner, element = sets.prefixes(np.arange(len(sets)), threshold)
        lengths = np.bincount(element, minlength=sets.universe)
        self.start = np.concatenate([[0], np.cumsum(lengths)])[:-1]
        self.fill = np.zeros(sets.universe, np.int64)
        self.lists = np.empty(len(element), np.int64)
        self.element, self.bounds = element, np.searchsorted(owner, np.arange(len(sets) + 1))

    def postings(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(number of the row in ``rows``, element) of the prefixes."""
        owner, place = expand(self.bounds[rows], self.bounds[rows + 1] - self.bounds[rows])
        return owner, self.element[place]

    def add(self, rows: np.ndarray) -> None:
        """Enter rows into the lists."""
        owner, element = self.postings(rows)
        order = np.argsort(element, kind="stable")
        owner, element = owner[order], element[order]
        kinds, first, count = np.unique(element, return_index=True, return_counts=True)
        behind = np.arange(len(element)) - np.repeat(first, count)
        self.lists[self.start[element] + self.fill[element] + behind] = rows[owner]
        self.fill[kinds] += count

    def similar(self, rows: np.ndarray) -> Matches:
        """Every pair (row, entered row) at or above the threshold."""
        owner, element = self.postings(rows)
        lengths = self.fill[element]
        parts = []
        cuts = np.concatenate([[0], np.cumsum(lengths)])
        start = 0
        while start < len(element):
            stop = max(start + 1, int(np.searchsorted(cuts, cuts[start] + PAIRS, "right")) - 1)
            which, place = expand(self.start[element[start:stop]], lengths[start:stop])
            pairs = np.unique(rows[owner[start:stop][which]] * len(self.sets) + self.lists[place])
            parts.append(verified(self.sets, pairs // len(self.sets), pairs % len(self.sets), self.threshold))
            start = stop
        matches = Matches.of(parts)
        # A pair that met in two pieces of work was verified twice.
        _, once = np.unique(matches.first * len(self.sets) + matches.second, return_index=True)
        return matches.take(once)

    def among(self, rows: np.ndarray) -> Matches | None:
        """Every pair within ``rows`` (ascending) at or above the threshold; None if too many would be compared."""
        owner, element = self.postings(rows)
        order = np.lexsort((owner, element))
        owner, element = owner[order], element[order]
        _, first, count = np.unique(element, return_index=True, return_counts=True)
        if (count * (count - 1) // 2).sum() > PAIRS and len(rows) > 1:
            return None
        # Entry i of a list meets the entries before it.
        behind = np.arange(len(element)) - np.repeat(first, count)
        which, place = expand(np.repeat(first, count), behind)
        pairs = np.unique(owner[which] * len(rows) + owner[place])
        return verified(self.sets, rows[pairs // len(rows)], rows[pairs % len(rows)], self.threshold)


def verified(sets: Collection, first: np.ndarray, second: np.ndarray, threshold: float) -> Matches:
    """Those pairs whose Jaccard index is at or above the threshold."""
    n, m = sets.sizes[first], sets.sizes[second]
    possible = (np.minimum(n, m) >= at_least(np.maximum(n, m), threshold)) & (first != second)
    first, second = first[possible], second[possible]
    score = sets.jaccard(first, second)
    good = score >= threshold - SLACK
    return Matches(first[good], second[good], score[good])


def contained(sets: Collection, inner: np.ndarray, outer: np.ndarray, share: float) -> Matches:
    """Every pair (inner row, outer row) where the outer one holds ``share`` of the inner one's elements."""
    owner, element = sets.prefixes(inner, share)
    holder, held = sets.elements(outer)
    wanted = np.zeros(sets.universe, bool)
    wanted[element] = True
    holder, held = holder[wanted[held]], held[wanted[held]]
    order = np.argsort(held, kind="stable")
    holder, held = holder[order], held[order]
    begin, end = np.searchsorted(held, element), np.searchsorted(held, element, "right")
    lengths = end - begin
    cuts = np.concatenate([[0], np.cumsum(lengths)])
    parts, start = [], 0
    while start < len(element):
        stop = max(start + 1, int(np.searchsorted(cuts, cuts[start] + PAIRS, "right")) - 1)
        which, place = expand(begin[start:stop], lengths[start:stop])
        pairs = np.unique(inner[owner[start:stop][which]] * len(sets) + outer[holder[place]])
        first, second = pairs // len(sets), pairs % len(sets)
        big = sets.sizes[second] >= at_least(sets.sizes[first], share)
        first, second = first[big], second[big]
        shared = sets.overlaps(first, second)
        good = shared >= at_least(sets.sizes[first], share)
        parts.append(Matches(first[good], second[good], shared[good] / sets.sizes[first][good]))
        start = stop
    matches = Matches.of(parts)
    _, once = np.unique(matches.first * len(sets) + matches.second, return_index=True)
    return matches.take(once)
