"""Content-defined shard borders: an added file changes the shard it falls into, not those behind it.

A border stands behind a record whose hash is small for its size (content-defined chunking: Muthitacharoen et al. 2001),
with a least and a most size, so that shards come out at about the asked one.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

LEAST, MOST = 0.5, 2.0
"""Sizes between which a shard ends, as shares of the asked one."""


class Ends:
    """Where shards of about ``size`` bytes of content end, as records come.

    Args:
        size: Bytes or characters.
        records: Records in a shard, about, where these are small: each counts ``size / records`` at least; 0: as it is.
    """

    def __init__(self, size: float, records: int = 0) -> None:
        self.size, self.least = size, int(size) // records if records else 0
        self.held = 0

    def marks(self, table: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray]:
        """(what each record counts, whether its hash lets a shard end behind it)."""
        sizes = np.maximum(table["content"].str.len().to_numpy(np.int64), self.least)
        marks = np.array([int(digest[:6], 16) for digest in table["sha256"]], np.int64)
        # In whole numbers, so that every machine cuts alike: s bytes end a shard with probability s / rest.
        return sizes, marks * int(self.size * (1 - LEAST) + 1) < np.minimum(sizes, 1 << 38) << 24

    def next(self, sizes: np.ndarray, small: np.ndarray) -> int:
        """Records up to and with the one that ends the shard; 0 if none of these does, and all count as held."""
        total = self.held + np.cumsum(sizes)
        ends = np.flatnonzero(small & (total >= LEAST * self.size) | (total >= MOST * self.size))
        if len(ends):
            self.held = 0
            return int(ends[0]) + 1
        self.held = int(total[-1]) if len(total) else self.held
        return 0
