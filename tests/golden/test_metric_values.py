"""Scores whose value is known on paper, or from 50-digit arithmetic over another formula.

Several are cases in which torchmetrics 1.9 gives NaN, infinity or a wrong number; what it gives is said beside them.
"""

import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest

from genfoundry.metrics import bits_per_byte, distinct_n, fid_domain, is_domain, kid_domain, perplexity
from genfoundry.metrics._frechet import frechet, frechet_from_moments
from genfoundry.metrics._ratio import ratio


def fid(x: np.ndarray, y: np.ndarray) -> float:
    return fid_domain.score(x, y, fid_domain.Config()).value


def inception(logits: np.ndarray) -> float:
    return is_domain.score(logits, is_domain.Config()).value


# Frechet distance


def test_one_dimension_is_the_gap_of_means_and_of_deviations() -> None:
    x = np.array([[0.0], [4.0]])  # mean 2, variance 8
    y = np.array([[1.0], [2.0], [3.0]])  # mean 2, variance 1
    y += 3

    assert fid(x, y) == pytest.approx(3**2 + (math.sqrt(8) - 1) ** 2, abs=1e-14)


def test_two_dimensions_with_covariances_that_do_not_commute() -> None:
    x = np.array([[3.0, 1], [-3, -1], [1, -2], [-1, 2]])
    y = np.array([[1.0, 2], [-1, -2], [2, 0], [-2, 0]])
    a, b = np.cov(x.T), np.cov(y.T)
    # For 2 x 2 the trace of the root of M is sqrt(tr M + 2 sqrt(det M)).
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a @ b)))

    assert not np.allclose(a @ b, b @ a)
    assert fid(x, y) == pytest.approx(np.trace(a) + np.trace(b) - 2 * root, abs=1e-13)


def test_five_dimensions_against_fifty_digits() -> None:
    generator = np.random.default_rng(3)
    x = generator.normal(size=(30, 5)) @ generator.normal(size=(5, 5))
    y = generator.normal(size=(40, 5)) @ generator.normal(size=(5, 5)) + 1
    with mpmath.workdps(50):
        means, covariances = [], []
        for rows in (x, y):
            matrix = mpmath.matrix(rows.tolist())
            mean = mpmath.matrix([mpmath.fsum(matrix[:, column]) / len(rows) for column in range(5)])
            centred = mpmath.matrix(len(rows), 5)
            for row, column in itertools.product(range(len(rows)), range(5)):
                centred[row, column] = matrix[row, column] - mean[column]
            means.append(mean)
            covariances.append(centred.T * centred / (len(rows) - 1))
        eigenvalues = mpmath.eig(covariances[0] * covariances[1], left=False, right=False)
        cross = mpmath.fsum(mpmath.sqrt(mpmath.re(value)) for value in eigenvalues)
        gap = means[0] - means[1]
        trace = mpmath.fsum(matrix[place, place] for matrix in covariances for place in range(5))
        wanted = float((gap.T * gap)[0] + trace - 2 * cross)

    assert fid(x, y) == pytest.approx(wanted, rel=1e-13)
    moments = (x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T))
    assert frechet_from_moments(*moments) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(100, 512), (100, 64), (2, 5), (3, 1)])
def test_equal_sets_are_at_distance_zero_at_any_rank(n: int, d: int) -> None:
    # torchmetrics: -4.6e-5 for (100, 512), -6.8e-4 for (100, 2048).
    rows = np.random.default_rng(0).normal(size=(n, d)) ** 3

    assert 0 <= fid(rows, rows) < 1e-24 * n * d
    assert 0 <= fid(rows, rows[::-1]) < 1e-20 * n * d


@pytest.mark.parametrize("offset", [0.0, 1e6, 1e8])
def test_a_common_offset_changes_nothing(offset: float) -> None:
    # torchmetrics: wrong from the fourth digit on at 1e6, -4475 at 1e8.
    generator = np.random.default_rng(1)
    x, y = generator.integers(-8, 9, (50, 4)) / 4.0, generator.integers(-8, 9, (60, 4)) / 4.0

    assert fid(x + offset, y + offset) == pytest.approx(fid(x, y), rel=1e-6)


def test_fewer_rows_than_columns_and_a_shift() -> None:
    rows = np.random.default_rng(2).normal(size=(20, 100))

    assert fid(rows + 0.5, rows) == pytest.approx(100 * 0.25, rel=1e-12)


def test_a_collapsed_model_pays_the_gap_of_means_and_all_of_the_spread() -> None:
    y = np.random.default_rng(4).normal(size=(50, 3))
    x = np.full((10, 3), 2.0)

    wanted = ((2 - y.mean(0)) ** 2).sum() + np.trace(np.cov(y.T))
    assert fid(x, y) == pytest.approx(wanted, rel=1e-13)


def test_the_influence_of_a_row_is_the_derivative_by_its_weight() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(12, 3)) @ np.diag([1, 2, 0.5]) + 0.3
    y = generator.normal(size=(15, 3))
    found = frechet(x, y)

    def moved(rows: np.ndarray, row: int, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Moments with a little more weight on one row."""
        mean, covariance = rows.mean(0), np.cov(rows.T)
        away = rows[row] - mean
        return mean + step * away, covariance + step * (np.outer(away, away) - covariance)

    def slopes(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
        still = other.mean(0), np.cov(other.T)
        ends = (
            [frechet_from_moments(*moved(rows, row, step), *still) for row in range(len(rows))]
            for step in (1e-6, -1e-6)
        )
        found = np.subtract(*ends) / 2e-6
        # A sample's covariance divides by n - 1, so the slopes have a small common mean, which no error bar sees.
        return found - found.mean()

    np.testing.assert_allclose(slopes(x, y), found.influence, atol=1e-6)
    np.testing.assert_allclose(slopes(y, x), found.reference_influence, atol=1e-6)


# Inception score


def test_sure_and_equally_spread_over_k_classes_scores_k() -> None:
    assert inception(np.eye(5).repeat(3, axis=0) * 1e4) == pytest.approx(5, rel=1e-14)


def test_samples_that_all_look_alike_score_one() -> None:
    assert inception(np.tile([3.0, -1.0, 0.5], (7, 1))) == pytest.approx(1, abs=1e-14)


def test_a_class_that_is_never_used_is_no_nan() -> None:
    # torchmetrics: NaN as soon as a class's mean probability underflows, at a gap of about 90 in float32.
    logits = np.array([[1000.0, 0, -1000], [0, 1000.0, -1000]] * 4)

    assert inception(logits) == pytest.approx(2, rel=1e-14)


def test_inception_score_against_fifty_digits() -> None:
    logits = np.random.default_rng(6).normal(size=(9, 4)) * 3
    with mpmath.workdps(50):
        rows = [[mpmath.exp(value) for value in row] for row in logits.tolist()]
        rows = [[value / mpmath.fsum(row) for value in row] for row in rows]
        mean = [mpmath.fsum(row[k] for row in rows) / len(rows) for k in range(4)]
        divergences = [mpmath.fsum(row[k] * mpmath.log(row[k] / mean[k]) for k in range(4)) for row in rows]
        wanted = mpmath.exp(mpmath.fsum(divergences) / len(rows))
        nats = mpmath.fsum(divergences) / len(rows)
        variance = mpmath.fsum((value - nats) ** 2 for value in divergences) / (len(rows) - 1)
        wanted_se = wanted * mpmath.sqrt(variance / len(rows))

    score = is_domain.score(logits, is_domain.Config())
    assert score.value == pytest.approx(float(wanted), rel=1e-14)
    assert score.se == pytest.approx(float(wanted_se), rel=1e-13)


# Kernel distance


def exact_kid(x: list[list[int]], y: list[list[int]]) -> Fraction:
    """The definition, pair by pair, in rational numbers."""

    def kernel(a: list[int], b: list[int]) -> Fraction:
        return (Fraction(sum(p * q for p, q in zip(a, b, strict=True)), len(a)) + 1) ** 3

    def within(rows: list[list[int]]) -> Fraction:
        pairs = list(itertools.permutations(rows, 2))
        return sum((kernel(a, b) for a, b in pairs), Fraction(0)) / len(pairs)

    across = sum((kernel(a, b) for a in x for b in y), Fraction(0)) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


X, Y = [[1, 2, 0], [3, -1, 1], [0, 0, 2], [2, 2, -1]], [[0, 1, 1], [-2, 1, 0], [1, 1, 1], [3, 0, 2], [1, -1, 0]]


def test_kernel_distance_is_the_mean_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    config = kid_domain.Config(standardise=False)
    wanted = pytest.approx(float(exact_kid(X, Y)), rel=1e-14)

    assert kid_domain.score(X, Y, config).value == wanted
    monkeypatch.setattr(kid_domain, "BLOCK", 3)
    assert kid_domain.score(X, Y, config).value == wanted


@pytest.mark.parametrize("block", [3, 1024])
def test_its_error_bar_is_the_jackknife_of_both_sides(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid_domain, "BLOCK", block)

    def spread(values: list[float]) -> float:
        return (len(values) - 1) * float(np.var(values))

    without_x = [float(exact_kid(X[:row] + X[row + 1 :], Y)) for row in range(len(X))]
    without_y = [float(exact_kid(X, Y[:row] + Y[row + 1 :])) for row in range(len(Y))]

    score = kid_domain.score(X, Y, kid_domain.Config(standardise=False))
    assert score.se == pytest.approx(math.sqrt(spread(without_x) + spread(without_y)), rel=1e-12)


def test_standardised_features_have_no_unit() -> None:
    generator = np.random.default_rng(7)
    x, y = generator.normal(size=(30, 3)), generator.normal(size=(40, 3)) * 1.5
    scale, shift = np.array([1e-3, 1.0, 50.0]), np.array([5.0, 0.0, -3.0])

    plain, other = (
        kid_domain.score(a, b, kid_domain.Config()).value for a, b in ((x, y), (x * scale + shift, y * scale + shift))
    )
    assert other == pytest.approx(plain, rel=1e-9)


# Likelihood


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    tokens = np.array([3, 5, 1])

    score = perplexity.score(tokens * math.log(4096), tokens, perplexity.Config())

    assert score.value == pytest.approx(4096, rel=1e-12)
    assert score.se == pytest.approx(0, abs=1e-8)


def test_tokens_are_weighed_and_not_documents() -> None:
    # A mean over documents of their own perplexities (Hugging Face evaluate) would give (exp(10) + 1) / 2.
    assert perplexity.score([10.0, 0.0], [1, 9], perplexity.Config()).value == pytest.approx(math.e, rel=1e-14)


def test_the_count_goes_beyond_two_to_the_twenty_four() -> None:
    # torchmetrics adds tokens up in float32: after 2^24 tokens, 1,000 updates of one token added none.
    score = perplexity.score([2.0**24, *[3.0] * 1000], [2**24, *[1] * 1000], perplexity.Config())

    assert score.extra["tokens"] == 2**24 + 1000
    assert score.value == pytest.approx(math.exp((2**24 + 3000) / (2**24 + 1000)), rel=1e-15)


def test_one_bit_of_nats_for_each_bit_of_text_is_eight_bits_a_byte() -> None:
    size = np.array([10, 200, 33])

    assert bits_per_byte.score(size * 8 * math.log(2), size, bits_per_byte.Config()).value == pytest.approx(
        8, rel=1e-14
    )


def test_the_ratio_by_hand() -> None:
    # 6/4 = 1.5; residuals 1 - 1.5*1 = -0.5 and 5 - 1.5*3 = 0.5; 2/1 * (0.25 + 0.25) / 4^2 = 1/16.
    assert ratio(np.array([1.0, 5.0]), np.array([1.0, 3.0])) == pytest.approx((1.5, 0.25))


# Distinct-n


def test_distinct_n_by_hand() -> None:
    samples = [[1, 2, 1, 2], [2, 1], [3], [3, 4, 5]]  # bigrams 12 21 12, 21, none, 34 45: four different of six

    score = distinct_n.score(samples, distinct_n.Config(n=2))

    assert (score.value, score.count, score.extra["grams"]) == (4 / 6, 3, 6)
    without = [3 / 3, 4 / 5, 2 / 4]
    assert score.se == pytest.approx(math.sqrt(2 * np.var(without)))
