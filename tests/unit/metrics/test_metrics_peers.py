"""MiFID, the Vendi score, CMMD's arithmetic and the data-copying test: closed forms, and the published formulas."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError, TooFewError
from genfoundry.evaluation.metrics import load_metric, metric_names
from genfoundry.metrics import data_copying, frechet_distance

NAMED = ("mifid", "mifid_clip", "mmd_clip", "mmd_inception", "vendi_dinov2", "vendi_inception", "data_copying")


def score(name: str, *evidence: object, **options: object) -> Score:
    """By name, as the stage evaluate asks for it."""
    metric = load_metric(name)
    return metric.score(dict(zip(metric.asks, evidence, strict=True)), metric.config(**options))


def normal(seed: int, n: int, d: int, mean: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + mean


def jackknife(value: Callable[[np.ndarray], float], x: np.ndarray) -> float:
    without = np.array([value(np.delete(x, row, axis=0)) for row in range(len(x))])
    return math.sqrt((len(x) - 1) * without.var())


def test_they_are_computed_where_params_yaml_names_them_only() -> None:
    assert set(NAMED) <= set(metric_names())
    assert not any(load_metric(name).by_default for name in NAMED)
    assert load_metric("mifid").asks == ("inception_features", "train_inception_features")


# MiFID


def test_mifid_far_from_the_training_records_is_the_distance_alone() -> None:
    train = np.pad(normal(0, 30, 2, 3), ((0, 0), (0, 2)))
    samples = np.pad(normal(1, 20, 2, 3), ((0, 0), (2, 0)))

    found = score("mifid", samples, train)

    assert found.value == pytest.approx(frechet_distance(samples, train))
    assert found.extra["memorization"] == pytest.approx(1) and found.extra["n_train"] == 30


def test_mifid_is_divided_by_the_cosine_distance_to_the_nearest() -> None:
    # Training records on the first axis, samples at 0.3 from it, both ways: 1 - cos 0.3 is the mean of both.
    lengths = np.arange(1.0, 9)[:, None]
    train = lengths * [1, 0]
    samples = lengths * [math.cos(0.3), math.sin(0.3)] * np.where(np.arange(8) % 2, -1, 1)[:, None]

    found = score("mifid_clip", samples, train)

    assert found.extra["memorization"] == pytest.approx(1 - math.cos(0.3))
    assert found.value == pytest.approx(frechet_distance(samples, train) / (1 - math.cos(0.3)))
    assert score("mifid_clip", samples, train, threshold=0.04).value == pytest.approx(frechet_distance(samples, train))


def test_mifid_is_the_published_formula() -> None:
    """As torchmetrics has it, with its sides swapped: it looks for the nearest sample of each real record."""
    from torchmetrics.image.mifid import _mifid_compute

    x, train = normal(2, 40, 5, 4), normal(3, 60, 5, 4)
    sides = [torch.from_numpy(rows) for rows in (x, train)]

    wanted = _mifid_compute(*(part for rows in sides for part in (rows.mean(0), torch.cov(rows.T), rows)))

    found = score("mifid", x, train)
    assert found.extra["memorization"] < 0.1
    assert found.value == pytest.approx(float(wanted), rel=1e-6)


def test_mifid_copies_cost_most_and_the_error_bar_is_the_jackknife_s() -> None:
    x, train = normal(4, 200, 3, 4), normal(5, 200, 3, 4)

    found = score("mifid", x, train)
    assert score("mifid", train[:100], train).value > 1e6 * found.value

    mine = math.sqrt(float((found.influence["sample"] ** 2).sum()))
    assert mine == pytest.approx(jackknife(lambda rows: score("mifid", rows, train).value, x), rel=0.3)
    assert found.se > mine


# Vendi


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([[2.0, 0, 0]] * 5, 1.0),
        ([[1.0, 0, 0], [0, 5.0, 0], [0, 0, 0.1]] * 4, 3.0),
        ([[1.0, 0]] * 3 + [[0, 1.0]], math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))),
        # At an angle a the eigenvalues are (1 + cos a) / 2 and (1 - cos a) / 2.
        ([[1.0, 0], [math.cos(1), math.sin(1)]], None),
        ([[1.0, 0], [-1.0, 0]], 1.0),
    ],
)
def test_vendi_on_paper(rows: list[list[float]], wanted: float | None) -> None:
    shares = np.array([1 + math.cos(1), 1 - math.cos(1)]) / 2

    found = score("vendi_clip", rows)

    assert found.value == pytest.approx(wanted or math.exp(-float(shares @ np.log(shares))))
    assert found.count == len(rows)


def test_vendi_is_the_entropy_of_the_similarities_and_its_error_bar_the_jackknife_s() -> None:
    x = normal(6, 80, 6, 0.5)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    shares = np.linalg.eigvalsh(unit @ unit.T / 80)
    shares = shares[shares > 1e-12]

    found = score("vendi_inception", x)

    assert found.value == pytest.approx(math.exp(-float(shares @ np.log(shares))))
    assert found.influence["sample"].mean() == pytest.approx(0, abs=1e-9)
    assert found.se == pytest.approx(jackknife(lambda rows: score("vendi_inception", rows).value, x), rel=0.1)


# Gaussian kernel


def published(x: np.ndarray, y: np.ndarray, sigma: float, scale: float) -> float:
    """Jayasumana et al. 2024, all pairs of each side."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b) ** 2).sum(-1) / (2 * sigma**2)).mean())

    return scale * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_the_discrepancy_of_two_directions() -> None:
    found = score("mmd_clip", [[3.0, 0]] * 4, [[0, 0.5]] * 5)

    # Length 1, so a squared distance of 2 in the kernel of sigma 10.
    assert found.value == found.extra["unbiased"] == pytest.approx(2000 * (1 - math.exp(-2 / 200)))
    assert found.se == pytest.approx(0, abs=1e-9)
    assert score("mmd_clip", [[1.0, 0]] * 3, [[2.0, 0]] * 3).value == 0


@pytest.mark.parametrize(("sigma", "normalise"), [(10.0, True), (1.0, True), (2.0, False)])
def test_the_discrepancy_is_the_published_formula(sigma: float, normalise: bool) -> None:
    x, y = normal(7, 50, 4, 0.4), normal(8, 40, 4)
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) if normalise else rows for rows in (x, y)]

    found = score("mmd_inception", x, y, sigma=sigma, normalise=normalise)

    assert found.value == pytest.approx(published(*unit, sigma, 1000), rel=1e-9)
    assert found.extra["unbiased"] < found.value
    mine = math.sqrt(float((found.influence["sample"] ** 2).sum()))

    def unbiased(rows: np.ndarray) -> float:
        return score("mmd_inception", rows, y, sigma=sigma, normalise=normalise).extra["unbiased"]

    assert mine == pytest.approx(jackknife(unbiased, x), rel=1e-6)


def test_equal_laws_have_an_unbiased_discrepancy_of_about_zero() -> None:
    found = [score("mmd_clip", normal(seed, 40, 3), normal(seed + 500, 40, 3), sigma=1.0) for seed in range(200)]
    unbiased = np.array([each.extra["unbiased"] for each in found])

    assert abs(unbiased.mean()) < 4 * unbiased.std() / math.sqrt(200)
    assert min(each.value for each in found) > 0


# The data-copying test


def test_samples_all_nearer_than_held_out_records_have_the_lowest_z() -> None:
    # U is 0: z = -mn/2 / sqrt(mn (m + n + 1) / 12) = -sqrt(3mn / (m + n + 1)).
    assert data_copying.z_score(np.arange(4.0), np.arange(10.0, 16)) == pytest.approx(-math.sqrt(72 / 11))
    assert data_copying.z_score(np.ones(5), np.ones(7)) == 0


def test_the_z_score_is_that_of_mann_and_whitney() -> None:
    generator = np.random.default_rng(9)
    samples, held_out = generator.integers(0, 9, 30), generator.integers(1, 10, 25)

    u = mannwhitneyu(samples, held_out).statistic

    wanted = (u - 30 * 25 / 2) / math.sqrt(30 * 25 * 56 / 12)
    assert data_copying.z_score(samples.astype(float), held_out.astype(float)) == pytest.approx(wanted)


def test_cells_are_weighted_by_their_held_out_records() -> None:
    """Two far clusters, so that k-means leaves no doubt; each alone, by brute force."""
    far = np.array([[0.0, 0], [100, 0]])
    sizes = ((90, 30), (80, 25), (300, 100))
    sides = [normal(n, n, 2) + far[(np.arange(n) < right).astype(int)] for n, right in sizes]

    found = data_copying.in_cells(*sides, data_copying.Config(cells=2))

    z = []
    for right in (False, True):
        mine, real, known = (rows[(rows[:, 0] > 50) == right] for rows in sides)
        away = [np.sqrt(((rows[:, None] - known) ** 2).sum(-1)).min(1) for rows in (mine, real)]
        u = mannwhitneyu(*away).statistic
        m, n = map(len, away)
        z.append((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))
    assert sorted(found.z) == pytest.approx(sorted(z))
    assert float(found.z @ found.weights) == pytest.approx((55 * z[0] + 25 * z[1]) / 80)


def test_copies_are_far_below_zero_fresh_data_about_zero_and_noise_far_above() -> None:
    def found(samples: np.ndarray, seed: int = 0) -> Score:
        return score("data_copying", samples, normal(seed + 1000, 400, 3), normal(seed + 2000, 300, 3), cells=3)

    train = normal(1000, 400, 3)
    assert found(train[:200] + 0.01 * normal(1, 200, 3)).value < -5
    assert found(3 * normal(2, 200, 3)).value > 5
    fresh = [found(normal(seed, 150, 3), seed) for seed in range(40)]
    ratios = np.array([each.value / each.se for each in fresh])
    # Held-out records share their training record with others, so somewhat wider than the normal law.
    assert abs(ratios.mean()) < 0.6 and 0.6 < ratios.std() < 1.5
    assert {each.extra["cells"] for each in fresh} == {3} and fresh[0].extra["n_reference"] == 150


# Refusals

ZERO = np.vstack([np.zeros(3), normal(0, 5, 3)])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: score("mifid", ZERO, normal(1, 9, 3)), r"mifid: features are 0 in 1 of 6 rows, first in row 0"),
        (lambda: score("mifid_clip", normal(1, 9, 3), ZERO), r"mifid_clip: train_features are 0 in 1"),
        (lambda: score("mifid", normal(1, 9, 3), normal(1, 9, 4)), r"features have 3 columns, train_features 4"),
        (lambda: score("vendi_clip", ZERO), r"vendi_clip: features are 0 in 1"),
        (lambda: score("vendi_clip", ZERO[:1]), r"vendi_clip: features have 1 rows"),
        (lambda: score("mmd_clip", ZERO * math.nan, ZERO), r"mmd_clip: features hold NaN"),
        (lambda: score("mmd_clip", ZERO[1:3], ZERO), r"mmd_clip: features have 2 rows; give at least 3"),
        (
            lambda: score("data_copying", ZERO, ZERO, ZERO[:, :2]),
            r"train_features have 3 columns, reference_features 2",
        ),
    ],
)
def test_what_can_not_be_scored_is_refused_by_name(call: Callable[[], Score], words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()


def test_too_few_for_any_cell_is_said_as_such() -> None:
    with pytest.raises(TooFewError, match="no cell of 5 has 20 of the 30 samples and of the 20 held-out records"):
        score("data_copying", normal(0, 30, 2), normal(1, 90, 2), normal(2, 40, 2))
