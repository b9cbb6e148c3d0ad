"""Text as a set of word 5-grams: 64-bit hashes out of Arrow's bytes, no Python object per word or row.

Words are runs of letters, marks, digits and underscores, lower-cased, in NFC. Scripts written without spaces
between words (Han, kana, Thai, Lao, Khmer, Myanmar, ...) give one word a code point.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.specs import Sets
from genfoundry.modalities.common.wordclasses import CLASSES

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 1 << 21
"""Bytes of text worked on at once: with what the kernel writes they stay in the cache."""


def canonical(text: str) -> str:
    """Text as it is compared: lower case, NFC."""
    return unicodedata.normalize("NFC", text.lower())


def sets(texts: "Sequence[str] | pa.Array | Any") -> Sets:
    """The set of 5-gram hashes of each text; a text under five words has none.

    Args:
        texts: Strings: a sequence, an Arrow array, or a pandas column, whose Arrow buffers are read in place.
    """
    import pyarrow as pa

    from genfoundry.modalities.common import shinglekernel

    column = pa.array(texts, pa.large_string()) if isinstance(texts, list | tuple) else pa.array(texts)
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    column = column.cast(pa.large_string())
    # A word and a gap take two bytes. What is never written costs address space alone.
    hashes = np.empty(_bytes(column) // 2 + 2 * len(column) + 16, np.uint64)
    ptr = np.zeros(len(column) + 1, np.int64)
    row = filled = 0
    text = _Text()
    for block in _blocks(column):
        text.load(block)
        if not text.plain.all():
            alters = np.empty(len(block), bool)
            shinglekernel.altered(text.words, text.begins, text.ends, text.plain, text.classes, alters)
            for number in np.flatnonzero(alters):
                text.replace(number, canonical(block[number].as_py()))
        if filled + text.size // 2 + 2 * len(block) > len(hashes):  # lower case may be longer
            hashes = np.concatenate([hashes[:filled], np.empty(len(hashes) + text.size, np.uint64)])
        part = ptr[row : row + len(block) + 1]
        filled = shinglekernel.fill(text.words, text.begins, text.ends, text.plain, text.classes, hashes, filled, part)
        row += len(block)
    hashes.resize(filled, refcheck=False)
    return Sets(hashes, ptr)


def _bytes(column: "pa.ChunkedArray") -> int:
    return sum(int(bounds[-1] - bounds[0]) for bounds in map(_bounds, column.chunks))


def _blocks(column: "pa.ChunkedArray") -> "Iterator[pa.Array]":
    """Rows of about ``BLOCK`` bytes each."""
    for chunk in column.chunks:
        bounds = _bounds(chunk)
        start = 0
        while start < len(chunk):
            stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + BLOCK, "right")) - 1)
            yield chunk[start:stop]
            start = stop


def _bounds(block: "pa.Array") -> np.ndarray:
    """Bytes at which the rows of a large_string array begin in its buffer, and the last one's end."""
    return np.frombuffer(block.buffers()[1], np.int64)[block.offset : block.offset + len(block) + 1]


class _Text:
    """The bytes of some rows as the kernels take them; the room for them is used again."""

    def __init__(self) -> None:
        self.words = np.zeros(4, np.uint64)

    def load(self, block: "pa.Array") -> None:
        """Take the rows of a block."""
        import pyarrow.compute as pc

        bounds = _bounds(block)
        data = np.frombuffer(block.buffers()[2] or b"", np.uint8)[bounds[0] : bounds[-1]]
        self.size = 0
        self._append(data)
        self.begins, self.ends = bounds[:-1] - bounds[0], bounds[1:] - bounds[0]
        self.plain = pc.string_is_ascii(block).to_numpy(zero_copy_only=False)
        self.classes = CLASSES.below(0x80)
        if not self.plain.all():
            self._know(data)

    def replace(self, row: int, text: str) -> None:
        """Give a row another text."""
        data = np.frombuffer(text.encode(), np.uint8)
        self.begins[row], self.ends[row] = self.size, self.size + len(data)
        self._append(data)
        self._know(data)

    def _append(self, data: np.ndarray) -> None:
        stop = self.size + len(data)
        if len(self.words) < stop // 8 + 3:
            self.words = np.concatenate([self.words, np.zeros(stop // 8 + 3, np.uint64)])
        self.words.view(np.uint8)[self.size : stop] = data
        self.size = stop

    def _know(self, data: np.ndarray) -> None:
        """Fill the table of code points as far as the text needs, by its largest byte."""
        largest = int(data.max(initial=0))
        steps = ((0x80, 0x80), (0xE0, 0x800), (0xF0, 0x10000), (0xF1, 0x40000), (0x100, 0x110000))
        self.classes = CLASSES.below(next(stop for lead, stop in steps if largest < lead))
