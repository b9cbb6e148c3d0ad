"""Data-copying test: are samples nearer to training records than held-out records are, region by region?

C_T of Meehan, Chaudhuri and Dasgupta 2020 (arXiv:2004.05675), section 3: the training features are divided into cells
by k-means; in each, the distances of samples and of held-out records to the nearest training record of the cell are
compared by Mann and Whitney's U, as a z-score; C_T is their mean, weighted by the held-out records in each cell. Far
below 0: samples are too near, copied. Far above: too far, underfitted. A model that copies in one region and misses
another may come to 0 as a whole: ``lowest`` is the z-score of the worst cell. The published code also moves U by half a
pair (continuity). The held-out records fall into two fixed halves: the first is compared with, the second is the floor.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import TooFewError
from genfoundry.metrics._checks import rows, same_width
from genfoundry.metrics._copies import halves, nearest

TITLE = "Data-copying test"
CAVEAT = (
    "As blind as the features; both ends are bad, and few copies among many good samples hardly move it: near_copies "
    "counts those."
)
COST = "5 s for 2,000 samples, 1,000 held-out and 10,000 training records in 512 features on one thread"
HIGHER_IS_BETTER = None
VERSION = 1
BY_DEFAULT = False
FLOOR = "reference"
RATIO_TO_FLOOR = False


class Config(Section):
    cells: int = Field(default=5, ge=1)
    """Cells of k-means over the training records."""
    least: int = Field(default=20, ge=1)
    """Samples, and held-out records, without which a cell is left out."""


class Cells(NamedTuple):
    """z-scores of the cells that count, with their weights."""

    z: np.ndarray
    weights: np.ndarray
    """Held-out records in each over those in all that count."""


def z_score(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Of Mann and Whitney's U, pairs whose sample is the farther, ties as halves; about N(0, 1) for equal laws.

    Args:
        samples: (m,) distances of samples.
        held_out: (n,) distances of held-out records.
    """
    m, n, ordered = len(samples), len(held_out), np.sort(held_out)
    below, up_to = (np.searchsorted(ordered, samples, side) for side in ("left", "right"))
    u = float((below + up_to).sum()) / 2
    return (u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12)


def _partition(train: np.ndarray, cells: int) -> np.ndarray:
    """Centres of k-means, from a fixed start: float64 (K, D), K at most ``cells``."""
    from scipy.cluster.vq import kmeans2

    start = np.random.Generator(np.random.PCG64(0)).choice(len(train), min(cells, len(train)), replace=False)
    centres, labels = kmeans2(train, train[np.sort(start)], minit="matrix", iter=50, missing="warn")
    return np.asarray(centres[np.unique(labels)])


def _away(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    found = nearest(x, train, 1, metric="data_copying")
    return found.distances[:, 0] * found.scale


def in_cells(samples: np.ndarray, held_out: np.ndarray, train: np.ndarray, config: Config) -> Cells:
    """z-scores by cell.

    Args:
        samples: (N, D).
        held_out: (M, D).
        train: (L, D).
        config: Cells, and how many rows one needs.
    """
    centres = _partition(train, config.cells)
    place = [
        nearest(part, centres, 1, metric="data_copying").rows[:, 0] if len(centres) > 1 else np.zeros(len(part), int)
        for part in (samples, held_out, train)
    ]
    z, sizes = [], []
    for cell in range(len(centres)):
        mine, real, known = (part[where == cell] for part, where in zip((samples, held_out, train), place, strict=True))
        if min(len(mine), len(real)) >= config.least and len(known) >= 2:
            z.append(z_score(*(_away(part, known) for part in (mine, real))))
            sizes.append(len(real))
    weights = np.array(sizes, np.float64)
    return Cells(np.array(z), weights / weights.sum() if len(weights) else weights)


def score(features: Any, train_features: Any, reference_features: Any, config: Config) -> Score:
    """Weighted mean of z-scores; ``lowest`` is the least, ``cells`` how many count.

    The standard error is that under the hypothesis of equal laws, where each z-score has variance 1.

    Args:
        features: (N, D) of the samples.
        train_features: (L, D) of the training records.
        reference_features: (M, D) of held-out records.
        config: Cells, and how many rows one needs.

    Raises:
        TooFewError: No cell has enough samples and held-out records.
        DataError: No sample, fewer than two training or held-out records, unequal widths, a value not finite.
    """
    x, train = rows("data_copying: features", features, 1), rows("data_copying: train_features", train_features)
    held_out = rows("data_copying: reference_features", reference_features)
    for other, side in ((x, "features"), (held_out, "reference_features")):
        same_width("data_copying", train, other, ("train_features", side))
    first, _ = halves(len(held_out))
    found = in_cells(x, held_out[first], train, config)
    if not len(found.z):
        raise TooFewError(
            f"data_copying: no cell of {config.cells} has {config.least} of the {len(x)} samples and of the "
            f"{len(first)} held-out records; take fewer cells or sample more"
        )
    extra = {"lowest": float(found.z.min()), "cells": len(found.z), "n_reference": len(first)}
    return Score(float(found.z @ found.weights), len(x), float(np.sqrt((found.weights**2).sum())), extra)
