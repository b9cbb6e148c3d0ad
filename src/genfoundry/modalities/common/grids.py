"""Write arrays of stored levels for modalities whose models see grids."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd


def write_arrays(
    read: "Callable[[str], Iterator[pd.DataFrame]]",
    counts: Mapping[str, int],
    folder: Path,
    levels: "Callable[[pd.DataFrame], np.ndarray]",
    what: str,
    remedy: str,
) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Write ``<split>.npy``: stored levels (N, C, *shape), row by row in the order of column ``row``.

    Args:
        read: Tables of a split.
        counts: Records of each split.
        folder: Where to.
        levels: Stored levels (n, C, *shape) of a table's n records; all of one type and shape.
        what: What a record is called, in the plural, for errors.
        remedy: What to do where records differ in shape.

    Returns:
        (C, *shape) and the figures for the report.

    Raises:
        DataError: Records differ in shape, or there is none.
    """
    report: dict[str, Any] = {}
    shapes: dict[tuple[int, ...], str] = {}
    for split, count in counts.items():
        array: np.ndarray | None = None
        for table in read(split):
            values = levels(table)
            shapes[values.shape[1:]] = str(table["id"].iloc[0])
            if len(shapes) > 1:
                listed = "; ".join(f"{shape}: {name}, ..." for shape, name in shapes.items())
                raise DataError(f"{what} differ in shape: {listed}; {remedy}")
            if array is None:
                array = np.lib.format.open_memmap(
                    folder / f"{split}.npy", "w+", values.dtype, (count, *values.shape[1:])
                )
            array[table["row"].to_numpy()] = values
        if array is not None:
            array.flush()
        report[split] = {"records": count}
    if not shapes:
        raise DataError(f"none of the {what} is left to encode; look at the reports of preprocess and deduplicate")
    return next(iter(shapes)), report
