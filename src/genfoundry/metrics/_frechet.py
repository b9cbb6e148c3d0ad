"""Frechet distance of two sets of feature vectors, with the influence of every row.

Heusel et al. 2017 (arXiv:1706.08500), equation 6, is the squared 2-Wasserstein distance of two Gaussians
(Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X):
``|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))``, covariances over n - 1.

Rows are centred in two passes, so that a common offset costs no digit, and are scaled by a power of two, so that
squares of 1e-200 or 1e150 don't leave float64; ``_bures.py`` does the rest.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics import _bures
from genfoundry.metrics._checks import (
    as_float64,
    balanced,
    label_numbers,
    per_unit,
    representable,
    rows,
    strata_of,
    two_sets,
    unit_of,
)
from genfoundry.metrics._moments import Moments

ASYMMETRY = 1e-6
"""Largest asymmetry, and largest negative eigenvalue, taken for rounding: float32 statistics have 1e-7."""

LEAST_PAIRED = 0.5
"""Least share of rows in pairs of one label, for a bias and an error bar within labels."""

ENOUGH_PAIRED = 0.95
"""Share of rows in such pairs above which labels with an odd number of rows are divided as they come."""

DRAWS = 4
"""Draws of such pairs to average, where rows are left out or both sides have labels."""


class Frechet(NamedTuple):
    """A Frechet distance and how much each row moves it."""

    distance: float
    influence: np.ndarray
    """float64 (N,), mean 0: n times the first-order change of the distance by each row of x."""
    reference_influence: np.ndarray
    """float64 (M,), the same for y."""
    spread: float
    """Trace of y's covariance: the distance of y from its own mean, a natural unit."""

    @property
    def se(self) -> float:
        """Standard error of the distance over both samples, by the delta method."""
        return float(
            np.hypot(*(root_of_squares(per_unit(rows)) for rows in (self.influence, self.reference_influence)))
        )


class Extrapolated(NamedTuple):
    """A Frechet distance without the part that shrinks as 1/n."""

    distance: float
    """At least 0."""
    se: float
    """NaN below ``LEAST_PAIRED``: most labels have one row, and the bias isn't known."""
    raw: float
    """The distance as it stands, at n."""
    unclipped: float
    """The extrapolation before it was raised to 0."""
    influence: np.ndarray
    """float64 (N,): of each row of x; squares of this and the next sum to se squared."""
    reference_influence: np.ndarray
    """float64 (M,): of each row of y."""
    spread: float
    """As in ``Frechet``."""


class _Centred(NamedTuple):
    x: np.ndarray
    y: np.ndarray
    shift: np.ndarray
    """float64 (D,), mean of x less mean of y."""
    unit: float
    """All three were divided by it."""


def root_of_squares(values: np.ndarray) -> float:
    """Length of float64 (N,), also where squares leave float64."""
    unit = unit_of(values)
    return float(np.linalg.norm(values / unit)) * unit


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows less their mean, and the mean in two parts: at an offset of 1e8 the first alone is off by 1e-8."""
    first = values.mean(axis=0)
    centred = values - first
    second = centred.mean(axis=0)
    centred -= second
    return centred, first, second


def _prepare(x: np.ndarray, y: np.ndarray) -> _Centred:
    unit = unit_of(x, y)
    # Widened first: float32 over a large power of two may vanish.
    x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
    if unit != 1:
        x, y = x / unit, y / unit
    (x, mean_x, rest_x), (y, mean_y, rest_y) = _centred(x), _centred(y)
    shift = (mean_x - mean_y) + (rest_x - rest_y)
    again = unit_of(x, y, shift)
    if again != 1:
        x, y, shift = x / again, y / again, shift / again
    return _Centred(x, y, shift, unit * again)


def _covariance(centred: np.ndarray) -> np.ndarray:
    return centred.T @ centred / (len(centred) - 1)


def _factors(parts: _Centred) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose products are the covariances."""
    return parts.x / np.sqrt(len(parts.x) - 1), parts.y / np.sqrt(len(parts.y) - 1)


def _scaled(metric: str, value: Any, unit: float) -> Any:
    """Back in squared units of the input; one factor after the other, as 0 times infinity is NaN."""
    with np.errstate(over="ignore"):
        return representable(metric, value * unit * unit)


def frechet_distance(x: Any, y: Any) -> float:
    """Frechet distance of two sets of feature vectors (FID's arithmetic): at least 0.

    Args:
        x: (N, D) features; a numpy array, a list or a torch tensor, of any width of number.
        y: (M, D) features by the same network.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, a value that is NaN or infinite, or a distance
            beyond 1.8e308.
    """
    x, y = two_sets("frechet_distance", x, y, narrow=True)
    (n, d), m = x.shape, len(y)
    if min(n, m) > d > _bures.SMALL and unit_of(x, y) == 1:
        # Block by block: no second copy of all rows, and the centred block is still in the cache when it is multiplied.
        one, other = Moments(d).update(x), Moments(d).update(y)
        squared_shift = _bures.squares(one.mean_less(other))
        gap = _bures.quick(one.covariance, other.covariance, squared_shift)
        if gap is not None:
            return squared_shift + gap
    parts = _prepare(x, y)
    squared_shift = _bures.squares(parts.shift)
    gap = _bures.quick_of_rows(*_factors(parts), min(n - 1, m - 1, d), squared_shift) if min(n, m) <= d else None
    if gap is None:
        gap = _exact(parts).distance
    return float(_scaled("frechet_distance", squared_shift + gap, parts.unit))


def _triangle(factor: np.ndarray) -> np.ndarray:
    """A factor with no more rows than columns and the same products."""
    return np.linalg.qr(factor, mode="r") if len(factor) > factor.shape[1] else factor


def _exact(parts: _Centred) -> _bures.Alignment:
    r_x, r_y = (_triangle(factor) for factor in _factors(parts))
    return _bures.align(r_x, r_y)


def frechet(x: Any, y: Any) -> Frechet:
    """The distance with every row's influence, in the time of about two distances; arguments as ``frechet_distance``.

    The influence function of the squared Wasserstein distance is ``2 (x-mu_x).(mu_x-mu_y) + (x-mu_x)'(I-T)(x-mu_x)``
    less its mean, T the optimal transport map from x to y.
    """
    parts = _prepare(*two_sets("frechet", x, y))
    found = _quick_maps(parts) if min(len(parts.x), len(parts.y)) > parts.x.shape[1] > _bures.SMALL else None
    gap, carried_x, carried_y = found or _exact_maps(parts)
    sizes_x, sizes_y = (np.einsum("nd,nd->n", part, part) for part in (parts.x, parts.y))
    influence_x = 2 * parts.x @ parts.shift + sizes_x - carried_x
    influence_y = -2 * parts.y @ parts.shift + sizes_y - carried_y
    return Frechet(
        distance=float(_scaled("frechet", _bures.squares(parts.shift) + gap, parts.unit)),
        influence=_scaled("frechet", influence_x - influence_x.mean(), parts.unit),
        reference_influence=_scaled("frechet", influence_y - influence_y.mean(), parts.unit),
        spread=float(_scaled("frechet", sizes_y.sum() / (len(parts.y) - 1), parts.unit)),
    )


def _quick_maps(parts: _Centred) -> tuple[float, np.ndarray, np.ndarray] | None:
    """The Bures distance and x'Tx of every row, for covariances of full rank.

    With S_x = LL' and L'S_y L = V s^2 V' the map is T = L'^-1 V s V' L^-1, and the one back L V s^-1 V' L'.
    """
    from scipy.linalg import solve_triangular

    cov_x, cov_y = _covariance(parts.x), _covariance(parts.y)
    pair = _bures.whiten(cov_x, cov_y)
    if pair is None:
        return None
    values, vectors = np.linalg.eigh(pair.product, UPLO="L")
    gap = _bures.settled(values, float(np.trace(cov_x) + np.trace(cov_y)), _bures.squares(parts.shift))
    if gap is None or values[0] <= _bures.LEAST_PIVOT * values[-1]:
        return None
    s = np.sqrt(values)
    forth = solve_triangular(pair.lower, vectors, trans="T", lower=True, check_finite=False)
    back = pair.lower @ vectors
    return gap, (parts.x @ forth) ** 2 @ s, (parts.y @ back) ** 2 @ (1 / s)


def _exact_maps(parts: _Centred) -> tuple[float, np.ndarray, np.ndarray]:
    """The same at any rank and without an inverse: over the rows of X = QR, x'Tx is n-1 times row sums of s (QU)^2."""
    (q_x, r_x), (q_y, r_y) = (np.linalg.qr(factor) for factor in _factors(parts))
    found = _bures.align(r_x, r_y)
    carried_x = (len(parts.x) - 1) * ((q_x @ found.u) ** 2 @ found.s)
    carried_y = (len(parts.y) - 1) * ((q_y @ found.vt.T) ** 2 @ found.s)
    return found.distance, carried_x, carried_y


def _ordered(count: int, labels: np.ndarray | None, seed: int = 0) -> np.ndarray:
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    return order if labels is None else order[np.argsort(labels[order], kind="stable")]


def halves(count: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Two fixed random halves of the row numbers below ``count``, with half of each label int64 (N,) in both.

    Every other row would do for rows in random order, but samples stand in the order of their labels, often in turn.
    """
    order = _ordered(count, labels)
    return np.sort(order[0::2]), np.sort(order[1::2])


def _pairs(count: int, labels: np.ndarray | None, seed: int) -> np.ndarray:
    """As many fixed random pairs of rows of one label as there are, int64 (P, 2), in random order."""
    order = _ordered(count, labels, seed)
    kinds = np.zeros(count) if labels is None else labels[order]
    start = np.flatnonzero(np.diff(kinds, prepend=-1))
    rank = np.arange(count) - np.repeat(start, np.diff(start, append=count))
    first = np.flatnonzero((rank[:-1] % 2 == 0) & (kinds[:-1] == kinds[1:]))
    return np.random.Generator(np.random.PCG64(seed)).permutation(np.stack([order[first], order[first + 1]], axis=1))


def _bias(x: np.ndarray, y: np.ndarray, whole: float, *labels: np.ndarray | None) -> float:
    """a/n + b/m: the mean distance of both halves less that of all rows; NaN below ``LEAST_PAIRED``.

    A label with an odd number of rows can't be halved: its spread from the others would be taken for bias. A few of
    them do no harm; else one row of each is left out of the halves and of what they are compared with. The mean of
    several draws then, and where y has labels too: what is left of the noise is small, and one draw's would show.
    """
    sizes = len(x), len(y)

    def halved(chosen: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
        return sum(frechet_distance(x[one], y[other]) for one, other in zip(*chosen, strict=True)) / 2

    def paired(seed: int) -> list[np.ndarray]:
        return [_pairs(n, part, seed) for n, part in zip(sizes, labels, strict=True)]

    share = min(2 * len(found) / n for found, n in zip(paired(0), sizes, strict=True))
    if share < LEAST_PAIRED:
        return math.nan
    if share > ENOUGH_PAIRED and labels[1] is None:
        return halved([halves(n, part) for n, part in zip(sizes, labels, strict=True)]) - whole
    gaps = []
    for seed in range(DRAWS):
        # As large a part of both sides, so that both parts of the bias grow alike.
        chosen = [found[: int(share * n / 2)].T for found, n in zip(paired(seed), sizes, strict=True)]
        both = [np.sort(rows, axis=None) for rows in chosen]
        gaps.append(halved(chosen) - (whole if share == 1 else frechet_distance(x[both[0]], y[both[1]])))
    return share * float(np.mean(gaps))


def frechet_extrapolated(x: Any, y: Any, labels: Any = None, reference_labels: Any = None) -> Extrapolated:
    """The distance less its bias, which is a/n + b/m: ``2 F(n, m) - mean F(n/2, m/2)`` over fixed halves.

    Bias by Chong and Forsyth 2020 (arXiv:1911.07023); two sizes instead of their line through fifteen. Below about 10 D
    rows the bias is no longer of this form. The standard error is the delta method's for the plain distance: of the
    second order, pairs of rows in different halves count twice and pairs in one half not, which doubles its variance,
    and the delta method counts it twice (Efron and Stein 1981, doi:10.1214/aos/1176345462).

    Args:
        x: (N, D) features of samples.
        y: (M, D) of held-out real records.
        labels: (N,) of x where so many of each were asked for: its error bar is then that within labels.
        reference_labels: (M,) of y: the same where there are about as many of each (``balanced``), else not looked at.

    Raises:
        DataError: As ``frechet_distance``, fewer than four rows on a side, or another number of labels than rows.
    """
    name = "frechet_extrapolated"
    x, y = two_sets(name, x, y, least=4)
    reference_labels = balanced(name, reference_labels, len(y))
    strata, reference_strata = strata_of(name, labels, len(x)), strata_of(name, reference_labels, len(y))
    whole = frechet(x, y)
    numbers = label_numbers(name, labels, len(x)), label_numbers(name, reference_labels, len(y))
    bias = _bias(x, y, whole.distance, *numbers)
    own, other = per_unit(whole.influence, strata), per_unit(whole.reference_influence, reference_strata)
    se = float(np.hypot(root_of_squares(own), root_of_squares(other)))
    if math.isnan(bias):
        bias, se = 0.0, math.nan
    else:
        representable(name, np.array([bias, se]))
    found = whole.distance - bias
    return Extrapolated(max(found, 0.0), se, whole.distance, found, own, other, whole.spread)


def frechet_distance_from_moments(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any) -> float:
    """The distance where only means (D,) and covariances (D, D) are at hand, as in a published statistics file.

    Prefer ``frechet_distance`` on the rows: a covariance keeps only half the digits of its small directions.

    Raises:
        DataError: Shapes that don't fit, a value that is NaN or infinite, a matrix that is not symmetric or has
            a negative eigenvalue, both beyond rounding, or a distance beyond 1.8e308.
    """
    name = "frechet_distance_from_moments"
    a, b = _mean(name, "mean_x", mean_x), _mean(name, "mean_y", mean_y)
    if len(a) != len(b):
        raise DataError(f"{name}: mean_x has {len(a)} numbers, mean_y {len(b)}; make both with the same network")
    s, t = _matrix(name, "cov_x", cov_x, len(a)), _matrix(name, "cov_y", cov_y, len(b))
    # A power of four, so that its root divides the means exactly.
    unit = unit_of(a, b, *(np.sqrt(np.abs(part)) for part in (s, t)))
    shift = a / unit - b / unit
    return float(_scaled(name, distance_of_moments(name, shift, s / unit / unit, t / unit / unit), unit))


def distance_of_moments(name: str, shift: np.ndarray, cov_x: np.ndarray, cov_y: np.ndarray) -> float:
    """The distance from the difference of means (D,) and symmetric covariances (D, D) of ordinary size."""
    squared_shift = _bures.squares(shift)
    # Coordinates that go with no other have a closed form, which keeps all digits whatever the others' size.
    tied = (cov_x != 0) | (cov_y != 0)
    np.fill_diagonal(tied, False)
    tied = tied.any(axis=1)
    own = ~tied
    x, y = (np.diagonal(cov)[own] for cov in (cov_x, cov_y))
    if (min(x.min(initial=0.0), y.min(initial=0.0))) < 0:
        raise DataError(f"{name}: a variance is negative; give covariances, not correlations of differences")
    closed = squared_shift + float(((np.sqrt(x) - np.sqrt(y)) ** 2).sum())
    if not tied.any():
        return closed
    if not tied.all():
        cov_x, cov_y = (np.ascontiguousarray(cov[np.ix_(tied, tied)]) for cov in (cov_x, cov_y))
    gap = _bures.quick(cov_x, cov_y, closed)
    if gap is None:
        gap = _bures.align(_root(name, "cov_x", cov_x), _root(name, "cov_y", cov_y)).distance
    return closed + gap


def _mean(name: str, what: str, values: Any) -> np.ndarray:
    return rows(f"{name}: {what}", np.atleast_1d(as_float64(f"{name}: {what}", values))[None], 1)[0]


def _matrix(name: str, what: str, values: Any, width: int) -> np.ndarray:
    """Float64 (D, D), symmetrised: rounding may have made it a little uneven."""
    array = rows(f"{name}: {what}", np.atleast_2d(as_float64(f"{name}: {what}", values)), 1)
    if array.shape != (width, width):
        raise DataError(f"{name}: {what} has shape {array.shape}; {width} means need ({width}, {width})")
    if np.array_equal(array, array.T):
        return array
    uneven, top = float(np.abs(array - array.T).max()), float(np.abs(array).max())
    if uneven > ASYMMETRY * top:
        raise DataError(f"{name}: {what} is not symmetric (off by {uneven:.3g} of {top:.3g}); is it a covariance?")
    return array / 2 + array.T / 2


def _root(name: str, what: str, covariance: np.ndarray) -> np.ndarray:
    """R with R'R = S, without the directions that are rounding."""
    values, vectors = np.linalg.eigh(covariance)
    top = max(float(values[-1]), 0.0)
    if values[0] < -ASYMMETRY * max(top, float(np.abs(values[0])) * ASYMMETRY):
        raise DataError(f"{name}: {what} has eigenvalue {values[0]:.3g}, the largest is {top:.3g}; is it a covariance?")
    kept = values > len(values) * _bures.EPS * top
    return np.sqrt(values[kept])[:, None] * vectors[:, kept].T


def frechet_distance_from_statistics(a: Moments, b: Moments) -> float:
    """Frechet distance of two sets known by their ``Moments``.

    With fewer rows than features ``frechet_distance`` on the rows themselves is more exact, and faster.

    Raises:
        DataError: Fewer than two rows on a side, unequal widths, or a distance beyond 1.8e308.
    """
    name = "frechet_distance_from_statistics"
    if a.dimension != b.dimension:
        raise DataError(f"{name}: {a.dimension} features on one side, {b.dimension} on the other; use one network")
    shift = a.mean_less(b)
    cov_a, cov_b = a.covariance, b.covariance
    unit = unit_of(shift, *(np.sqrt(np.diagonal(cov)) for cov in (cov_a, cov_b)))
    found = distance_of_moments(name, shift / unit, cov_a / unit / unit, cov_b / unit / unit)
    return float(_scaled(name, found, unit))
