"""Text as a set of word 5-grams: 64-bit hashes by numpy over code points, no Python object per word.

Words are runs of letters, marks, digits and underscores, lower-cased, in NFC. Scripts written without spaces
between words (Han, kana, Thai, Lao, Khmer, Myanmar, ...) give one word a code point.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np

from genfoundry.specs import Sets

WORDS = 5
"""Words of a shingle, as in Lee et al. 2022 (arXiv:2107.06499) and the tools after them."""

BLOCK = 1 << 19
"""Code points worked on at once: their arrays fit into the cache of a core."""

UNSPACED = (
    (0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F),
    (0x3005, 0x3007), (0x3021, 0x3029), (0x3038, 0x303B), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF), (0xA980, 0xA9FF), (0xAA60, 0xAADF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F), (0x11700, 0x1174F),
    (0x1B000, 0x1B16F), (0x20000, 0x3FFFF),
)  # fmt: skip
"""Blocks of scripts without spaces: Thai to Lao, Myanmar, Khmer, Tai, Balinese, kana, Han, Javanese, Ahom."""

_BASE = 0x9E3779B97F4A7C15
_MIX = np.uint64(0xD6E8FEB86659FD93)
_32 = np.uint64(32)
_GAP, _WORD, _OWN = 0, 1, 2


class _Classes:
    """Class of every code point (gap, part of a word, its own word), filled as far as it was asked for."""

    def __init__(self) -> None:
        self.table = np.zeros(0, np.uint8)

    def of(self, codes: np.ndarray) -> np.ndarray:
        top = int(codes.max(initial=0)) + 1
        if top > len(self.table):
            self._extend(min(0x110000, -(-top // 4096) * 4096))
        return self.table[codes]

    def _extend(self, stop: int) -> None:
        start = len(self.table)
        more = [unicodedata.category(chr(code))[0] in "LMN" for code in range(start, stop)]
        self.table = np.concatenate([self.table, np.array(more, np.uint8)])
        self.table[ord("_")] = _WORD
        for first, last in UNSPACED:
            part = self.table[first : last + 1]
            part[part > 0] = _OWN


_CLASSES = _Classes()


def _powers(base: int, count: int) -> np.ndarray:
    powers = np.full(count, base, np.uint64)
    powers[:1] = 1
    return np.multiply.accumulate(powers)


def _finish(hashes: np.ndarray) -> np.ndarray:
    """Spread entropy over all bits (the multiply-xorshift finalizer of splitmix64's kind)."""
    for _ in range(2):
        hashes = (hashes ^ (hashes >> _32)) * _MIX
    return hashes ^ (hashes >> _32)


def _word_hashes(codes: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Hash of each word, uint64, and for each document the number of its first word; ``edges`` bound documents."""
    kind = _CLASSES.of(codes)
    word, own = kind > _GAP, kind == _OWN
    fresh = np.ones(len(codes), bool)
    fresh[1:] = ~word[:-1] | own[1:] | own[:-1]
    inner = edges[edges < len(codes)]
    fresh[inner] = True
    ends = np.ones(len(codes), bool)
    ends[:-1] = fresh[1:] | ~word[1:]
    starts, stops = np.flatnonzero(word & fresh), np.flatnonzero(word & ends)
    # A word is a polynomial in _BASE modulo 2**64, cut out of one running sum: no loop over words.
    powers, inverse = _powers(_BASE, len(codes) + 1), _powers(pow(_BASE, -1, 1 << 64), len(codes) + 1)
    sums = np.zeros(len(codes) + 1, np.uint64)
    np.cumsum(_finish(codes.astype(np.uint64) + np.uint64(1)) * powers[:-1], out=sums[1:])
    words = (sums[stops + 1] - sums[starts]) * inverse[starts]
    return _finish(words), np.searchsorted(starts, edges)


def _block_sets(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(hashes sorted and distinct within each document, their number per document)."""
    lengths = np.array([len(text) for text in texts], np.int64)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    words, firsts = _word_hashes(codes, edges)
    number = len(words) - WORDS + 1
    if number <= 0:
        return np.empty(0, np.uint64), np.zeros(len(texts), np.int64)
    grams = np.zeros(number, np.uint64)
    for place in range(WORDS):
        grams = (grams + words[place : place + number]) * _MIX
        grams ^= grams >> _32
    document = np.searchsorted(firsts, np.arange(number), side="right") - 1
    whole = np.arange(number) + WORDS <= firsts[document + 1]
    grams, document = _finish(grams[whole]), document[whole]
    order = np.lexsort((grams, document))
    grams, document = grams[order], document[order]
    new = np.ones(len(grams), bool)
    new[1:] = (grams[1:] != grams[:-1]) | (document[1:] != document[:-1])
    return grams[new], np.bincount(document[new], minlength=len(texts))


def canonical(text: str) -> str:
    """Text as it is compared: lower case, NFC."""
    return unicodedata.normalize("NFC", text.lower())


def sets(texts: Sequence[str]) -> Sets:
    """The set of 5-gram hashes of each text; a text under five words has none."""
    parts, counts, block, held = [], [np.zeros(0, np.int64)], [], 0
    for number, text in enumerate(texts):
        block.append(canonical(text))
        held += len(block[-1])
        if held >= BLOCK or number == len(texts) - 1:
            hashes, count = _block_sets(block)
            parts.append(hashes)
            counts.append(count)
            block, held = [], 0
    ptr = np.concatenate([[0], np.cumsum(np.concatenate(counts))]).astype(np.int64)
    return Sets(np.concatenate(parts) if parts else np.empty(0, np.uint64), ptr)
