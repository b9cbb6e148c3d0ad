"""Frechet distance of two sets of feature vectors, with the influence of every row.

Heusel et al. 2017 (arXiv:1706.08500), equation 6, is the squared 2-Wasserstein distance of two Gaussians
(Dowson and Landau 1982, doi:10.1016/0047-259X(82)90077-X):
``|mu_x - mu_y|^2 + tr(S_x + S_y - 2 (S_x S_y)^(1/2))``, covariances over n - 1.

With centred rows X / sqrt(n-1) = Q_x R_x and Y / sqrt(m-1) = Q_y R_y the last trace is the nuclear norm of
``R_x R_y'`` = U s V', and the whole second term is a sum of squares,
``|U'R_x - V'R_y|^2 + |R_x - UU'R_x|^2 + |R_y - VV'R_y|^2``: no covariance is formed, nothing cancels, nothing is
negative, and sets with fewer rows than columns need no special care.
"""

from typing import NamedTuple

import numpy as np


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
        return float(np.sqrt(_mean_variance(self.influence) + _mean_variance(self.reference_influence)))


def _mean_variance(influence: np.ndarray) -> float:
    return float(influence.var(ddof=1) / len(influence))


def frechet(x: np.ndarray, y: np.ndarray) -> Frechet:
    """Distance of float64 (N, D) from float64 (M, D); N and M at least 2, all finite.

    The influence function of the squared Wasserstein distance is ``2 (x-mu_x).(mu_x-mu_y) + (x-mu_x)'(I-T)(x-mu_x)``
    less its mean, T the optimal transport map from x to y. The quadratic form in T needs no inverse: over the rows
    of X it is (n-1) times the row sums of s (Q_x U)^2.
    """
    shift = x.mean(axis=0) - y.mean(axis=0)
    centred_x, centred_y = x - x.mean(axis=0), y - y.mean(axis=0)
    q_x, r_x = np.linalg.qr(centred_x / np.sqrt(len(x) - 1))
    q_y, r_y = np.linalg.qr(centred_y / np.sqrt(len(y) - 1))
    u, s, vt = np.linalg.svd(r_x @ r_y.T, full_matrices=False)
    turned_x, turned_y = u.T @ r_x, vt @ r_y
    gap = _squares(turned_x - turned_y) + _squares(r_x - u @ turned_x) + _squares(r_y - vt.T @ turned_y)
    carried_x = (len(x) - 1) * ((q_x @ u) ** 2 @ s)
    carried_y = (len(y) - 1) * ((q_y @ vt.T) ** 2 @ s)
    influence_x = 2 * centred_x @ shift + (centred_x**2).sum(axis=1) - carried_x
    influence_y = -2 * centred_y @ shift + (centred_y**2).sum(axis=1) - carried_y
    return Frechet(
        distance=float(shift @ shift) + gap,
        influence=influence_x - influence_x.mean(),
        reference_influence=influence_y - influence_y.mean(),
        spread=_squares(r_y),
    )


def _squares(matrix: np.ndarray) -> float:
    return float((matrix**2).sum())


def frechet_from_moments(mean_x: np.ndarray, cov_x: np.ndarray, mean_y: np.ndarray, cov_y: np.ndarray) -> float:
    """The distance where only means (D,) and covariances (D, D) are at hand, as in a published statistics file.

    By symmetric eigenvalues of S_x^(1/2) S_y S_x^(1/2), negative ones taken as 0. With fewer rows than columns
    behind the covariances this route is off by up to 1e-5 of the spread: prefer ``frechet`` on the rows.
    """
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)).sum()
    shift = mean_x - mean_y
    return float(shift @ shift + max(np.trace(cov_x) + np.trace(cov_y) - 2 * cross, 0.0))
