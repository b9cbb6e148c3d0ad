"""Verbatim overlap of samples with training text: longest runs and n-grams, exactly, in bounded memory.

The training stream is read in blocks; 64-bit polynomial hashes of windows (Karp and Rabin 1987,
doi:10.1147/rd.312.0249), cut out of one running sum, show which of its windows may be in a sample. No true match is
missed, as equal windows have equal hashes, and the tokens confirm what is reported. No run crosses a document boundary.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._text import as_numbers, as_tokens

BLOCK = 2**20
"""Tokens of the training stream held at once: some 60 MB of hashes and sums."""

BASE = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that a power of it can be divided out modulo 2**64; the fraction of the golden ratio."""

SIEVE_BITS = 22
"""log2 of the entries of the sieve that drops most windows at one look-up: 4 MB, small enough for the cache."""


SIEVE_FROM = 2**16
"""Hashes from which the sieve pays."""


class Runs(NamedTuple):
    """The longest run of each sample that also occurs in one training document; of equal ones the first."""

    lengths: np.ndarray
    """int64 (N,), in tokens; 0 where not even a token is shared."""
    starts: np.ndarray
    """int64 (N,): where the run begins in the sample."""
    documents: np.ndarray
    """int64 (N,): the training document that holds it, or -1."""
    places: np.ndarray
    """int64 (N,): where it begins in the training stream, or -1."""


class _Lines:
    """Sequences end to end, with hashes of their windows."""

    def __init__(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        self.tokens, self.ends = tokens, ends
        """int64 (T,), and for each position the end of its sequence."""
        exponents = np.full(len(tokens), BASE, np.uint64)
        exponents[:1] = 1
        powers = np.cumprod(exponents, dtype=np.uint64)
        self.sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_scattered(tokens) * powers, dtype=np.uint64)])
        inverse = np.full(len(tokens), np.uint64(pow(int(BASE), -1, 2**64)), np.uint64)
        inverse[:1] = 1
        self.inverse = np.cumprod(inverse, dtype=np.uint64)

    def fitting(self, places: np.ndarray, length: int) -> np.ndarray:
        """Those places at which a window of that length ends inside its sequence."""
        return places[places + length <= self.ends[places]]

    def hashes(self, places: np.ndarray, length: int) -> np.ndarray:
        """uint64, one for each place; the top bits are the best."""
        return (self.sums[places + length] - self.sums[places]) * self.inverse[places]


def _scattered(tokens: np.ndarray) -> np.ndarray:
    """A 64-bit number for each token: the finaliser of splitmix64 (Steele et al. 2014, doi:10.1145/2660193.2660195)."""
    mixed = tokens.astype(np.uint64) + np.uint64(1)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


class _Wanted:
    """A set of hashes to look for."""

    def __init__(self, hashes: np.ndarray) -> None:
        self.hashes, self.number = np.unique(hashes, return_inverse=True)
        """The different hashes, sorted, and for each given one its place among them."""

    def find(self, hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which of the given hashes are wanted, and the place of each in ``self.hashes``."""
        likely = np.arange(len(hashes))
        if len(hashes) > SIEVE_FROM:
            sieve = np.zeros(2**SIEVE_BITS, bool)
            sieve[self.hashes >> np.uint64(64 - SIEVE_BITS)] = True
            likely = np.flatnonzero(sieve[hashes >> np.uint64(64 - SIEVE_BITS)])
        kept = hashes[likely]
        numbers = np.searchsorted(self.hashes, kept)
        numbers[numbers == len(self.hashes)] = 0
        same = self.hashes[numbers] == kept
        return likely[same], numbers[same]


def _token_rows(what: str, samples: Sequence[Any]) -> tuple[_Lines, np.ndarray]:
    """The samples end to end, and their offsets (N+1,).

    Raises:
        DataError: No sample, or tokens that are no whole numbers of at least 0.
    """
    rows = [as_numbers(what, row) for row in samples]
    if not rows:
        raise DataError(f"{what} are 0; give at least one")
    for number, row in enumerate(rows):
        if row.ndim != 1 or (len(row) and (row.dtype.kind != "i" or row.min() < 0)):
            raise DataError(f"{what}: row {number} holds no token numbers of at least 0; give lists of whole numbers")
    offsets = np.cumsum([0, *map(len, rows)])
    tokens = np.concatenate(rows).astype(np.int64)
    return _Lines(tokens, np.repeat(offsets[1:], np.diff(offsets))), offsets


def _blocks(where: str, stream: Any, offsets: Any, overlap: int) -> Any:
    """Blocks of the stream as lines, each with the number of window starts that are its own and its first position.

    Raises:
        DataError: Offsets that don't rise from 0 to the end of the stream, or tokens of it that are floats.
    """
    bounds = as_numbers(f"{where}: offsets", offsets)
    if (
        bounds.ndim != 1
        or len(bounds) < 2
        or bounds[0] != 0
        or bounds[-1] != len(stream)
        or (np.diff(bounds) < 0).any()
    ):
        raise DataError(f"{where}: offsets must rise from 0 to {len(stream)}, the stream's length; read both again")
    for first in range(0, len(stream), BLOCK):
        last = min(first + BLOCK, len(stream))
        tokens = as_tokens(f"{where}: stream", stream[first : last + overlap])
        place = np.arange(first, first + len(tokens))
        ends = bounds[np.searchsorted(bounds, place, side="right")] - first
        yield _Lines(tokens, np.minimum(ends, len(tokens))), last - first, first


def longest_common_runs(
    samples: Sequence[Sequence[int]], stream: Any, offsets: Any, metric: str = "longest_overlap"
) -> Runs:
    """The longest verbatim run of each sample in any training document.

    Each block of the stream is sieved by windows of 1, 2, 4, ... tokens, so that what is left is little when the
    lengths between two powers are tried; only runs longer than those found before are looked for.

    Args:
        samples: N token sequences without boundary.
        stream: (T,) tokens of the training documents end to end, memory-mapped if need be.
        offsets: (L+1,): document i is ``stream[offsets[i]:offsets[i+1]]``.
        metric: Name that opens an error message.

    Raises:
        DataError: No sample, tokens that aren't whole numbers of at least 0, or offsets that don't fit the stream.
    """
    lines, bounds = _token_rows(f"{metric}: samples", samples)
    search = _Search(lines, bounds)
    for block, own, first in _blocks(metric, stream, offsets, int(np.diff(bounds).max(initial=0))):
        search.look_at(block, own, first)
    at = as_numbers(f"{metric}: offsets", offsets)
    for number in np.flatnonzero(search.best):
        length, start, place = search.best[number], bounds[number] + search.start[number], search.place[number]
        if not np.array_equal(lines.tokens[start : start + length], np.asarray(stream[place : place + length])):
            # Two hashes met by chance, or by design.
            whole = lines.tokens[bounds[number] : bounds[number + 1]]
            search.best[number], search.start[number], search.place[number] = _by_token(whole, stream, offsets, metric)
    return search.runs(at)


class _Search:
    """The longest runs found so far, by block."""

    def __init__(self, lines: _Lines, bounds: np.ndarray) -> None:
        self.lines, self.bounds = lines, bounds
        self.full = np.diff(bounds)
        self.owners = np.repeat(np.arange(len(self.full)), self.full)
        self.best = np.zeros(len(self.full), np.int64)
        self.start, self.place = np.zeros_like(self.best), np.full_like(self.best, -1)

    def look_at(self, block: _Lines, own: int, first: int) -> None:
        """Find the runs that begin at the block's first ``own`` positions and beat the best of before."""
        open_ = self.best < self.full
        if not open_.any():
            return
        left, size = np.arange(own), 1
        while 2 * size <= self.best[open_].min() + 1:
            size *= 2
        ceiling = np.where(open_, self.full, 0)
        while len(left) and (tried := np.flatnonzero((ceiling >= size) & (self.best < ceiling))).size:
            left, hit = self._test(block, left, tried, size, first)
            missed = np.setdiff1d(tried, hit)
            ceiling[missed] = size - 1
            self._between(block, left, hit, size, ceiling, first)
            size *= 2

    def _between(
        self, block: _Lines, left: np.ndarray, hit: np.ndarray, size: int, ceiling: np.ndarray, first: int
    ) -> None:
        """Settle the samples whose longest run here is ``size`` tokens to below twice that, by halving."""
        low, high = self.best.copy(), np.minimum(ceiling, 2 * size - 1)
        # The next length first: in most blocks no sample finds a longer run.
        trial = low + 1
        while len(active := hit[low[hit] < high[hit]]):
            for length in np.unique(trial[active]).tolist():
                tried = active[trial[active] == length]
                _, found = self._test(block, left, tried, length, first)
                low[found] = length
                high[np.setdiff1d(tried, found)] = length - 1
            trial = (low + high + 1) // 2
        # Who shares 2 * size - 1 tokens may share more: that is for the next power.
        settled = hit[low[hit] < 2 * size - 1]
        ceiling[settled] = np.minimum(ceiling, low)[settled]

    def _test(
        self, block: _Lines, left: np.ndarray, tried: np.ndarray, length: int, first: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Those of the positions ``left`` whose window stands in a tried sample, and the samples that it stands in."""
        mask = np.zeros(len(self.full), bool)
        mask[tried] = True
        windows = self.lines.fitting(np.flatnonzero(mask[self.owners]), length)
        left = block.fitting(left, length)
        if not len(windows) or not len(left):
            return left[:0], tried[:0]
        wanted = _Wanted(self.lines.hashes(windows, length))
        at, numbers = wanted.find(block.hashes(left, length))
        slot = np.full(len(wanted.hashes), -1, np.int64)
        slot[numbers[::-1]] = left[at[::-1]]  # of a repeated number the last stands: the first place
        there = slot[wanted.number]
        windows, there = windows[there >= 0], there[there >= 0]
        hit, firsts = np.unique(self.owners[windows], return_index=True)
        longer = self.best[hit] < length
        better, firsts = hit[longer], firsts[longer]
        self.best[better] = length
        self.start[better] = windows[firsts] - self.bounds[better]
        self.place[better] = there[firsts] + first
        return left[at], hit

    def runs(self, offsets: np.ndarray) -> Runs:
        documents = np.searchsorted(offsets, self.place, side="right") - 1
        return Runs(self.best, self.start, np.where(self.place < 0, -1, documents), self.place)


def _by_token(sample: np.ndarray, stream: Any, offsets: Any, metric: str) -> tuple[int, int, int]:
    """Length, start and place of a sample's longest run, token against token: slow, with no hash that may mislead."""
    best = (0, 0, -1)
    for block, own, first in _blocks(metric, stream, offsets, len(sample)):
        inside = np.arange(1, len(block.tokens) + 1) < block.ends
        run = np.zeros(len(block.tokens) + 1, np.int64)
        for start in range(len(sample) - 1, -1, -1):
            run[:-1] = np.where(block.tokens == sample[start], 1 + run[1:] * inside, 0)
            place = int(run[:own].argmax())
            if run[place] > best[0]:
                best = (int(run[place]), start, first + place)
    return best


class Copied(NamedTuple):
    """Number of n-grams of each sample that occur in training documents."""

    copied: np.ndarray
    """int64 (N,)."""
    grams: np.ndarray
    """int64 (N,): all n-grams of each, those that occur twice counted twice."""


def copied_grams(
    samples: Sequence[Sequence[int]], stream: Any, offsets: Any, n: int, metric: str = "copied_ngrams"
) -> Copied:
    """Number of each sample's n-grams that occur in a training document, exactly.

    Args:
        samples: N token sequences without boundary.
        stream: (T,) tokens of the training documents end to end, memory-mapped if need be.
        offsets: (L+1,): document i is ``stream[offsets[i]:offsets[i+1]]``.
        n: Tokens of an n-gram.
        metric: Name that opens an error message.

    Raises:
        DataError: No sample, n below 1, tokens that aren't whole numbers of at least 0, or offsets that don't fit.
    """
    if n < 1:
        raise DataError(f"{metric}: n is {n}; give at least 1")
    lines, bounds = _token_rows(f"{metric}: samples", samples)
    windows = lines.fitting(np.arange(len(lines.tokens)), n)
    wanted = _Wanted(lines.hashes(windows, n))
    texts = [lines.tokens[place : place + n].tobytes() for place in windows]
    sought: list[set[bytes]] = [set() for _ in wanted.hashes]
    for text, number in zip(texts, wanted.number, strict=True):
        sought[number].add(text)
    found: set[bytes] = set()
    for block, own, _ in _blocks(metric, stream, offsets, n - 1):
        if len(windows):
            _confirm(block, block.fitting(np.arange(own), n), n, wanted, sought, found)
    owners = np.repeat(np.arange(len(samples)), np.diff(bounds))[windows]
    hits = np.array([text in found for text in texts], bool)
    count = len(samples)
    return Copied(np.bincount(owners[hits], minlength=count), np.bincount(owners, minlength=count))


def _confirm(
    block: _Lines, places: np.ndarray, n: int, wanted: _Wanted, sought: list[set[bytes]], found: set[bytes]
) -> None:
    """Move what the block holds, token by token, from ``sought`` to ``found``."""
    at, numbers = wanted.find(block.hashes(places, n))
    places = places[at]
    _, firsts = np.unique(numbers, return_index=True)
    for first in firsts.tolist():
        number = numbers[first]
        open_ = sought[number]
        # One look settles it unless two texts share a hash: then every place is looked at.
        several = len(open_) > 1
        text = block.tokens[places[first] : places[first] + n].tobytes()
        if several or (open_ and text not in open_):
            for place in places[numbers == number].tolist():
                found |= open_ & {block.tokens[place : place + n].tobytes()}
            open_ -= found
        elif open_:
            found.add(text)
            open_.clear()
