"""Pictures as unit vectors that survive benign edits, and small luminance pictures for a second opinion.

63 low DCT coefficients of the luminance (the 8x8 block without DC), each times the square root of its frequency,
which undoes the 1/f spectrum of images. Resampling and DCT are linear, so both are one matrix on each side.
"""

import numpy as np

from genfoundry.specs import Vectors

SIDE = 32
"""Side of the luminance picture that the DCT sees."""

LOW = 8
"""Frequencies kept along each axis."""

DETAIL = 16
"""Side of the picture for the local check."""

_LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of R, G, B in luminance (ITU-R BT.601)."""

FLAT = 0.5
"""Below this contrast (standard deviation of grey levels) a picture has nothing to compare."""


def _resample(size: int, target: int) -> np.ndarray:
    """float64 (target, size): averages areas when shrinking, interpolates linearly when growing."""
    matrix = np.zeros((target, size))
    for row in range(target):
        if size >= target:
            start, stop = row * size / target, (row + 1) * size / target
            for column in range(int(start), min(int(np.ceil(stop)), size)):
                matrix[row, column] = (min(stop, column + 1) - max(start, column)) * target / size
        else:
            place = min(max((row + 0.5) * size / target - 0.5, 0), size - 1)
            left = min(int(place), size - 2) if size > 1 else 0
            matrix[row, left] += 1 - (place - left)
            if size > 1:
                matrix[row, left + 1] += place - left
    return matrix


def _dct() -> np.ndarray:
    """float64 (LOW, SIDE): the first rows of the orthonormal DCT-II."""
    frequency, place = np.arange(LOW)[:, None], np.arange(SIDE)[None]
    matrix = np.cos(np.pi * frequency * (2 * place + 1) / (2 * SIDE)) * np.sqrt(2 / SIDE)
    matrix[0] /= np.sqrt(2)
    return matrix


def luminance(pixels: np.ndarray) -> np.ndarray:
    """float64 (N, H, W) of uint8 (N, H, W, C)."""
    return pixels[..., 0].astype(np.float64) if pixels.shape[-1] == 1 else pixels[..., :3] @ _LUMA


def describe(pixels: np.ndarray, block: int = 1024) -> Vectors:
    """Descriptors and details of uint8 (N, H, W, C)."""
    count, height, width = pixels.shape[:3]
    vectors, details = np.zeros((count, LOW * LOW - 1), np.float32), np.zeros((count, DETAIL, DETAIL), np.float32)
    dct = _dct()
    rows, columns = dct @ _resample(height, SIDE), dct @ _resample(width, SIDE)
    small_rows, small_columns = _resample(height, DETAIL), _resample(width, DETAIL)
    frequency = np.arange(LOW)
    weights = np.hypot(frequency[:, None], frequency[None]) ** 0.5
    for start in range(0, count, block):
        grey = luminance(pixels[start : start + block])
        low = ((rows @ grey @ columns.T) * weights).reshape(len(grey), -1)[:, 1:]
        norms = np.linalg.norm(low, axis=1, keepdims=True)
        flat = grey.std(axis=(1, 2))[:, None] < FLAT
        vectors[start : start + block] = np.where(flat, 0, low / np.maximum(norms, 1e-9))
        details[start : start + block] = small_rows @ grey @ small_columns.T
    return Vectors(vectors, details)
