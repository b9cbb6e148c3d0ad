"""Pad requests to batches of a fixed number of rows, so that a sample's bytes don't depend on the batch.

A kernel chooses the order of its sums by the number of rows: 512 of 512 pictures of a GAN in batches of 15 differ in
their last bits from those in batches of 16 (docs/decisions/0008). So every batch has the same number of rows: missing
ones are filled by repeating a request. And one thread computes it: several divide a matrix among them, and then the
place of a row counts (with two, 4 of 32 texts of a transformer differ between two orders of the same requests).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch


class Chunk(NamedTuple):
    """Requests that are computed together."""

    rows: list[int]
    """Positions of the requests, as many as the matrix has rows; behind ``real`` the last one again."""
    real: int
    """How many of them were asked for."""


def fixed_rows(kinds: Sequence[Hashable], rows: int) -> Iterator[Chunk]:
    """Chunks of exactly ``rows`` requests of one kind.

    Args:
        kinds: Of each request; only those of one kind can be computed together, such as prompts of one length.
        rows: Height of the matrices, 1 or more.
    """
    places = defaultdict(list)
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    for found in places.values():
        for start in range(0, len(found), rows):
            part = found[start : start + rows]
            # Not a request of its own: the last one again ends with it, so that no text is drawn out for a dummy.
            yield Chunk(part + part[-1:] * (rows - len(part)), len(part))


@contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread for torch; behind it as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
