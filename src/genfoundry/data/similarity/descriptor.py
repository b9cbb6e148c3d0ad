"""Pictures as unit vectors that survive benign edits, and as small pictures on which a hit is verified.

63 low DCT coefficients of the luminance (the 8x8 block without DC), each times the square root of its frequency,
which undoes the 1/f spectrum of images. Resampling and DCT are linear, so both are one matrix on each side.
"""

import numpy as np

from genfoundry.config.specs import Vectors

SIDE = 32
"""Side of the small pictures that the DCT and the verification see."""

LOW = 8
"""Frequencies kept along each axis."""

_LUMA = np.array([299, 587, 114], np.float32)
"""Thousandths of R, G, B in luminance (ITU-R BT.601): sums of bytes by them are whole, so no processor rounds."""

FLAT = 0.5
"""Below this contrast (standard deviation of grey levels) a picture has nothing to compare."""

MIRROR = np.where(np.arange(LOW * LOW) % LOW % 2, -1, 1)[1:].astype(np.float32)
"""float32 (63,): a vector times this is the vector of the picture seen in a mirror (odd cosines change sign)."""


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
    if pixels.shape[-1] == 1:
        return pixels[..., 0].astype(np.float64)
    return (pixels[..., :3].astype(np.float32) @ _LUMA).astype(np.float64) / 1000


def _both_sides(rows: np.ndarray, grey: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, R, C): ``rows @ picture @ columns.T`` of each of (N, H, W), as two large products."""
    count, height, width = grey.shape
    half = (grey.reshape(count * height, width) @ columns.T).reshape(count, height, -1).transpose(0, 2, 1)
    whole = np.ascontiguousarray(half).reshape(-1, height) @ rows.T
    return whole.reshape(count, len(columns), len(rows)).transpose(0, 2, 1)


def _thumbs(pixels: np.ndarray) -> np.ndarray:
    """uint8 (N, SIDE, SIDE, C)."""
    count, height, width, channels = pixels.shape
    if (height, width) == (SIDE, SIDE):
        return pixels
    planes = pixels.transpose(0, 3, 1, 2).reshape(-1, height, width).astype(np.float64)
    small = _both_sides(_resample(height, SIDE), planes, _resample(width, SIDE))
    # Halves are frequent where sizes divide evenly; the hair above a half sends them up on every processor.
    return np.floor(small + 0.500001).astype(np.uint8).reshape(count, channels, SIDE, SIDE).transpose(0, 2, 3, 1)


def describe(pixels: np.ndarray, block: int = 256) -> Vectors:
    """Descriptors and small pictures of uint8 (N, H, W, C)."""
    count, height, width, channels = pixels.shape
    vectors = np.zeros((count, LOW * LOW - 1), np.float32)
    details = np.zeros((count, SIDE, SIDE, min(channels, 3)), np.uint8)
    dct = _dct()
    rows, columns = dct @ _resample(height, SIDE), dct @ _resample(width, SIDE)
    frequency = np.arange(LOW)
    weights = np.hypot(frequency[:, None], frequency[None]) ** 0.5
    for start in range(0, count, block):
        part = pixels[start : start + block]
        grey = luminance(part)
        low = (_both_sides(rows, grey, columns) * weights).reshape(len(grey), -1)[:, 1:]
        norms = np.sqrt(np.einsum("ij,ij->i", low, low))[:, None]
        level = grey.reshape(len(grey), -1)
        spread = np.einsum("ij,ij->i", level, level) / level.shape[1] - level.mean(axis=1) ** 2
        flat = spread[:, None] < FLAT**2
        vectors[start : start + block] = np.where(flat, 0, low / np.maximum(norms, 1e-9))
        details[start : start + block] = _thumbs(part[..., :3])
    return Vectors(vectors, details)
