"""Cache of verified scores of picture pairs, so that added pictures cost their own pairs alone.

The key is the digests of both fingerprints, in their order. Of a pair ruled out by its edges the upper bound is
stored: it rules the pair out again while the threshold is above it, else the pair is verified again. So a cached
verdict is the one that would be computed, at any threshold.
"""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genfoundry.config.specs import Vectors
from genfoundry.data.shards.memo import Memo, fetch, keep

MICRO = 1e6
"""Scores have six decimals: millionths are kept."""

ODD = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64)
"""Odd multipliers: injective modulo 2**64, so no two digests become equal."""

MIRRORED = np.uint64(0x8BB84B93962EACC9)
"""Added to the keys of pairs of which the second was mirrored."""


class _Known(NamedTuple):
    """Verdicts of P pairs, in the order of ``key``."""

    key: np.ndarray
    """uint64 (P,)."""
    check: np.ndarray
    """uint64 (P,): other half of the key."""
    score: np.ndarray
    """int32 (P,): in millionths."""
    bound: np.ndarray
    """bool (P,): the score is no less than the true one, and nothing more is known."""

    def save(self, folder: Path) -> None:
        for name, values in self._asdict().items():
            np.save(folder / f"{name}.npy", values, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "_Known":
        return cls(*(np.load(folder / f"{name}.npy", allow_pickle=False) for name in cls._fields))

    @classmethod
    def of(cls, parts: "list[_Known]") -> "_Known":
        whole = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
        _, first = np.unique(whole[0], return_index=True)
        return cls(*(values[first] for values in whole))


NOTHING = _Known(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.int32), np.empty(0, bool))


class Verdicts:
    """Verdicts of an earlier run, and those of this one."""

    def __init__(self, known: _Known = NOTHING) -> None:
        self.known = known
        self.used: list[_Known] = [NOTHING]
        self.new = 0
        """Pairs that were not known."""

    def recall(self, pairs: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
        """(which of the pairs are settled, bool (P,); their scores, float64 (P,), -1 where below ``least``).

        Args:
            pairs: uint64 (P, 2), from ``keys``.
            least: Scores below may be bounds.
        """
        if not len(self.known.key):
            return np.zeros(len(pairs), bool), np.full(len(pairs), -1.0)
        place = np.minimum(np.searchsorted(self.known.key, pairs[:, 0]), len(self.known.key) - 1)
        key, check, kept, bound = (values[place] for values in self.known)
        score = kept / MICRO
        settled = (key == pairs[:, 0]) & (check == pairs[:, 1]) & (~bound | (score < least))
        self.used.append(_Known(key[settled], check[settled], kept[settled], bound[settled]))
        return settled, np.where(settled & ~bound, score, -1.0)

    def add(self, pairs: np.ndarray, score: np.ndarray, bound: np.ndarray) -> None:
        """Store pairs with their scores (six decimals), or upper bounds of them."""
        self.new += len(pairs)
        self.used.append(_Known(pairs[:, 0], pairs[:, 1], np.rint(score * MICRO).astype(np.int32), bound))


def digests(vectors: Vectors) -> np.ndarray:
    """uint64 (N, 2): of each fingerprint."""
    rows = zip(np.ascontiguousarray(vectors.vectors), np.ascontiguousarray(vectors.details), strict=True)
    found = [hashlib.blake2b(vector.tobytes() + detail.tobytes(), digest_size=16).digest() for vector, detail in rows]
    return np.frombuffer(b"".join(found), "<u8").reshape(-1, 2)


def keys(first: np.ndarray, second: np.ndarray, mirrored: bool) -> np.ndarray:
    """uint64 (P, 2): of pairs, by the digests of both."""
    mixed = first * ODD[:2] + second * ODD[2:]
    return mixed + MIRRORED if mirrored else mixed


@contextmanager
def verdicts_of(memo: Memo, key: Any, work: Path) -> Iterator[Verdicts | None]:
    """Verdicts kept under a key; in the end those that were used are kept in their place. None where nothing is kept.

    Args:
        memo: Where they are.
        key: Whose they are, as plain values.
        work: A new folder for files, removed in the end.
    """
    if not memo.limit:
        yield None
        return
    verdicts = Verdicts(_Known.load(work) if fetch(memo, key, work) else NOTHING)
    shutil.rmtree(work, ignore_errors=True)
    yield verdicts
    used = _Known.of(verdicts.used)
    if len(used.key) and (verdicts.new or len(used.key) < len(verdicts.known.key)):
        work.mkdir(parents=True)
        used.save(work)
        keep(memo, key, work)
        shutil.rmtree(work)
