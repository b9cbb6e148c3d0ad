"""Strengths from preferences against closed forms and other algorithms; agreement against published values."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from genfoundry.core.errors import DataError
from genfoundry.metrics._ranking import Z95, davidson, krippendorff_alpha, quantile, sign_test, wilson_interval

Table = list[tuple[int, int, int, int]]


def answers(table: dict[tuple[int, int], tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns from wins, ties and losses by pair of models."""
    rows = [
        (first, second, outcome)
        for (first, second), counts in table.items()
        for outcome, count in zip((1, 0, -1), counts, strict=True)
        for _ in range(count)
    ]
    first, second, outcome = np.array(rows).T
    return first, second, outcome


THREE = {(0, 1): (14, 0, 6), (0, 2): (17, 0, 3), (1, 2): (9, 0, 11)}
THREE_TIES = {(0, 1): (14, 5, 6), (0, 2): (17, 2, 3), (2, 1): (9, 8, 11)}


def test_two_models_give_the_log_odds_and_its_standard_error() -> None:
    ranking = davidson(*answers({(0, 1): (30, 0, 12)}), 2)

    value, low, high = ranking.difference(0, 1)
    assert value == pytest.approx(math.log(30 / 12), abs=1e-9)
    assert (high - low) / 2 == pytest.approx(Z95 * math.sqrt(1 / 30 + 1 / 12), rel=1e-7)
    assert ranking.nu == 0
    assert ranking.strength == pytest.approx([value / 2, -value / 2])
    assert ranking.of(0) == pytest.approx((value / 2, low / 2, high / 2))


def test_ties_between_two_models_leave_the_odds_and_give_nu() -> None:
    ranking = davidson(*answers({(0, 1): (30, 9, 12)}), 2)

    assert ranking.difference(0, 1)[0] == pytest.approx(math.log(30 / 12), abs=1e-8)
    assert ranking.nu == pytest.approx(9 / math.sqrt(30 * 12), rel=1e-8)


def test_three_models_without_ties_agree_with_minorisation() -> None:
    """Hunter (2004), doi:10.1214/aos/1079120141: p_i = wins_i / sum_j n_ij / (p_i + p_j)."""
    wins, played = np.zeros(3), np.zeros((3, 3))
    for (i, j), (won, _, lost) in THREE.items():
        wins[i], wins[j] = wins[i] + won, wins[j] + lost
        played[i, j] = played[j, i] = won + lost
    p = np.ones(3)
    for _ in range(5000):
        p = wins / (played / (p[:, None] + p[None, :])).sum(axis=1)
        p /= p.sum()

    ranking = davidson(*answers(THREE), 3)

    assert ranking.strength == pytest.approx(np.log(p) - np.log(p).mean(), abs=1e-7)


def test_three_models_with_ties_agree_with_a_general_optimiser() -> None:
    def cost(theta: np.ndarray) -> float:
        strength, nu = np.exp([theta[0], theta[1], -theta[0] - theta[1]]), math.exp(theta[2])
        total = 0.0
        for (i, j), counts in THREE_TIES.items():
            shares = np.array([strength[i], nu * math.sqrt(strength[i] * strength[j]), strength[j]])
            total -= float(np.array(counts) @ np.log(shares / shares.sum()))
        return total

    best = minimize(cost, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000})

    ranking = davidson(*answers(THREE_TIES), 3)

    assert ranking.strength[:2] == pytest.approx(best.x[:2], abs=1e-5)
    assert ranking.nu == pytest.approx(math.exp(best.x[2]), rel=1e-5)
    assert not ranking.penalised


def test_the_interval_of_three_models_agrees_with_the_curvature_by_differences() -> None:
    columns = answers(THREE_TIES)

    def likelihood(theta: np.ndarray) -> float:
        strength = np.array([theta[0], theta[1], -theta[0] - theta[1]])
        i, j, won = columns
        half = (strength[i] - strength[j]) / 2
        total = np.log(np.exp(half) + np.exp(-half) + np.exp(theta[2]))
        return float((np.where(won > 0, half, np.where(won < 0, -half, theta[2])) - total).sum())

    ranking = davidson(*columns, 3)
    at, h = np.array([*ranking.strength[:2], math.log(ranking.nu)]), 1e-4
    unit = np.eye(3) * h
    hessian = [
        [
            (likelihood(at + a + b) - likelihood(at + a - b) - likelihood(at - a + b) + likelihood(at - a - b))
            / (4 * h * h)
            for b in unit
        ]
        for a in unit
    ]
    se = math.sqrt(np.linalg.inv(-np.array(hessian))[0, 0])

    value, low, _ = ranking.of(0)
    assert (value - low) / Z95 == pytest.approx(se, rel=1e-4)


def test_clusters_give_the_sandwich_by_hand() -> None:
    first, second, outcome = answers({(0, 1): (12, 0, 8)})
    # Ten pairs shown to two raters who always agree: ten independent answers, not twenty.
    clusters = np.repeat(np.arange(10), 2)
    p, n, groups = 0.6, 20, 10
    scores = np.add.reduceat((outcome > 0) - p, np.arange(0, 20, 2))
    se = math.sqrt((scores**2).sum() * groups / (groups - 1)) / (n * p * (1 - p))

    ranking = davidson(first, second, outcome, 2, [clusters])

    value, low, _ = ranking.difference(0, 1)
    assert value - low == pytest.approx(quantile(9) * se, rel=1e-7)
    assert se > 1.4 * math.sqrt(1 / 12 + 1 / 8)


def test_two_groupings_add_up_less_their_intersection() -> None:
    first, second, outcome = answers({(0, 1): (14, 0, 10)})
    pair, rater = np.arange(24) // 3, np.arange(24) % 3
    p = 14 / 24
    score = (outcome > 0) - p

    def variance(group: np.ndarray) -> float:
        sums = np.bincount(group, score)
        return float((sums**2).sum() * len(sums) / (len(sums) - 1)) / (24 * p * (1 - p)) ** 2

    ranking = davidson(first, second, outcome, 2, [pair, rater])

    both = variance(pair) + variance(rater) - variance(np.arange(24))
    found = sorted(float(np.array([1, -1]) @ matrix @ np.array([1, -1])) for matrix in ranking.covariances)
    assert found == pytest.approx(sorted([1 / 14 + 1 / 10, variance(pair), variance(rater), both]), rel=1e-7)
    assert ranking.freedom == 2


def test_a_model_that_won_everything_gets_the_half_count_and_says_so() -> None:
    ranking = davidson(*answers({(0, 1): (9, 0, 0)}), 2)

    assert ranking.penalised
    value, low, high = ranking.difference(0, 1)
    assert value == pytest.approx(math.log(9.5 / 0.5), abs=1e-8)
    assert high - value == pytest.approx(Z95 * math.sqrt(1 / 9.5 + 1 / 0.5), rel=1e-7)
    assert low < value


def test_one_tie_makes_the_maximum_finite() -> None:
    ranking = davidson(*answers({(0, 1): (9, 1, 0), (1, 2): (3, 0, 3)}), 3)

    assert not ranking.penalised
    assert np.isfinite(ranking.strength).all()


def test_a_group_that_lost_to_the_rest_is_penalised_though_none_lost_everything() -> None:
    table = {(0, 1): (3, 0, 4), (2, 3): (5, 0, 2), (0, 2): (6, 0, 0), (1, 3): (6, 0, 0)}

    assert davidson(*answers(table), 4).penalised


def test_a_likelihood_that_grows_with_nu_alone_is_penalised() -> None:
    """Every model is beaten or tied, yet strengths and nu can grow together: 3 > 2, 0 > 1, ties between the others."""
    table = {(0, 1): (1, 11, 0), (1, 2): (0, 1, 0), (2, 3): (0, 0, 1), (3, 0): (0, 1, 0)}

    ranking = davidson(*answers(table), 4)

    assert ranking.penalised
    assert np.abs(ranking.strength).max() < 5


def test_nothing_but_ties_ranks_nobody() -> None:
    ranking = davidson(*answers({(0, 1): (0, 7, 0), (1, 2): (0, 7, 0)}), 3)

    assert ranking.penalised
    assert ranking.strength == pytest.approx([0, 0, 0], abs=1e-9)
    assert math.isfinite(ranking.difference(0, 2)[1])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3), st.integers(-1, 1)), min_size=12, max_size=60))
def test_sides_and_names_don_t_matter(rows: list[tuple[int, int, int]]) -> None:
    first = np.array([0, 1, 2, *(a for a, _, _ in rows)])
    second = np.array([1, 2, 3, *((a + b) % 4 for a, b, _ in rows)])
    outcome = np.array([1, 0, -1, *(won for _, _, won in rows)])
    flip = np.arange(len(outcome)) % 2 == 0
    names = np.array([2, 0, 3, 1])

    plain = davidson(first, second, outcome, 4)
    flipped = davidson(
        np.where(flip, second, first), np.where(flip, first, second), np.where(flip, -outcome, outcome), 4
    )
    renamed = davidson(names[first], names[second], outcome, 4)

    assert np.isfinite(plain.strength).all()
    assert abs(plain.strength.sum()) < 1e-9
    assert flipped.strength == pytest.approx(plain.strength, abs=1e-5)
    assert renamed.strength[names] == pytest.approx(plain.strength, abs=1e-5)


@pytest.mark.parametrize(
    ("columns", "models", "message"),
    [
        (([], [], []), 2, "no answers"),
        (([0], [0], [1]), 2, "with itself"),
        (([0], [2], [1]), 2, "second is 2 in row 0"),
        (([0, 0], [1, 1], [1, 2]), 2, "outcome is 2 in row 1"),
        (([0], [1], [0.5]), 2, "outcome is 0.5"),
        (([0, 1], [1], [1]), 2, "equal columns"),
        (([0, 2], [1, 3], [1, 1]), 4, r"models \[2, 3\]"),
        (([0], [1], [1]), 3, r"models \[2\]"),
    ],
)
def test_what_can_t_be_ranked_is_refused(columns: tuple[list[float], ...], models: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        davidson(*columns, models)


def test_clusters_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match="clusters"):
        davidson([0, 0], [1, 1], [1, -1], 2, [[0, 1, 2]])


def drawn(
    rng: np.random.Generator, strength: np.ndarray, nu: float, i: np.ndarray, j: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Answers by the model, with ``noise`` added to each answer's difference."""
    half = (strength[i] - strength[j] + noise) / 2
    shares = np.stack([np.exp(half), np.full(len(half), nu), np.exp(-half)])
    bounds = np.cumsum(shares / shares.sum(axis=0), axis=0)
    return 1 - (rng.random(len(half)) > bounds[:2]).sum(axis=0)


def test_intervals_cover_the_truth_in_95_of_100_cases() -> None:
    rng, strength = np.random.default_rng(5), np.array([0.5, 0.1, -0.6])
    i, j = np.tile([0, 0, 1], 50), np.tile([1, 2, 2], 50)
    hits, cases = np.zeros(2), 600
    for _ in range(cases):
        won = drawn(rng, strength, 0.5, i, j, np.zeros(150))
        ranking = davidson(i, j, won, 3, [np.arange(150)])
        for number, (found, truth) in enumerate(
            [(ranking.of(0), strength[0]), (ranking.difference(0, 2), strength[0] - strength[2])]
        ):
            hits[number] += found[1] <= truth <= found[2]

    # Standard error of a share of 95 % over 600 cases: 0.9 %.
    assert (hits / cases >= 0.93).all() and (hits / cases <= 0.98).all(), hits / cases


def test_answers_to_the_same_pair_need_the_clusters() -> None:
    """Six raters see the same 40 pairs; what a pair shows moves all six alike."""
    rng, cases = np.random.default_rng(6), 300
    pair = np.repeat(np.arange(40), 6)
    i, j = np.zeros(240, dtype=int), np.ones(240, dtype=int)
    clustered = naive = 0
    for _ in range(cases):
        won = drawn(rng, np.zeros(2), 0.0, i, j, np.repeat(rng.normal(0, 2, 40), 6))
        for number, clusters in enumerate(([pair], [])):
            _, low, high = davidson(i, j, won, 2, clusters).difference(0, 1)
            inside = low <= 0 <= high
            naive, clustered = naive + (inside and number == 1), clustered + (inside and number == 0)

    assert naive / cases < 0.85
    assert 0.92 <= clustered / cases <= 0.985, clustered / cases


KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Four observers, twelve units: the example of Krippendorff (2011), "Computing Krippendorff's alpha-reliability"."""


def example() -> np.ndarray:
    rows = [line.split() for line in KRIPPENDORFF.strip().splitlines()]
    return np.array([[sum(row[unit] == str(value) for row in rows) for value in range(1, 6)] for unit in range(12)])


def test_alpha_of_the_published_example() -> None:
    values = np.arange(1, 6, dtype=float)
    nominal, interval = (values[:, None] != values).astype(float), (values[:, None] - values) ** 2

    assert krippendorff_alpha(example(), nominal)[0] == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(example(), interval)[0] == pytest.approx(0.849, abs=5e-4)


def test_alpha_knows_agreement_chance_and_opposition() -> None:
    apart = 1 - np.eye(2)
    rng = np.random.default_rng(0)
    chance = np.stack([rng.binomial(4, 0.5, 4000)] * 2, axis=1)
    chance[:, 1] = 4 - chance[:, 0]

    assert krippendorff_alpha([[3, 0], [0, 3], [3, 0]], apart)[0] == 1
    value, low, high = krippendorff_alpha(chance, apart)
    assert low < value < high
    assert abs(value) < 0.02
    assert krippendorff_alpha([[1, 1]] * 20, apart)[0] < 0
    assert all(math.isnan(number) for number in krippendorff_alpha([[2, 0], [2, 0]], apart))


def test_alpha_refuses_what_says_nothing() -> None:
    with pytest.raises(DataError, match="1 units have two answers"):
        krippendorff_alpha([[2, 0], [1, 0]], 1 - np.eye(2))
    with pytest.raises(DataError, match="give"):
        krippendorff_alpha([[2, 0], [2, 0]], np.eye(3))


def test_wilson_interval_on_paper() -> None:
    assert wilson_interval(0, 10) == pytest.approx((0, Z95**2 / (10 + Z95**2)), abs=1e-12)
    assert wilson_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert wilson_interval(0, 0) == (0, 1)
    with pytest.raises(DataError):
        wilson_interval(3, 2)


def test_the_sign_test_is_the_normal_law_of_the_sum() -> None:
    assert sign_test(np.ones(4)) == pytest.approx(math.erfc(2 / math.sqrt(2)))
    assert sign_test([1, -1, 0.5, -0.5]) == 1
    assert sign_test([0, 0]) == 1
