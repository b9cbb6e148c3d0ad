"""Token streams on disk: documents encoded piece by piece, then put in order without holding a split in memory.

A split is one stream: boundary, document, boundary, document, ... with an index of where each document's boundary
stands, so that windows may cross documents and the NLL of a single document can be computed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genfoundry.modalities.common.tokens import ESCAPE, load
from genfoundry.modalities.common.tokens import boundary as boundary_of

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

BATCH = 1024, 2**20
"""Documents and characters, about, that the tokenizer gets at once: it takes a hundred bytes for a token."""

SIZES = ("bytes", "characters", "words")
"""Sizes stored for each document."""


class Encoded(NamedTuple):
    """Some documents as tokens."""

    tokens: np.ndarray
    """uint16 or uint32: of each document the boundary, then its tokens."""
    ptr: np.ndarray
    """int64 (N+1,): where each document begins."""
    sizes: np.ndarray
    """int64 (len(SIZES), N)."""

    def take(self, rows: np.ndarray) -> "Encoded":
        """Some of them, in that order."""
        parts = [self.tokens[self.ptr[row] : self.ptr[row + 1]] for row in rows]
        lengths = np.diff(self.ptr)[rows]
        return Encoded(
            np.concatenate([self.tokens[:0], *parts]),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.sizes[:, rows],
        )

    def join(self, other: "Encoded") -> "Encoded":
        """These, then the others."""
        return Encoded(
            np.concatenate([self.tokens, other.tokens]),
            np.concatenate([self.ptr, self.ptr[-1] + other.ptr[1:]]),
            np.concatenate([self.sizes, other.sizes], axis=1),
        )


def encoded(texts: Sequence[str], tokenizer: "Tokenizer", boundary: int) -> Encoded:
    """Documents as tokens behind a boundary; each one for itself, whatever the others are."""
    kind = np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32
    rows: list[np.ndarray] = [np.empty(0, kind)]
    for part in _batches(texts):
        found = tokenizer.encode_batch_fast(part, add_special_tokens=False)
        rows += [np.array([boundary, *document.ids], kind) for document in found]
    sizes = [[len(text.encode()), len(text), len(text.split())] for text in texts]
    return Encoded(
        np.concatenate(rows),
        np.cumsum([len(row) for row in rows]).astype(np.int64),
        np.array(sizes, np.int64).reshape(-1, len(SIZES)).T.copy(),
    )


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    part, characters = [], 0
    for text in texts:
        if part and (len(part) == BATCH[0] or characters + len(text) > BATCH[1]):
            yield part
            part, characters = [], 0
        part.append(text)
        characters += len(text)
    if part:
        yield part


def encode_file(texts: Sequence[str], path: Path) -> Encoded:
    """Documents as tokens of the tokenizer in a folder."""
    tokenizer = load(path)
    return encoded(texts, tokenizer, boundary_of(tokenizer))


class Placed(NamedTuple):
    """Some encoded documents and where they go."""

    rows: np.ndarray
    """int64 (N,): rows of the split."""
    tokens: np.ndarray
    """uint16 or uint32: holds the documents, and others maybe."""
    start: np.ndarray
    """int64 (N,): where each document begins, with its boundary."""
    stop: np.ndarray
    """int64 (N,)."""


class Documents:
    """The encoded documents of a split: where each one lies is held, and its sizes; tokens come piece by piece."""

    def __init__(self, count: int) -> None:
        self.lengths = np.zeros(count, np.int64)
        """int64 (N,): tokens of each row, its boundary too."""
        self.sizes = np.zeros((len(SIZES), count), np.int64)
        """int64 (len(SIZES), N)."""
        self._pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray, Callable[[], np.ndarray]]] = []

    def add(
        self,
        rows: np.ndarray,
        start: np.ndarray,
        stop: np.ndarray,
        sizes: np.ndarray,
        tokens: Callable[[], np.ndarray],
    ) -> None:
        """Say of some documents which rows they go to.

        Args:
            rows: int64 (n,).
            start: int64 (n,): where each document begins in the tokens, with its boundary.
            stop: int64 (n,).
            sizes: int64 (len(SIZES), n).
            tokens: Gives the tokens when they are asked for.
        """
        self.lengths[rows], self.sizes[:, rows] = stop - start, sizes
        self._pieces.append((rows, start, stop, tokens))

    def __iter__(self) -> Iterator[Placed]:
        """All documents, in pieces of which one is held at a time."""
        for rows, start, stop, tokens in self._pieces:
            yield Placed(rows, tokens(), start, stop)


def write_stream(tokenizer: "Tokenizer", stream: Documents, folder: Path, split: str) -> dict[str, Any]:
    """Write the arrays of a split; returns its figures.

    Args:
        tokenizer: Made the tokens.
        stream: All documents.
        folder: Gets ``<split>_tokens.npy``, ``<split>_offsets.npy`` and one file for each of ``SIZES``.
        split: Its name.
    """
    offsets = np.concatenate([[0], np.cumsum(stream.lengths)]).astype(np.int64)
    kind = np.dtype(np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32)
    escape = tokenizer.token_to_id(ESCAPE)
    unknown = 0
    with (folder / f"{split}_tokens.npy").open("wb") as file:
        facts = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (int(offsets[-1]),)}
        np.lib.format.write_array_header_1_0(file, facts)
        file.flush()
        begin = file.tell()
        os.ftruncate(file.fileno(), begin + int(offsets[-1]) * kind.itemsize)
        for piece in stream:
            tokens = np.ascontiguousarray(piece.tokens, kind)
            view = memoryview(tokens).cast("B") if len(tokens) else memoryview(b"")
            bounds = zip((piece.start * kind.itemsize).tolist(), (piece.stop * kind.itemsize).tolist(), strict=True)
            places = (begin + offsets[piece.rows] * kind.itemsize).tolist()
            for (start, stop), place in zip(bounds, places, strict=True):
                _write(file.fileno(), view[start:stop], place)
            if escape is not None:
                before = np.concatenate([[0], np.cumsum(tokens == escape)])
                unknown += int((before[piece.stop] - before[piece.start]).sum())
    np.save(folder / f"{split}_offsets.npy", offsets, allow_pickle=False)
    for name, values in zip(SIZES, stream.sizes, strict=True):
        np.save(folder / f"{split}_{name}.npy", values, allow_pickle=False)
    count = len(stream.lengths)
    number, size = int(offsets[-1]) - count, int(stream.sizes[0].sum())
    report = {"records": count, "tokens": number, "bytes": size, "bytes_per_token": round(size / max(number, 1), 4)}
    return report if escape is None else {**report, "unknown_bytes": unknown}


def write_split(
    tokenizer: "Tokenizer", boundary: int, tables: "Iterator[pd.DataFrame]", count: int, folder: Path, split: str
) -> dict[str, Any]:
    """Write the arrays of a split of ``count`` documents that fit into memory, in the order of column ``row``."""
    documents = Documents(count)
    for table in tables:
        found = encoded(list(table["content"]), tokenizer, boundary)
        documents.add(table["row"].to_numpy(), found.ptr[:-1], found.ptr[1:], found.sizes, partial(_same, found.tokens))
    return write_stream(tokenizer, documents, folder, split)


def _same(tokens: np.ndarray) -> np.ndarray:
    return tokens


def _write(file: int, view: memoryview, place: int) -> None:
    while len(view):
        done = os.pwrite(file, view, place)
        view, place = view[done:], place + done


def sampled(sizes: np.ndarray, megabytes: float) -> int:
    """How many of the first rows come to so many megabytes, at least one."""
    return max(1, int(np.searchsorted(np.cumsum(sizes), megabytes * 1e6, "right")))
