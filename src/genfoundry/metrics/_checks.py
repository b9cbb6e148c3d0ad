"""What every metric refuses, by name: too few rows, wrong shapes, NaN and infinity."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from genfoundry.errors import DataError


def rows(what: str, values: Any, least: int = 2) -> np.ndarray:
    """Values as float64 (N, D).

    Args:
        what: Metric and evidence, such as ``fid_domain: features``; opens every message.
        values: One row for each sample or record.
        least: Fewest rows that the metric can work with.

    Raises:
        DataError: Not two axes, fewer rows than ``least``, no columns, or a value that is NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(f"{what} have shape {array.shape}; give (rows, columns)")
    if len(array) < least:
        raise DataError(f"{what} have {len(array)} rows; give at least {least}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(
            f"{what} hold NaN or infinity in {len(bad)} of {len(array)} rows, first in row {bad[0]}; "
            "look at these samples, and at the network that made the numbers"
        )
    return array


def same_width(metric: str, features: np.ndarray, reference: np.ndarray) -> None:
    """Refuse two sets of features that can't come from one network."""
    if features.shape[1] != reference.shape[1]:
        raise DataError(
            f"{metric}: features have {features.shape[1]} columns, reference_features {reference.shape[1]}; "
            "make both with the same network"
        )


def counts(what: str, values: Any) -> np.ndarray:
    """Counts or sums, one for each document, as float64 (N,).

    Raises:
        DataError: Fewer than two, not one axis, or one that is negative, NaN or infinite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2:
        raise DataError(f"{what} have shape {array.shape}; give one number for each of at least 2 documents")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if len(bad):
        raise DataError(
            f"{what} are NaN, infinite or negative for {len(bad)} of {len(array)} documents, "
            f"first for row {bad[0]} ({array[bad[0]]}); look at the model that priced them"
        )
    return array


def same_length(metric: str, named: Sequence[tuple[str, np.ndarray]]) -> None:
    """Refuse columns that can't belong to the same documents."""
    lengths = {name: len(column) for name, column in named}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{metric}: unequal numbers of documents: {lengths}; score all columns over the same documents")
