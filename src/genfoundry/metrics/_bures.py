"""Squared Bures distance of two covariances, ``tr(S_x + S_y - 2 (S_x S_y)^(1/2))``, by two routes.

The term of Dowson and Landau 1982 (doi:10.1016/0047-259X(82)90077-X) that makes the Frechet distance slow and
inexact. The quick route takes eigenvalues of a symmetric matrix and subtracts; it says how far rounding can have moved
it, and gives up (None) where that may reach ``TOLERANCE``. The exact route writes the distance as a sum of squares of
factors with S = R'R, for which nothing cancels at any rank. Letters: D features, P and Q rows of the factors.
"""

from typing import NamedTuple

import numpy as np

TOLERANCE = 1e-7
"""Largest relative error, by its bound, of a distance from the quick route; errors seen are 100 times smaller."""

EPS = float(np.finfo(np.float64).eps)

LEAST_PIVOT = 1e-11
"""Least ratio of squared Cholesky pivots: below it S_x is as good as singular and T has no accurate inverse."""

SMALL = 64
"""Sides up to this are cheap enough for the exact route in any case."""


MEDIUM = 1024
"""Up to here two products cost less than waking SciPy's own BLAS threads beside NumPy's: at 512, 5 ms against 50."""


class Alignment(NamedTuple):
    """Exact route: distance, and the singular triples of R_x R_y' that the influence of rows needs."""

    distance: float
    u: np.ndarray
    """float64 (P, R)."""
    s: np.ndarray
    """float64 (R,), decreasing."""
    vt: np.ndarray
    """float64 (R, Q)."""


def squares(matrix: np.ndarray) -> float:
    """Sum of squares."""
    return float(np.vdot(matrix, matrix))


def align(r_x: np.ndarray, r_y: np.ndarray) -> Alignment:
    """From factors float64 (P, D) and (Q, D): with R_x R_y' = U s V' the distance is
    ``|U'R_x - V'R_y|^2 + |R_x - UU'R_x|^2 + |R_y - VV'R_y|^2``.

    A result that rounding makes of equal covariances is 0.
    """
    u, s, vt = np.linalg.svd(r_x @ r_y.T, full_matrices=False)
    turned_x, turned_y = u.T @ r_x, vt @ r_y
    distance = squares(turned_x - turned_y) + squares(r_x - u @ turned_x) + squares(r_y - vt.T @ turned_y)
    floor = len(s) * (8 * EPS) ** 2 * (squares(r_x) + squares(r_y))
    return Alignment(distance if distance > floor else 0.0, u, s, vt)


def settled(eigenvalues: np.ndarray, trace: float, other: float) -> float | None:
    """trace - 2 sum of roots, or None where the eigenvalues' rounding may matter beside the sum with ``other``."""
    noise = 8 * EPS * float(eigenvalues.max(initial=0.0))
    roots = np.sqrt(eigenvalues.clip(min=0))
    # A root moves by noise / 2 root, and by no more than the root of the noise where it is itself of that size.
    error = float(np.minimum(noise / np.maximum(roots, 1e-300), np.sqrt(noise)).sum()) + 8 * EPS * trace
    distance = trace - 2 * float(roots.sum())
    return distance if error <= TOLERANCE * (distance + other) else None


class Whitened(NamedTuple):
    """S_x = L L' and M = L' S_y L, whose eigenvalues are those of S_x S_y."""

    lower: np.ndarray
    """float64 (D, D), L."""
    product: np.ndarray
    """float64 (D, D), lower triangle of M; what stands above it means nothing."""


def whiten(cov_x: np.ndarray, cov_y: np.ndarray) -> Whitened | None:
    """L and M, or None where S_x is singular to working precision."""
    try:
        lower = np.linalg.cholesky(cov_x)
    except np.linalg.LinAlgError:
        return None
    pivots = np.diagonal(lower) ** 2
    if not pivots.min() > LEAST_PIVOT * pivots.max():
        return None
    if len(cov_x) <= MEDIUM:
        return Whitened(lower, lower.T @ cov_y @ lower)
    from scipy.linalg.lapack import dsygst

    # LAPACK sees C-ordered memory transposed: L is its upper factor, and its upper triangle is our lower one.
    product, info = dsygst(cov_y.T, lower.T, itype=2, lower=0)
    return Whitened(lower, product.T) if info == 0 else None


def quick(cov_x: np.ndarray, cov_y: np.ndarray, other: float) -> float | None:
    """The distance of two float64 (D, D) where it can be trusted beside ``other``, the rest of the sum."""
    if len(cov_x) <= SMALL:
        return None
    pair = whiten(cov_x, cov_y)
    if pair is None:
        return None
    values = np.linalg.eigvalsh(pair.product, UPLO="L")
    return settled(values, float(np.trace(cov_x) + np.trace(cov_y)), other)


def quick_of_rows(x: np.ndarray, y: np.ndarray, rank: int, other: float) -> float | None:
    """The same from factors float64 (P, D) and (Q, D), P or Q below D, whose product has at most this rank."""
    if min(len(x), len(y)) <= SMALL:
        return None
    small, large = (x, y) if len(x) <= len(y) else (y, x)
    product = small @ large.T
    # The rows are centred, so that the smallest eigenvalues are known to be 0 and would be noise.
    values = np.linalg.eigvalsh(product @ product.T)[-rank:]
    return settled(values, squares(x) + squares(y), other)
