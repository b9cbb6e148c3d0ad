"""Influences: first-order change of each score by each sample, record and document, for paired comparisons.

To first order a score is a sum over independent units, so the difference of two models' scores has as its influences
the differences of theirs, where unit i of both is the same seed or the same record (Efron and Tibshirani 1993,
An Introduction to the Bootstrap, doi:10.1201/9780429246593, chapter 22; Hampel 1974,
doi:10.1080/01621459.1974.10482962). What both models share, such as a hard document, cancels.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

INFLUENCES = "influences.npz"

Influence = Mapping[str, np.ndarray]
"""By what a unit is: float64 (N,), mean 0."""


def write_influences(path: Path, influences: Mapping[str, Influence]) -> None:
    """Write the influences of each score by its key, as ``<key>|<unit>``: float32 (N,)."""
    arrays = {
        f"{key}|{unit}": np.asarray(values, np.float32)
        for key, influence in influences.items()
        for unit, values in sorted(influence.items())
    }
    with path.open("wb") as file:
        np.savez(file, **arrays)


def read_influences(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """Influences by key of the score; empty where there is no file."""
    found: dict[str, dict[str, np.ndarray]] = {}
    if path.is_file():
        with np.load(path) as arrays:
            for name in arrays.files:
                key, _, unit = name.partition("|")
                found.setdefault(key, {})[unit] = arrays[name].astype(np.float64)
    return found


def paired_se(first: Influence, second: Influence) -> float:
    """Standard error of the difference of two scores of equal keys; NaN unless both have influences of equal units."""
    if not first or {unit: len(rows) for unit, rows in first.items()} != {u: len(rows) for u, rows in second.items()}:
        return math.nan
    return math.sqrt(sum(float(((first[unit] - second[unit]) ** 2).sum()) for unit in first))
