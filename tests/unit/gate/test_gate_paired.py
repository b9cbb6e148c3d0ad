"""Differences of two models' scores: values known on paper, and error bars that simulations bear out."""

import math

import numpy as np
import pytest
from scipy import stats

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError
from genfoundry.metrics import frechet_distance
from genfoundry.metrics._paired import (
    Difference,
    paired_frechet_difference,
    paired_kernel_difference,
    paired_mean_difference,
    paired_ratio_difference,
    paired_score_difference,
)
from genfoundry.metrics.kid_domain import Config as KidConfig
from genfoundry.metrics.kid_domain import score as kid_score


def rows(seed: int, n: int = 400, d: int = 4, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((n, d))


def test_bounds_are_those_of_the_normal_and_the_t_law() -> None:
    normal, student = Difference(1.0, 0.5, 100, ""), Difference(1.0, 0.5, 10, "", df=9)

    assert normal.upper(0.05) == pytest.approx(1 + 0.5 * stats.norm.ppf(0.95))
    assert student.lower(0.01) == pytest.approx(1 - 0.5 * stats.t.ppf(0.99, 9))
    assert normal.interval() == pytest.approx((1 - 0.5 * 1.959964, 1 + 0.5 * 1.959964), abs=1e-6)
    assert student.p_value(2.0) == pytest.approx(stats.t.cdf(-2, 9))
    # A bound meets the margin where the p value meets alpha.
    assert normal.p_value(normal.upper(0.03)) == pytest.approx(0.03)


def test_no_difference_at_all_is_no_evidence() -> None:
    x = rows(0)
    for found in (paired_frechet_difference(x, x, rows(1)), paired_kernel_difference(x, x, rows(1))):
        assert found.value == 0 and found.se == 0
        assert found.p_value() == 1 and found.upper(0.05) == 0


def test_values_are_the_differences_of_the_scores() -> None:
    a, b, real = rows(0), rows(1, scale=1.2), rows(2, 300)

    frechet, kernel = paired_frechet_difference(a, b, real), paired_kernel_difference(a, b, real)

    assert frechet.value == pytest.approx(float(frechet_distance(a, real)) - float(frechet_distance(b, real)))
    plain = KidConfig(standardise=False)
    assert kernel.value == pytest.approx(kid_score(a, real, plain).value - kid_score(b, real, plain).value)


def test_the_kernel_difference_holds_far_from_the_origin() -> None:
    a, b, real = rows(0), rows(1, scale=1.2), rows(2)
    near, far = paired_kernel_difference(a, b, real), paired_kernel_difference(a + 1e4, b + 1e4, real + 1e4)
    # At an offset t the distance tends to 3 t^4 |shift|^2 and the rounding to 1e-16 t^6.
    plain = KidConfig(standardise=False)
    expected = kid_score(a + 1e4, real + 1e4, plain).value - kid_score(b + 1e4, real + 1e4, plain).value
    assert far.value == pytest.approx(expected, rel=1e-6) and near.value != far.value


@pytest.mark.parametrize("paired_share", [0.0, 0.8])
@pytest.mark.parametrize("difference", [paired_frechet_difference, paired_kernel_difference])
def test_the_error_bar_is_the_spread_over_repetitions(difference, paired_share: float) -> None:
    """Also near equality, where the plain delta method is 1.4 times too wide."""
    generator, found = np.random.default_rng(3), []
    for _ in range(300):
        real, common, own_a, own_b = generator.standard_normal((4, 200, 16))
        share, rest = math.sqrt(paired_share), math.sqrt(1 - paired_share)
        found.append(difference(1.1 * (share * common + rest * own_a), 1.1 * (share * common + rest * own_b), real))

    spread = np.std([one.value for one in found])
    assert math.sqrt(np.mean([one.se**2 for one in found])) == pytest.approx(spread, rel=0.15)


def test_pairing_narrows_and_too_few_rows_stay_wide() -> None:
    a = rows(0)
    b = a + rows(1, scale=0.1)
    assert paired_frechet_difference(a, b, rows(2)).se < 0.5 * paired_frechet_difference(a, b, rows(2), paired=False).se
    few = paired_frechet_difference(rows(0, 11), rows(1, 11), rows(2, 11))
    assert math.isfinite(few.se) and few.se > 0


def test_references_of_their_own_are_independent() -> None:
    a, b, r, q = rows(0), rows(1), rows(2), rows(3)
    one, two = paired_frechet_difference(a, b, r), paired_frechet_difference(a, b, r, q)
    assert two.value == pytest.approx(float(frechet_distance(a, r)) - float(frechet_distance(b, q)))
    assert two.se > one.se


def test_likelihood_of_equal_documents_is_a_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.gamma(9, 10, 60), generator.gamma(9, 10, 60)

    found = paired_ratio_difference(a, b, np.full(60, 50))

    theirs = stats.ttest_rel(a / 50, b / 50)
    assert found.value == pytest.approx((a - b).sum() / 3000) and found.df == pytest.approx(59)
    assert found.p_value() == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)
    assert found.value / found.se == pytest.approx(theirs.statistic)


def test_few_long_documents_count_as_few() -> None:
    units = np.concatenate([np.full(50, 10.0), np.full(2, 10_000.0)])
    nats = np.random.default_rng(0).uniform(1, 2, (2, 52)) * units

    found = paired_ratio_difference(*nats, units)

    assert 0.9 < found.df < 1.2


def test_what_is_refused_is_named() -> None:
    few = np.ones(49)
    with pytest.raises(DataError, match="49 documents; below 50"):
        paired_ratio_difference(few, few, few)
    with pytest.raises(DataError, match="0 units"):
        paired_ratio_difference(np.ones(50), np.ones(50), np.zeros(50))
    with pytest.raises(DataError, match="holds all 7 units"):
        paired_ratio_difference(np.ones(50), np.ones(50), np.eye(1, 50)[0] * 7)
    with pytest.raises(DataError, match="400 samples against 399 can't be paired"):
        paired_frechet_difference(rows(0), rows(1)[1:], rows(2))
    with pytest.raises(DataError, match="NaN or infinity"):
        paired_kernel_difference(rows(0), rows(1) * math.nan, rows(2))
    with pytest.raises(DataError, match="columns"):
        paired_frechet_difference(rows(0), rows(1, d=5), rows(2))
    with pytest.raises(DataError, match="can't be paired"):
        paired_mean_difference([1, 2, 3], [1, 2])


def test_means_paired_and_not() -> None:
    a, b = np.random.default_rng(0).standard_normal((2, 30))
    assert paired_mean_difference(a, b).p_value() == pytest.approx(stats.ttest_rel(a, b, alternative="less").pvalue)
    welch = stats.ttest_ind(a[:20], 2 * b, equal_var=False, alternative="less")
    assert paired_mean_difference(a[:20], 2 * b, paired=False).p_value() == pytest.approx(welch.pvalue)


def test_scores_with_influences_of_equal_units_are_paired() -> None:
    shared, own = np.random.default_rng(0).standard_normal((2, 100)) / 10
    a = Score(2.0, 100, 1.0, influence={"sample": shared})
    b = Score(1.5, 100, 1.0, influence={"sample": shared + 0.01 * own})

    assert paired_score_difference(a, b).se == pytest.approx(0.01 * math.sqrt((own**2).sum()))
    # Other units, or none: as of two separate scores.
    for other in (Score(1.5, 100, 1.0, influence={"test": shared}), Score(1.5, 100, 1.0)):
        assert paired_score_difference(a, other).se == pytest.approx(math.sqrt(2))
