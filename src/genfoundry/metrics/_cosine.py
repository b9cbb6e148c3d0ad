"""Directions of features, for similarities by the cosine of an angle."""

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import unit_of

BLOCK = 1024
"""Rows of a similarity matrix held at once."""


def directions(what: str, values: np.ndarray) -> np.ndarray:
    """Rows of float64 (N, D) at length 1.

    Args:
        what: Metric and evidence, such as ``mifid: features``; opens the message.
        values: Checked rows.

    Raises:
        DataError: A row of zeros, which has no direction.
    """
    scaled = values / unit_of(values)
    lengths = np.sqrt((scaled**2).sum(axis=1))
    none = np.flatnonzero(lengths == 0)
    if len(none):
        raise DataError(f"{what} are 0 in {len(none)} of {len(values)} rows, first in row {none[0]}: no direction")
    return scaled / lengths[:, None]


def nearest_angles(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``1 - |cos|`` of each direction of x with the one of y that is nearest by it, in [0, 1]: float64 (N,)."""
    blocks = (np.abs(x[start : start + BLOCK] @ y.T).max(axis=1) for start in range(0, len(x), BLOCK))
    return np.clip(1 - np.concatenate(list(blocks)), 0, 1)
