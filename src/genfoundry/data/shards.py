"""Shards whose borders depend on content: a file added anywhere changes the shard it falls into, not those behind it.

A border stands behind a record whose hash is small for its size (content-defined chunking: Muthitacharoen et al. 2001),
with a least and a most size, so that shards come out at about the asked one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genfoundry.io import write_table

if TYPE_CHECKING:
    import pandas as pd

LEAST, MOST = 0.5, 2.0
"""Sizes between which a shard ends, as shares of the asked one."""


class Ends:
    """Where shards of about ``size`` bytes of content end, as records come."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.held = 0

    def marks(self, table: "pd.DataFrame") -> tuple[np.ndarray, np.ndarray]:
        """(bytes or characters of each record, whether its hash lets a shard end behind it)."""
        sizes = table["content"].str.len().to_numpy(np.int64)
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


class Writer:
    """Writes tables of records as ``part-00000.parquet``, ... of about ``size`` bytes of content each."""

    def __init__(self, folder: Path, size: float) -> None:
        self.folder, self.ends = folder, Ends(size)
        self.tables: list[pd.DataFrame] = []
        self.shards = self.rows = 0

    def add(self, table: "pd.DataFrame") -> None:
        """Append records; full shards are written."""
        self.rows += len(table)
        start = 0
        sizes, small = self.ends.marks(table)
        while start < len(table):
            count = self.ends.next(sizes[start:], small[start:])
            self.tables.append(table.iloc[start : start + count if count else None])
            if not count:
                return
            self.flush()
            start += count

    def flush(self) -> None:
        """Write what is held as a shard."""
        import pandas as pd

        if self.tables:
            write_table(self.folder / f"part-{self.shards:05d}.parquet", pd.concat(self.tables, ignore_index=True))
            self.shards, self.tables = self.shards + 1, []


def write_shards(folder: Path, tables: "Iterable[pd.DataFrame]", megabytes: float) -> int:
    """Write record tables as shards into a folder that is being published; returns the number of records."""
    writer = Writer(folder, megabytes * 2**20)
    for table in tables:
        writer.add(table)
    writer.flush()
    return writer.rows
