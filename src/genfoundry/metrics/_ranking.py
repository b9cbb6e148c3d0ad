"""Ranking from pairwise preferences with ties, and agreement among raters; arrays in, no pipeline.

Model: R. R. Davidson (1970), doi:10.1080/01621459.1970.10481082, which extends R. A. Bradley and M. E. Terry
(1952), doi:10.2307/2334029, by ties. With log strengths s and a tie parameter nu >= 0, in units of
sqrt(exp(s_i + s_j)):

    win of i : tie : win of j  =  exp((s_i - s_j) / 2) : nu : exp(-(s_i - s_j) / 2)

so that exp(s_i - s_j) are the odds that i is preferred to j when there is no tie. It is a multinomial logit: its
log-likelihood is concave. Strengths are in nats with mean zero over the models: a model's strength says how it stands
against the average of its rivals in the same comparison, and nothing about rivals outside it.

Agreement: K. Krippendorff (2004), "Reliability in content analysis", doi:10.1111/j.1468-2958.2004.tb00738.x.
Shares: E. B. Wilson (1927), doi:10.1080/01621459.1927.10502953.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError

Z95 = 1.959963984540054
"""The normal law's 97.5 % quantile."""

PENALTY = 0.5
"""Wins added each way to every compared pair of models where maximum likelihood has no finite answer: the half count
that J. B. S. Haldane and F. J. Anscombe (1956, doi:10.1093/biomet/43.3-4.461) add to each cell of a log-odds."""

STEPS, TOLERANCE = 200, 1e-10


@dataclass(frozen=True)
class Ranking:
    """Fitted strengths of K models.

    A standard error is the largest of those that ``covariances`` give: by the curvature of the likelihood, which takes
    answers for independent, and by sandwiches over clusters, which don't, but are too small where clusters are few.
    """

    strength: np.ndarray
    """float64 (K,): log strengths in nats, mean zero."""
    nu: float
    """Tie parameter: 0 without ties; two equal models tie with probability nu / (2 + nu)."""
    covariances: tuple[np.ndarray, ...]
    """float64 (K, K) each: estimates of the covariance of ``strength``."""
    penalised: bool
    """True where maximum likelihood has no finite answer, so that ``PENALTY`` was added."""
    freedom: float = math.inf
    """Degrees of freedom of Student's t: the smallest number of clusters less one; infinite without clusters."""

    def contrast(self, weights: Any) -> tuple[float, float, float]:
        """A weighted sum of strengths with the ends of its 95 % interval; weights (K,), which sum to zero or to one."""
        row = np.asarray(weights, dtype=np.float64)
        value = float(row @ self.strength)
        se = math.sqrt(max(float(row @ matrix @ row) for matrix in self.covariances))
        half = quantile(self.freedom) * se
        return value, value - half, value + half

    def of(self, model: int) -> tuple[float, float, float]:
        """A model's strength against the mean of all, with its 95 % interval."""
        return self.contrast(np.eye(len(self.strength))[model])

    def difference(self, first: int, second: int) -> tuple[float, float, float]:
        """Log-odds that ``first`` is preferred to ``second`` when there is no tie, with its 95 % interval."""
        unit = np.eye(len(self.strength))
        return self.contrast(unit[first] - unit[second])


def quantile(freedom: float) -> float:
    """97.5 % quantile of Student's t."""
    if math.isinf(freedom):
        return Z95
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975))


def davidson(first: Any, second: Any, outcome: Any, models: int, clusters: Sequence[Any] = ()) -> Ranking:
    """Maximum-likelihood strengths from N answers, ties allowed.

    Args:
        first: Model on one side, int (N,), below ``models``.
        second: Model on the other side, int (N,).
        outcome: 1 where ``first`` was preferred, -1 where ``second`` was, 0 for a tie; int (N,).
        models: Number of models K, at least two.
        clusters: Up to two groupings of the answers, int (N,) each, such as pair shown and rater: answers in a group
            may depend on each other (Cameron, Gelbach and Miller 2011, doi:10.1198/jbes.2010.07136).

    Raises:
        DataError: Columns of unequal length, numbers out of range, or models that no chain of answers connects.
    """
    i, j, won = _checked(first, second, outcome, models)
    _connected(i, j, models)
    penalised = _separated(i, j, won, models)
    weight = np.ones(len(won))
    if penalised:
        i, j, won, weight = _with_penalty(i, j, won)
    ties = bool((won == 0).any())
    design = _design(i, j, models)
    theta, information = _newton(design, won, weight, ties)
    inverse = np.linalg.inv(information)
    scores = (_scores(design, theta, won, ties) * weight[:, None])[: len(np.asarray(outcome))]
    groups = [np.unique(np.asarray(group), return_inverse=True)[1] for group in clusters]
    if any(len(group) != len(scores) for group in groups):
        raise DataError(f"davidson: clusters for {[len(g) for g in groups]} answers, but there are {len(scores)}")
    basis = _basis(models)
    lift = np.zeros((models, len(theta)))
    lift[:, : models - 1] = basis
    covariances = [inverse, *(inverse @ meat @ inverse for meat in _meats(scores, groups))]
    counts = [int(group.max()) + 1 for group in groups]
    return Ranking(
        strength=basis @ theta[: models - 1],
        nu=math.exp(theta[-1]) if ties else 0.0,
        covariances=tuple(lift @ matrix @ lift.T for matrix in covariances),
        penalised=penalised,
        freedom=max(min(counts) - 1, 1) if counts else math.inf,
    )


def _checked(first: Any, second: Any, outcome: Any, models: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    columns = [np.asarray(column) for column in (first, second, outcome)]
    if models < 2 or any(column.ndim != 1 for column in columns) or len({len(column) for column in columns}) != 1:
        shapes = [column.shape for column in columns]
        raise DataError(f"davidson: {models} models and columns of shapes {shapes}; give 2 models and equal columns")
    if not len(columns[0]):
        raise DataError("davidson: no answers; collect some first")
    i, j, won = (column.astype(np.int64) for column in columns)
    for name, column, whole in (("first", i, columns[0]), ("second", j, columns[1]), ("outcome", won, columns[2])):
        low, high = (-1, 1) if name == "outcome" else (0, models - 1)
        bad = np.flatnonzero((column < low) | (column > high) | (column != whole))
        if len(bad):
            raise DataError(f"davidson: {name} is {whole[bad[0]]} in row {bad[0]}; give whole numbers {low} to {high}")
    if (same := np.flatnonzero(i == j)).size:
        raise DataError(f"davidson: row {same[0]} compares model {i[same[0]]} with itself; leave it out")
    return i, j, won


def _reach(edges: np.ndarray) -> np.ndarray:
    """bool (K, K): which model a chain of edges leads to from which."""
    reach = edges | np.eye(len(edges), dtype=bool)
    for middle in range(len(reach)):
        reach |= reach[:, middle, None] & reach[None, middle, :]
    return reach


def _connected(i: np.ndarray, j: np.ndarray, models: int) -> None:
    edges = np.zeros((models, models), dtype=bool)
    edges[i, j] = edges[j, i] = True
    alone = np.flatnonzero(~_reach(edges)[0])
    if len(alone):
        raise DataError(
            f"davidson: no chain of answers leads from model 0 to models {alone.tolist()}; ask for such pairs"
        )


def _separated(i: np.ndarray, j: np.ndarray, won: np.ndarray, models: int) -> bool:
    """Whether the likelihood grows for ever in some direction, so that it has no finite maximum.

    A direction (strengths, log nu) that makes no answer less likely than any other answer to the same pair, and some
    answer more likely (Albert and Anderson 1984, doi:10.1093/biomet/71.1.1), by linear programming. A model that won
    everything is the plain case; chains of wins and ties hide others, where nu runs away with the strengths.
    """
    from scipy.optimize import linprog

    rows = np.unique(np.stack([i, j, won]), axis=1)
    unit = np.hstack([np.eye(models), np.zeros((models, 1))])
    half = (unit[rows[0]] - unit[rows[1]]) / 2
    log_nu = np.eye(models + 1)[models]
    tied, decided = rows[2] == 0, half[rows[2] != 0] * rows[2][rows[2] != 0, None]
    gains = [2 * decided]
    if tied.any():
        gains += [decided - log_nu, log_nu - half[tied], log_nu + half[tied]]
    matrix = np.concatenate(gains)
    found = linprog(-matrix.sum(axis=0), A_ub=-matrix, b_ub=np.zeros(len(matrix)), bounds=(-1, 1), method="highs")
    return bool(-found.fun > 1e-7)


def _with_penalty(i: np.ndarray, j: np.ndarray, won: np.ndarray) -> tuple[np.ndarray, ...]:
    low, high = np.unique(np.sort(np.stack([i, j]), axis=0), axis=1)
    more = np.concatenate([np.ones(len(low), np.int64), -np.ones(len(low), np.int64)])
    weight = np.concatenate([np.ones(len(won)), np.full(len(more), PENALTY)])
    return np.concatenate([i, low, low]), np.concatenate([j, high, high]), np.concatenate([won, more]), weight


def _basis(models: int) -> np.ndarray:
    """float64 (K, K-1): orthonormal columns, each summing to zero, so that strengths have mean zero."""
    return np.linalg.svd(np.eye(models) - 1 / models)[0][:, : models - 1]


def _design(i: np.ndarray, j: np.ndarray, models: int) -> np.ndarray:
    """float64 (N, K-1): difference of strengths in each answer, in the coordinates of the basis."""
    basis = _basis(models)
    return basis[i] - basis[j]


def _chances(design: np.ndarray, theta: np.ndarray, ties: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log-probabilities of first, tie and second: float64 (N,) each."""
    half = design @ theta[: design.shape[1]] / 2
    tie = np.full(len(half), theta[-1] if ties else -np.inf)
    total = np.logaddexp(np.logaddexp(half, -half), tie)
    return half - total, tie - total, -half - total


def _scores(design: np.ndarray, theta: np.ndarray, won: np.ndarray, ties: bool) -> np.ndarray:
    """Gradient of each answer's log-likelihood: float64 (N, K-1) or, with ties, (N, K)."""
    first, tie, second = (np.exp(chance) for chance in _chances(design, theta, ties))
    columns = [design * ((won - (first - second)) / 2)[:, None]]
    if ties:
        columns.append(((won == 0) - tie)[:, None])
    return np.hstack(columns)


def _information(design: np.ndarray, theta: np.ndarray, weight: np.ndarray, ties: bool) -> np.ndarray:
    first, tie, second = (np.exp(chance) for chance in _chances(design, theta, ties))
    lean = first - second
    matrix = (design * (weight * (first + second - lean**2) / 4)[:, None]).T @ design
    if not ties:
        return matrix
    cross = design.T @ (-weight * lean * tie / 2)
    corner = float((weight * tie * (1 - tie)).sum())
    return np.block([[matrix, cross[:, None]], [cross[None], np.array([[corner]])]])


def _newton(design: np.ndarray, won: np.ndarray, weight: np.ndarray, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    """The maximum and the information there; steps are halved if too long."""

    def likelihood(theta: np.ndarray) -> float:
        first, tie, second = _chances(design, theta, ties)
        return float(weight @ np.where(won > 0, first, np.where(won < 0, second, np.where(won == 0, tie, 0.0))))

    theta = np.zeros(design.shape[1] + ties)
    best = likelihood(theta)
    for _ in range(STEPS):
        gradient = weight @ _scores(design, theta, won, ties)
        information = _information(design, theta, weight, ties)
        step = np.linalg.solve(information, gradient)
        if float(gradient @ step) < TOLERANCE:
            # Convergence is quadratic: this last step leaves rounding alone.
            return theta + step, _information(design, theta + step, weight, ties)
        scale = 1.0
        while (now := likelihood(theta + scale * step)) < best and scale > 1e-12:
            scale /= 2
        theta, best = theta + scale * step, now
    raise DataError(f"davidson: no maximum after {STEPS} steps; the answers are all but one-sided, collect more")


def _meats(scores: np.ndarray, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Covariances of the summed scores: by each grouping, and by both at once (their sum less the intersection's)."""
    single = [_meat(scores, group) for group in groups]
    if len(groups) == 2:
        both = groups[0] * (int(groups[1].max()) + 1) + groups[1]
        single.append(single[0] + single[1] - _meat(scores, np.unique(both, return_inverse=True)[1]))
    return single


def _meat(scores: np.ndarray, group: np.ndarray) -> np.ndarray:
    count = int(group.max()) + 1
    sums = np.zeros((count, scores.shape[1]))
    np.add.at(sums, group, scores)
    return sums.T @ sums * (count / max(count - 1, 1))


def krippendorff_alpha(counts: Any, distance: Any, draws: int = 1000, seed: int = 0) -> tuple[float, float, float]:
    """Agreement beyond chance and its 95 % interval: 1 is full agreement, 0 what chance gives, negative is worse.

    Args:
        counts: How many raters chose each of C answers on each of U units: int (U, C). Units that fewer than two
            raters answered say nothing and are left out.
        distance: How far two answers lie apart, squared: (C, C), symmetric, zero on the diagonal.
        draws: Bootstrap draws over units.
        seed: Of the draws.

    Raises:
        DataError: Fewer than two units with two answers, or wrong shapes.

    Where all answers are the same, chance would agree fully, too, and alpha is undefined: NaN.
    """
    table, apart = np.asarray(counts, dtype=np.float64), np.asarray(distance, dtype=np.float64)
    if table.ndim != 2 or apart.shape != (table.shape[1],) * 2 or (table < 0).any() or not np.isfinite(table).all():
        raise DataError(f"krippendorff_alpha: counts {table.shape}, distance {apart.shape}; give (U, C) and (C, C)")
    table = table[table.sum(axis=1) >= 2]
    if len(table) < 2:
        raise DataError(f"krippendorff_alpha: {len(table)} units have two answers; let two raters answer at least 2")
    # Sum over ordered pairs of answers inside a unit, less pairs of an answer with itself, which lie 0 apart.
    observed = np.einsum("uc,ck,uk->u", table, apart, table) / (table.sum(axis=1) - 1)

    def alpha(weights: np.ndarray) -> np.ndarray:
        margins, seen = weights @ table, weights @ observed
        total = margins.sum(axis=1)
        chance = np.einsum("bc,ck,bk->b", margins, apart, margins) / (total - 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return 1 - np.where(chance > 0, seen / chance, np.nan)

    value = float(alpha(np.ones((1, len(table))))[0])
    generator = np.random.default_rng(seed)
    drawn = alpha(generator.multinomial(len(table), np.full(len(table), 1 / len(table)), size=draws).astype(float))
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(drawn):
        return math.nan, math.nan, math.nan
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, float(low), float(high)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share; (0, 1) where nothing was counted."""
    if not 0 <= hits <= count:
        raise DataError(f"wilson_interval: {hits} of {count}; give hits between 0 and count")
    if not count:
        return 0.0, 1.0
    share, extra = hits / count, Z95**2 / count
    middle = (share + extra / 2) / (1 + extra)
    half = Z95 / (1 + extra) * math.sqrt(share * (1 - share) / count + extra / (4 * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def sign_test(leans: Any) -> float:
    """Two-sided p-value that leans of random sign come out so one-sided: sum over its standard deviation, normal law.

    Args:
        leans: One number a unit whose sign was drawn at random, such as the mean answer on a pair shown, with 1 for
            left and -1 for right: float (U,).
    """
    values = np.asarray(leans, dtype=np.float64)
    spread = math.sqrt(float((values**2).sum()))
    return math.erfc(abs(float(values.sum())) / spread / math.sqrt(2)) if spread else 1.0
