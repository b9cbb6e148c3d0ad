"""Text as a set of word 5-grams: 64-bit hashes out of Arrow's bytes, no Python object per word or row.

Words are runs of letters, marks, digits and underscores, lower-cased, in NFC. Scripts written without spaces
between words (Han, kana, Thai, Lao, Khmer, Myanmar, ...) give one word a code point.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.modalities.shared.wordclasses import CLASSES
from genfoundry.specs import Sets

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

    from genfoundry.modalities.shared import shinglekernel

    column = pa.array(texts, pa.large_string()) if isinstance(texts, list | tuple) else pa.array(texts)
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    column = column.cast(pa.large_string())
    # A word and a gap take two bytes. What is never written costs address space alone.
    hashes = np.empty(_bytes(column) // 2 + 2 * len(column) + 16, np.uint64)
    ptr = np.zeros(len(column) + 1, np.int64)
    row = filled = 0
    for block in _blocks(column):
        text = _Text(block)
        if not text.plain.all():
            alters = np.empty(len(block), bool)
            shinglekernel.altered(text.words, text.bounds, text.plain, text.classes, alters)
            if alters.any():
                text = _Text(_in_canonical_form(block, alters))
        if filled + len(text.words) * 4 + len(block) > len(hashes):  # lower case may be longer
            hashes = np.concatenate([hashes[:filled], np.empty(len(hashes) + len(text.words) * 4, np.uint64)])
        part = ptr[row : row + len(block) + 1]
        filled = shinglekernel.fill(text.words, text.bounds, text.plain, text.classes, hashes, filled, part)
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
    """The bytes of some rows as the kernels take them."""

    def __init__(self, block: "pa.Array") -> None:
        import pyarrow.compute as pc

        bounds = _bounds(block)
        origin, size = int(bounds[0]), int(bounds[-1] - bounds[0])
        self.bounds = bounds - origin
        self.words = np.empty(size // 8 + 3, np.uint64)
        self.words[-3:] = 0
        self.words.view(np.uint8)[:size] = np.frombuffer(block.buffers()[2] or b"", np.uint8)[origin : origin + size]
        self.plain = pc.string_is_ascii(block).to_numpy(zero_copy_only=False)
        self.classes = CLASSES.below(0x80)
        if not self.plain.all():
            # The largest byte tells how far code points may go.
            largest = int(self.words.view(np.uint8).max())
            steps = ((0xE0, 0x800), (0xF0, 0x10000), (0xF1, 0x40000), (0x100, 0x110000))
            self.classes = CLASSES.below(next(stop for lead, stop in steps if largest < lead))


def _in_canonical_form(block: "pa.Array", rows: np.ndarray) -> "pa.Array":
    """The block with some rows in canonical form."""
    import pyarrow as pa
    import pyarrow.compute as pc

    mask = pa.array(rows)
    folded = [canonical(text) for text in block.filter(mask).to_pylist()]
    return pc.replace_with_mask(block, mask, pa.array(folded, pa.large_string()))
