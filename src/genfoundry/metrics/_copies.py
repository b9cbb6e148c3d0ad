"""Copies of training records among samples: exact ones by their bytes, near ones by distances in features.

Distances are those of float64 differences, taken one by one for every pair that may be among the nearest; the fast
``x.x + y.y - 2 x.y`` only preselects, as it puts an exact copy at a distance of up to 1e-8 of the norm instead of 0.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._text import as_numbers

BLOCK = 2**22
"""Numbers of a block of distances or of differences: 32 MB as float64."""

Z = 1.959964
"""97.5 % quantile of the normal law."""


def share_error(share: float, count: int) -> float:
    """Standard error of a share of ``count`` independent units that is not 0 where the share is 0 or 1.

    Half the width of Wilson's 95 % interval (1927, doi:10.1080/01621459.1927.10502953) over 1.96.
    """
    return math.sqrt(share * (1 - share) / count + Z**2 / (4 * count**2)) / (1 + Z**2 / count)


class Copies(NamedTuple):
    """Share of samples that are copies."""

    value: float
    se: float
    copied: np.ndarray
    """bool (N,): which samples."""
    source: np.ndarray
    """int64 (N,): first training row it is a copy of, or -1 (exact); nearest training row (near)."""
    ratio: np.ndarray
    """float64 (N,): nearest over mean distance; 0 for exact copies, NaN where it was not measured."""
    threshold: float = 0.0
    """Ratio up to which a sample counts as a copy."""
    expected: float = 0.0
    """Share of fresh real records that counts too, for near copies."""


def _as_bytes(what: str, rows: Any) -> tuple[Sequence[bytes | np.ndarray], Any]:
    """Rows that have bytes, and what their kind is."""
    if hasattr(rows, "detach"):
        rows = as_numbers(what, rows)
    if isinstance(rows, np.ndarray):
        if rows.ndim == 0 or rows.dtype.hasobject:
            raise DataError(
                f"{what} are of type {rows.dtype}, shape {rows.shape}; give rows of numbers, bytes or texts"
            )
        return rows, (str(rows.dtype), rows.shape[1:])
    kinds = {type(row) for row in rows}
    if kinds - {str} and kinds - {bytes}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise DataError(f"{what} hold {names}; give an array, or a list of bytes or of str")
    if kinds == {str}:
        return [row.encode("utf-8", "surrogatepass") for row in rows], "str"
    return list(rows), "bytes"


def _row_bytes(row: bytes | np.ndarray) -> bytes:
    return row if isinstance(row, bytes) else np.ascontiguousarray(row).tobytes()


def exact_copy_share(samples: Any, training: Any, metric: str = "exact_copies") -> Copies:
    """Share of samples that are, byte for byte, a training record; hashes find them, the bytes decide.

    Args:
        samples: (N, ...) array of any type, or N values of type bytes or str.
        training: The same kind, as many as there are, memory-mapped if need be: only hashes of it are held.
        metric: Name that opens an error message.

    Raises:
        DataError: No row on a side, or rows of unequal type or shape, which can't be equal.
    """
    mine, kind = _as_bytes(f"{metric}: samples", samples)
    theirs, other = _as_bytes(f"{metric}: training records", training)
    if not len(mine) or not len(theirs):
        raise DataError(f"{metric}: {len(mine)} samples, {len(theirs)} training records; give at least one of each")
    if kind != other:
        raise DataError(f"{metric}: samples are {kind}, training records {other}; give both in one type and shape")
    places: dict[bytes, list[int]] = {}
    for number, row in enumerate(mine):
        places.setdefault(_hash(row), []).append(number)
    source = np.full(len(mine), -1, np.int64)
    for number, row in enumerate(theirs):
        for place in places.get(_hash(row), ()):
            if source[place] < 0 and _row_bytes(mine[place]) == _row_bytes(row):
                source[place] = number
    copied = source >= 0
    share = float(copied.mean())
    return Copies(share, share_error(share, len(copied)), copied, source, np.where(copied, 0.0, np.nan))


def _hash(row: bytes | np.ndarray) -> bytes:
    return hashlib.blake2b(_row_bytes(row), digest_size=16).digest()


class Nearest(NamedTuple):
    """The k nearest rows of y for each row of x, nearest first, ties by the lower row."""

    distances: np.ndarray
    """float64 (N, k), in the features' units over ``scale``."""
    rows: np.ndarray
    """int64 (N, k)."""
    scale: float
    """By what the distances were divided, so that no square overflows or vanishes."""


def nearest(x: Any, y: Any, k: int, without: np.ndarray | None = None, metric: str = "nearest") -> Nearest:
    """The k nearest rows of y for each row of x, exactly; memory is twice y in float64 and some blocks.

    Args:
        x: (N, D) features.
        y: (L, D) features to search.
        k: How many, below L.
        without: (N,) a row of y that each row of x must not find, such as itself.
        metric: Name that opens an error message.

    Raises:
        DataError: k not below L, unequal widths, or a value that is not finite.
    """
    x, y = _features(f"{metric}: features", x), _features(f"{metric}: train_features", y)
    if x.shape[1] != y.shape[1]:
        raise DataError(
            f"{metric}: features have {x.shape[1]} columns, train_features {y.shape[1]}; make both with one network"
        )
    if not 1 <= k < len(y):
        raise DataError(f"{metric}: k is {k} of {len(y)} training records; give a k of at least 1 and below that")
    scale = _scale(x, y)
    x, y = x / scale, y / scale
    origin = y.mean(axis=0)
    near_y = y - origin
    step = max(BLOCK // len(y), 1)
    distances, rows = np.empty((len(x), k)), np.empty((len(x), k), np.int64)
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        rough, slack = _rough(x[part] - origin, near_y, origin)
        if without is not None:
            rough[np.arange(len(rough)), without[part]] = np.inf
        kth = np.partition(rough, k - 1, axis=1)[:, k - 1]
        distances[part], rows[part] = _refined(x[part], y, rough <= (kth + 2 * slack)[:, None], k)
    return Nearest(distances, rows, scale)


def _scale(x: np.ndarray, y: np.ndarray) -> float:
    """A power of two, by which all differences become about 1 or less: no square overflows, none vanishes."""
    peak = max(float(np.abs(rows / 2 - y[0] / 2).max()) for rows in (x, y))
    # All rows equal: only the values themselves can overflow.
    peak = peak or float(np.abs(y[0]).max()) / 2
    return 2.0 ** min(math.floor(math.log2(peak)) + 2, 1023) if peak > 0 else 1.0


def _rough(x: np.ndarray, y: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances (N, L) of centred rows by the fast formula, and a bound of their error (N,)."""
    norms_x, norms_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    rough = x @ y.T
    rough *= -2
    rough += norms_x[:, None]
    rough += norms_y
    # Rounding of sums of D products and of the centring, several times over.
    size = norms_x + norms_y.max() + (origin**2).sum()
    return rough, 8 * (x.shape[1] + 8) * np.finfo(np.float64).eps * size


def _refined(x: np.ndarray, y: np.ndarray, candidates: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows of the k nearest among the candidates of each row: bool (N, L), at least k of each."""
    owners, places = np.nonzero(candidates)
    squares = np.empty(len(owners))
    step = max(BLOCK // x.shape[1], 1)
    for start in range(0, len(owners), step):
        part = slice(start, start + step)
        squares[part] = ((x[owners[part]] - y[places[part]]) ** 2).sum(axis=1)
    order = np.lexsort((places, squares, owners))
    # nonzero goes row by row, so owners are sorted already.
    picked = order[np.searchsorted(owners, np.arange(len(x)))[:, None] + np.arange(k)]
    return np.sqrt(squares[picked]), places[picked]


def _features(what: str, values: Any) -> np.ndarray:
    array = as_numbers(what, values).astype(np.float64)
    if array.ndim != 2 or not array.size:
        raise DataError(f"{what} have shape {array.shape}; give (rows, columns), at least one of each")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(f"{what} hold NaN or infinity in {len(bad)} of {len(array)} rows, first in row {bad[0]}")
    return array


def nearness(x: Any, y: Any, k: int, metric: str = "near_copies") -> tuple[np.ndarray, Nearest]:
    """Distance to the nearest row of y over the mean distance to the k nearest: float64 (N,) in [0, 1]; 0 for a copy.

    The measure of Carlini et al. 2023 (arXiv:2301.13188), without its factor alpha: a small ratio says that one record
    is much nearer than its like, whatever the density of records there. All k at distance 0 count as ratio 0.
    """
    found = nearest(x, y, k, metric=metric)
    mean = found.distances.mean(axis=1)
    return np.divide(found.distances[:, 0], mean, out=np.zeros(len(mean)), where=mean > 0), found


def usual_k(count: int) -> int:
    """Neighbours that the nearest is compared with, for ``count`` training records: 50, or half of fewer than 100."""
    return max(min(50, count // 2), 1)


def halves(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Two fixed random halves of ``count`` rows, each sorted; the first has the odd one."""
    order = np.random.Generator(np.random.PCG64(0)).permutation(count)
    middle = (count + 1) // 2
    return np.sort(order[:middle]), np.sort(order[middle:])


def low_threshold(ratios: np.ndarray, quantile: float) -> tuple[float, float]:
    """A ratio that a further held-out record falls to or below with the returned probability, at most ``quantile``.

    The r-th smallest of m values, which a further value of the same law is not above with probability r / (m + 1);
    with fewer than 1 / quantile - 1 values it is the smallest one, and the probability is above the quantile.
    """
    rank = max(math.floor(quantile * (len(ratios) + 1) + 1e-9), 1)
    return float(np.sort(ratios)[rank - 1]), rank / (len(ratios) + 1)


def near_copy_share(
    features: Any,
    train_features: Any,
    reference_features: Any,
    k: int = 50,
    quantile: float = 0.01,
    metric: str = "near_copies",
) -> Copies:
    """Share of samples nearer to one training record than nearly all held-out records are.

    A sample counts when its ``nearness`` is at most the low ``quantile`` of the held-out records', measured against
    the same training records. So about ``quantile`` of fresh real records count, and all exact copies do, unless
    more than that of the held-out records are copies themselves. The error bar covers the samples and, as if both
    had the same density there, the held-out records behind the threshold.

    Args:
        features: (N, D) of the samples.
        train_features: (L, D) of the training records.
        reference_features: (M, D) of held-out records.
        k: Neighbours that the nearest is compared with, below L.
        quantile: Share of held-out records that may count.
        metric: Name that opens an error message.

    Raises:
        DataError: k not below L, a quantile outside (0, 1), unequal widths, no row, or a value that is not finite.
    """
    if not 0 < quantile < 1:
        raise DataError(f"{metric}: quantile is {quantile}; give a share between 0 and 1, such as 0.01")
    held_out, _ = nearness(reference_features, train_features, k, metric)
    threshold, expected = low_threshold(held_out, quantile)
    ratios, found = nearness(features, train_features, k, metric)
    copied = ratios <= threshold
    share = float(copied.mean())
    se = math.hypot(share_error(share, len(copied)), math.sqrt(expected * (1 - expected) / (len(held_out) + 2)))
    return Copies(share, se, copied, found.rows[:, 0], ratios, threshold, expected)


def authenticity(features: Any, train_features: Any, metric: str = "authenticity") -> Copies:
    """Share of samples that are authentic: farther from the nearest training record than that is from its own nearest.

    Alaa et al. 2022 (arXiv:2102.08921), section 4.2. Equal distances are not authentic. ``copied`` are the others,
    ``ratio`` is the sample's distance over the record's.

    Raises:
        DataError: Fewer than two training records, unequal widths, or a value that is not finite.
    """
    found = nearest(features, train_features, 1, metric=metric)
    own, rows = np.unique(found.rows[:, 0], return_inverse=True)
    train = _features(f"{metric}: train_features", train_features)
    others = nearest(train[own], train, 1, without=own, metric=metric)
    distance, apart = found.distances[:, 0], others.distances[rows, 0] * (others.scale / found.scale)
    authentic = distance > apart
    share = float(authentic.mean())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = np.where(distance == 0, 0.0, distance / apart)
    return Copies(share, share_error(share, len(rows)), ~authentic, found.rows[:, 0], ratio, 1.0)
