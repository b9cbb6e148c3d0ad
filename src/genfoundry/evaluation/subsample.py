"""Fixed random rows, the same on every machine."""

import numpy as np


def subsample(count: int, wanted: int) -> np.ndarray:
    """``wanted`` different row numbers below ``count``, or all: int64, sorted."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(count)
    return np.sort(order[:wanted])
