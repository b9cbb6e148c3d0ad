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


class Writer:
    """Writes tables of records as ``part-00000.parquet``, ... of about ``size`` bytes of content each."""

    def __init__(self, folder: Path, size: float) -> None:
        self.folder, self.size = folder, size
        self.tables: list[pd.DataFrame] = []
        self.held = self.shards = self.rows = 0

    def add(self, table: "pd.DataFrame") -> None:
        """Append records; full shards are written."""
        self.rows += len(table)
        start = 0
        sizes = table["content"].str.len().to_numpy(np.int64)
        marks = np.array([int(digest[:6], 16) for digest in table["sha256"]], np.int64)
        # In whole numbers, so that every machine cuts alike: s bytes end a shard with probability s / rest.
        small = marks * int(self.size * (1 - LEAST) + 1) < np.minimum(sizes, 1 << 38) << 24
        for row, (length, ends) in enumerate(zip(sizes.tolist(), small.tolist(), strict=True)):
            self.held += length
            if (ends and self.held >= LEAST * self.size) or self.held >= MOST * self.size:
                self.tables.append(table.iloc[start : row + 1])
                self.flush()
                start = row + 1
        if start < len(table):
            self.tables.append(table.iloc[start:])

    def flush(self) -> None:
        """Write what is held as a shard."""
        import pandas as pd

        if self.tables:
            write_table(self.folder / f"part-{self.shards:05d}.parquet", pd.concat(self.tables, ignore_index=True))
            self.shards, self.tables, self.held = self.shards + 1, [], 0


def write_shards(folder: Path, tables: "Iterable[pd.DataFrame]", megabytes: float) -> int:
    """Write record tables as shards into a folder that is being published; returns the number of records."""
    writer = Writer(folder, megabytes * 2**20)
    for table in tables:
        writer.add(table)
    writer.flush()
    return writer.rows
