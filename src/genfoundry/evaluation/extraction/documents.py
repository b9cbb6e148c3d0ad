"""Token documents of one split, as the encode stage wrote them."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Documents(NamedTuple):
    """One split of tokens: document i is ``tokens[offsets[i]:offsets[i+1]]``, its first token the boundary."""

    tokens: np.ndarray
    """uint16 or uint32, memory-mapped."""
    offsets: np.ndarray
    """int64 (N+1,)."""
    bytes: np.ndarray
    """int64 (N,): UTF-8 bytes."""
    conditions: Mapping[str, np.ndarray] = {}
    """Of each document, by name, as the model that reads them has them: (N, ...)."""

    @property
    def token_counts(self) -> np.ndarray:
        """Tokens of each document that are scored, all but the boundary: int64 (N,)."""
        return np.diff(self.offsets) - 1


def read_documents(arrays: Path, split: str) -> Documents:
    """A split as the encode stage wrote it."""
    tokens = np.load(arrays / f"{split}_tokens.npy", mmap_mode="r")
    return Documents(tokens, np.load(arrays / f"{split}_offsets.npy"), np.load(arrays / f"{split}_bytes.npy"))
