"""Exact search for similar pictures: every pair with a cosine at or above a threshold, confirmed on the pixels.

Candidates come from blocked matrix products, no index and no approximation; each is then scored again in float64
and confirmed by the correlation of small windows, which tells apart pictures that share a horizon or a frame.
"""

import numpy as np

from genfoundry.data.setjoin import PAIRS, Matches
from genfoundry.specs import Vectors

MARGIN = 1e-4
"""Single-precision products may be off by less than this; the double-precision score decides."""

WINDOW, STRIDE = 6, 2
"""Windows of the local check, in pixels of the small pictures."""

FLAT = 0.25
"""Windows with less than this share of a picture's contrast say nothing."""

QUANTILE = 0.1
"""The local score is this quantile over the windows: all but the worst tenth must agree."""

BLOCK = 1024
"""Rows of one matrix product."""


def decimals(score: np.ndarray) -> np.ndarray:
    """Scores to six decimals, so that no decision hangs on the last bits of a processor."""
    return np.round(score, 6)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of unit vectors, row by row, in float64."""
    return decimals((first.astype(np.float64) * second.astype(np.float64)).sum(axis=1))


def local(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Local correlation of small pictures (P, H, W), row by row: float64 in [-1, 1]; -1 where nothing can be said."""

    def windows(pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pictures = pictures.astype(np.float64)
        cut = np.lib.stride_tricks.sliding_window_view(pictures, (WINDOW, WINDOW), axis=(1, 2))[:, ::STRIDE, ::STRIDE]
        cut = cut.reshape(len(pictures), cut.shape[1] * cut.shape[2], WINDOW * WINDOW)
        contrast = np.maximum(pictures.std(axis=(1, 2)), 1e-3)[:, None]
        return cut - cut.mean(axis=-1, keepdims=True), cut.std(axis=-1) / contrast

    (a, rough_a), (b, rough_b) = windows(first), windows(second)
    norms = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
    score = (a * b).sum(-1) / np.maximum(norms, 1e-9)
    score = np.where(np.maximum(rough_a, rough_b) > FLAT, score, np.nan)
    found = np.full(len(score), -1.0)
    said = ~np.isnan(score).all(axis=1)
    found[said] = np.nanquantile(score[said], QUANTILE, axis=1)
    return decimals(found)


class Index:
    """Vectors that were entered, searched exactly."""

    def __init__(self, vectors: Vectors, threshold: float, least_local: float) -> None:
        self.all, self.threshold, self.least_local = vectors, threshold, least_local
        self.entered = np.empty(len(vectors.vectors), np.int64)
        self.held = np.empty_like(vectors.vectors)
        self.count = 0

    def add(self, rows: np.ndarray) -> None:
        """Enter rows."""
        stop = self.count + len(rows)
        self.entered[self.count : stop], self.held[self.count : stop] = rows, self.all.vectors[rows]
        self.count = stop

    def similar(self, rows: np.ndarray) -> Matches:
        """Every pair (row, entered row) at or above both thresholds."""
        parts = []
        for start in range(0, len(rows), BLOCK):
            mine = rows[start : start + BLOCK]
            close = self.all.vectors[mine] @ self.held[: self.count].T >= self.threshold - MARGIN
            first, second = np.nonzero(close)
            parts.append(self._verified(mine[first], self.entered[second]))
        return Matches.of(parts)

    def among(self, rows: np.ndarray) -> Matches | None:
        """Every pair within ``rows`` (ascending) at or above both thresholds; None if too many would be compared."""
        close = self.all.vectors[rows] @ self.all.vectors[rows].T >= self.threshold - MARGIN
        first, second = np.nonzero(np.tril(close, -1))
        if len(first) > PAIRS and len(rows) > 1:
            return None
        return self._verified(rows[first], rows[second])

    def _verified(self, first: np.ndarray, second: np.ndarray) -> Matches:
        parts = []
        for start in range(0, len(first), 4 * BLOCK):
            a, b = first[start : start + 4 * BLOCK], second[start : start + 4 * BLOCK]
            score = cosine(self.all.vectors[a], self.all.vectors[b])
            good = (score >= self.threshold) & (a != b)
            a, b, score = a[good], b[good], score[good]
            good = local(self.all.details[a], self.all.details[b]) >= self.least_local
            parts.append(Matches(a[good], b[good], score[good]))
        return Matches.of(parts)
