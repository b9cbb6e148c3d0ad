"""Differences of two models' scores: values known on paper, and error bars that simulations bear out."""

import math

import numpy as np
import pytest
from scipy import stats

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError, TooFewError
from genfoundry.metrics import frechet_distance, frechet_extrapolated
from genfoundry.metrics._frechet import halves
from genfoundry.metrics._paired import (
    Difference,
    paired_frechet_difference,
    paired_kernel_difference,
    paired_mean_difference,
    paired_perplexity_difference,
    paired_ratio_difference,
    paired_score_difference,
)
from genfoundry.metrics.kid_domain import Config as KidConfig
from genfoundry.metrics.kid_domain import score as kid_score


def rows(seed: int, n: int = 400, d: int = 4, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).standard_normal((n, d))


def kernel_extrapolated(x: np.ndarray, real: np.ndarray) -> float:
    """Kernel distance of all rows, twice, less the mean of both halves'."""
    parts = zip(halves(len(x)), halves(len(real)), strict=True)
    first, second = (kid_score(x[one], real[other], KidConfig(standardise=False)).value for one, other in parts)
    return 2 * kid_score(x, real, KidConfig(standardise=False)).value - (first + second) / 2


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

    without = [frechet_extrapolated(x, real).unclipped for x in (a, b)]
    assert frechet.value == pytest.approx(without[0] - without[1])
    assert frechet.value == pytest.approx(float(frechet_distance(a, real)) - float(frechet_distance(b, real)), rel=0.3)
    assert kernel.value == pytest.approx(kernel_extrapolated(a, real) - kernel_extrapolated(b, real))


def test_the_kernel_difference_holds_far_from_the_origin() -> None:
    a, b, real = rows(0), rows(1, scale=1.2), rows(2)
    near, far = paired_kernel_difference(a, b, real), paired_kernel_difference(a + 1e4, b + 1e4, real + 1e4)
    # At an offset t the distance tends to 3 t^4 |shift|^2 and the rounding to 1e-16 t^6.
    expected = kernel_extrapolated(a + 1e4, real + 1e4) - kernel_extrapolated(b + 1e4, real + 1e4)
    assert far.value == pytest.approx(expected, rel=1e-6) and near.value != far.value


@pytest.mark.parametrize("paired_share", [0.0, 0.8])
@pytest.mark.parametrize("difference", [paired_frechet_difference, paired_kernel_difference])
def test_the_error_bar_is_the_spread_over_repetitions(difference, paired_share: float) -> None:
    """Also near equality, where the second order decides."""
    generator, found = np.random.default_rng(3), []
    for _ in range(300):
        real, common, own_a, own_b = generator.standard_normal((4, 200, 16))
        share, rest = math.sqrt(paired_share), math.sqrt(1 - paired_share)
        found.append(difference(1.1 * (share * common + rest * own_a), 1.1 * (share * common + rest * own_b), real))

    spread = np.std([one.value for one in found])
    assert math.sqrt(np.mean([one.se**2 for one in found])) == pytest.approx(spread, rel=0.15)


def test_pairing_narrows() -> None:
    a = rows(0)
    b = a + rows(1, scale=0.1)
    assert paired_frechet_difference(a, b, rows(2)).se < 0.5 * paired_frechet_difference(a, b, rows(2), paired=False).se


def test_references_of_their_own_are_independent() -> None:
    a, b, r, q = rows(0), rows(1), rows(2), rows(3)
    one, two = paired_frechet_difference(a, b, r), paired_frechet_difference(a, b, r, q)
    assert two.value == pytest.approx(frechet_extrapolated(a, r).unclipped - frechet_extrapolated(b, q).unclipped)
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

    with pytest.raises(TooFewError, match=r"52 documents count as 2\.1 of one length; below 25"):
        paired_ratio_difference(*nats, units)


def promotions(difference, draw, trials: int = 400) -> float:
    """Share of trials in which the first model is promoted at 5 %."""
    generator = np.random.default_rng(0)
    return float(np.mean([difference(*draw(generator)).upper(0.05) < 0 for _ in range(trials)]))


def classes(generator: np.random.Generator, n: int, width: float) -> np.ndarray:
    """Rows of two classes in turn, far apart."""
    return width * (3 * np.eye(1, 8) * np.where(np.arange(n) % 2, 1, -1)[:, None] + generator.standard_normal((n, 8)))


def test_labels_in_turn_are_halved_each() -> None:
    """Halves of every other row would lack every other label: the bar then depends on the order of the rows."""
    generator, labels = np.random.default_rng(0), np.arange(240) % 4
    a, b = (1.1 * (4 * np.eye(4, 8)[labels] + generator.standard_normal((240, 8))) for _ in range(2))
    real = 4 * np.eye(4, 8)[generator.integers(0, 4, 240)] + generator.standard_normal((240, 8))
    order = np.argsort(labels, kind="stable")

    in_turn, in_order = (
        paired_frechet_difference(a[rows], b[rows], real, labels_a=labels[rows], labels_b=labels[rows])
        for rows in (slice(None), order)
    )

    assert in_turn.se == pytest.approx(in_order.se)
    assert in_turn.value == pytest.approx(in_order.value, abs=in_turn.se)


@pytest.mark.parametrize("difference", [paired_frechet_difference, paired_kernel_difference])
def test_labels_in_turn_promote_no_equal_model_more_often(difference) -> None:
    labels = np.arange(120) % 2

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        real = generator.permutation(classes(generator, 240, 1.0))[:120]
        return classes(generator, 120, 1.1), classes(generator, 120, 1.1), real

    rate = promotions(lambda *drawn: difference(*drawn, labels_a=labels, labels_b=labels), draw)
    assert 0.02 < rate < 0.08


def test_of_two_equally_distant_models_the_narrower_does_not_win() -> None:
    """Of 0.9 and 1.1 times the real spread the plain distance prefers the first in 16 % of trials."""
    widths = (0.9, 1.1, 1.0)
    draws = [
        lambda generator, order=order: [width * generator.standard_normal((80, 8)) for width in order]
        for order in (widths, (1.1, 0.9, 1.0))
    ]
    narrow, wide = (promotions(paired_frechet_difference, draw) for draw in draws)
    assert narrow < 0.08 and wide < 0.08


@pytest.mark.parametrize(("labels", "in_turn"), [(10, True), (160, False), (107, True)])
def test_nor_does_the_wider_where_labels_are_far_apart(labels: int, in_turn: bool) -> None:
    """As many real records of each label, or two or three samples of each: their spread is no bias of either model."""
    generator, turn = np.random.default_rng(0), np.arange(321) % labels
    centres, values = 3 * np.random.default_rng(1).standard_normal((labels, 32)), []
    for _ in range(20):
        real = turn if in_turn else generator.integers(0, labels, 321)
        a, b, r = (
            width * (centres[of] + generator.standard_normal((321, 32)))
            for width, of in ((0.8, turn), (1.2, turn), (1.0, real))
        )
        found = paired_frechet_difference(a, b, r, labels_a=turn, labels_b=turn, reference_labels=real)
        values.append(found.value / found.se)
    assert abs(np.mean(values)) < 0.5


@pytest.mark.parametrize("law", ["worse with length", "skewed", "Pareto"])
def test_a_long_tail_of_documents_promotes_no_equal_model(law: str) -> None:
    """Student's t promotes 17, 14 and 50 % here."""

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal = generator.standard_normal(200)
        size, gap = np.exp(1.21 * normal), normal - 1.21
        if law == "Pareto":
            size = generator.random(200) ** (-1 / 1.5)
            gap = np.log(size) / 2 - 1
        elif law == "skewed":
            gap = np.exp(generator.standard_normal(200)) - math.exp(0.5)
        return size * (100 + gap), size * 100, size

    def bound(*drawn: np.ndarray) -> Difference:
        try:
            return paired_ratio_difference(*drawn)
        except TooFewError:
            return Difference(0.0, math.nan, 200, "")

    assert promotions(bound, draw) < 0.06


def test_symmetric_gaps_keep_students_bound_and_a_longer_tail_moves_only_its_own_side() -> None:
    half = np.random.default_rng(0).standard_normal(100)
    size = np.full(200, 10.0)

    even = paired_ratio_difference(100 + np.concatenate([half, -half]), np.full(200, 100.0), size)
    skewed = paired_ratio_difference(100 + np.concatenate([np.exp(half), np.exp(half)]), np.full(200, 100.0), size)

    for found in (even, skewed):
        assert found.lower(0.05) == pytest.approx(found.value - found.se * stats.t.ppf(0.95, 199))
    assert even.upper(0.05) == pytest.approx(even.value + even.se * stats.t.ppf(0.95, 199))
    assert skewed.upper(0.05) > skewed.value + 1.1 * skewed.se * stats.t.ppf(0.95, 199)
    # Turned round, the bounds change places; a bound meets the margin where the p value meets alpha.
    assert skewed.scaled(-2).lower(0.05) == pytest.approx(-2 * skewed.upper(0.05))
    assert skewed.p_value(skewed.upper(0.01)) == pytest.approx(0.01)


def test_a_perplexity_is_judged_as_its_logarithm() -> None:
    nats, units = np.random.default_rng(0).uniform(90, 110, (2, 60)), np.full(60, 50)

    ratio, found = paired_ratio_difference(*nats, units), paired_perplexity_difference(*nats, units)

    assert found.value == pytest.approx(np.exp(nats[0].sum() / 3000) - np.exp(nats[1].sum() / 3000))
    assert found.p_value() == pytest.approx(ratio.p_value())
    assert paired_perplexity_difference(nats[0], nats[0], units).value == 0


def test_what_is_refused_is_named() -> None:
    few = np.ones(49)
    with pytest.raises(TooFewError, match="49 documents; below 50"):
        paired_ratio_difference(few, few, few)
    with pytest.raises(TooFewError, match="39 rows of 4 features; below 40"):
        paired_frechet_difference(rows(0, 39), rows(1, 39), rows(2))
    with pytest.raises(TooFewError, match="most of the 400 rows are the only one of their label"):
        paired_frechet_difference(rows(0), rows(1), rows(2), labels_a=np.arange(400))
    with pytest.raises(DataError, match="labels have shape"):
        paired_frechet_difference(rows(0), rows(1), rows(2), labels_a=np.zeros(3))
    with pytest.raises(DataError, match="0 units"):
        paired_ratio_difference(np.ones(50), np.ones(50), np.zeros(50))
    with pytest.raises(TooFewError, match="50 documents count as 1 of one length"):
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
