"""Laws that scores keep on any data."""

import itertools
import math
import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfoundry import metrics
from genfoundry.core.errors import DataError
from genfoundry.metrics import (
    bits_per_byte,
    distinct_n,
    fid_domain,
    fid_inf_domain,
    is_domain,
    kid_domain,
    perplexity,
    precision_domain,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.integers(3, 12)


def fid(x: np.ndarray, y: np.ndarray) -> float:
    return fid_domain.score(x, y, fid_domain.Config()).value


def normal(seed: int, n: int, d: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) * generator.uniform(0, 2, d) + generator.normal(size=d)


@given(seeds, sizes, sizes, st.integers(1, 8))
def test_frechet_distance_is_a_distance_squared(seed: int, n: int, m: int, d: int) -> None:
    x, y, z = normal(seed, n, d), normal(seed + 1, m, d), normal(seed + 2, n, d)

    assert fid(x, y) >= 0
    assert fid(x, y) == pytest.approx(fid(y, x), abs=1e-9)
    assert math.sqrt(fid(x, z)) <= math.sqrt(fid(x, y)) + math.sqrt(fid(y, z)) + 1e-7


@given(seeds, sizes, st.integers(1, 8))
def test_frechet_distance_under_shifts_scales_and_turns(seed: int, n: int, d: int) -> None:
    x, y, turn = normal(seed, n, d), normal(seed + 1, n, d), np.linalg.qr(normal(seed + 2, d, d))[0]

    assert fid(3 * x, 3 * y) == pytest.approx(9 * fid(x, y), rel=1e-9, abs=1e-9)
    assert fid(x @ turn + 5, y @ turn + 5) == pytest.approx(fid(x, y), rel=1e-7, abs=1e-9)
    assert fid(x + 2, x) == pytest.approx(4 * d, rel=1e-9)


@given(seeds, sizes, sizes)
def test_no_score_depends_on_the_order_of_rows(seed: int, n: int, m: int) -> None:
    x, y = normal(seed, n, 3), normal(seed + 1, m, 3)
    order = np.random.default_rng(seed).permutation(n)
    for score in (
        lambda rows: fid_domain.score(rows, y, fid_domain.Config()),
        lambda rows: kid_domain.score(rows, y, kid_domain.Config()),
        lambda rows: is_domain.score(rows, is_domain.Config()),
    ):
        plain, shuffled = score(x), score(x[order])
        assert shuffled.value == pytest.approx(plain.value, rel=1e-8, abs=1e-9)
        assert shuffled.se == pytest.approx(plain.se, rel=1e-6, abs=1e-9, nan_ok=True)


@given(seeds, sizes, st.integers(2, 6), st.floats(-500, 500))
def test_inception_score_lies_between_one_and_k(seed: int, n: int, k: int, shift: float) -> None:
    logits = normal(seed, n, k) * 40

    value = is_domain.score(logits, is_domain.Config()).value

    assert 1 - 1e-12 <= value <= k + 1e-9
    assert is_domain.score(logits + shift, is_domain.Config()).value == pytest.approx(value, rel=1e-9)
    assert is_domain.score(logits[:, ::-1], is_domain.Config()).value == pytest.approx(value, rel=1e-9)


@given(seeds, sizes, sizes)
def test_kernel_distance_is_symmetric_without_standardising(seed: int, n: int, m: int) -> None:
    x, y, config = normal(seed, n, 4), normal(seed + 1, m, 4), kid_domain.Config(standardise=False)

    one, other = kid_domain.score(x, y, config), kid_domain.score(y, x, config)

    assert one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
    assert one.se == pytest.approx(other.se, rel=1e-7, abs=1e-9)


wild = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, 1.0, 1e8, 1e8 + 1, 1e150, -1e150, 1e-200, 1.7e308, -1.7e308, 5e-324]),
)


@st.composite
def wild_sets(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of any finite numbers at all, often equal, constant or of one column."""
    d = draw(st.integers(1, 4))

    def rows() -> np.ndarray:
        n = draw(st.integers(2, 7))
        pool = draw(st.lists(st.lists(wild, min_size=d, max_size=d), min_size=1, max_size=n))
        return np.array([pool[row % len(pool)] for row in range(n)])

    x = rows()
    return x, draw(st.sampled_from([x, x[::-1]])) if draw(st.booleans()) else rows()


def numbers(value: object) -> list[float]:
    """All numbers of a result."""
    if isinstance(value, np.ndarray):
        return value.ravel().tolist()
    return [number for item in value for number in numbers(item)] if isinstance(value, tuple) else [float(value)]


def statistics_distance(x: np.ndarray, y: np.ndarray) -> float:
    return metrics.frechet_distance_from_statistics(*(metrics.Moments(x.shape[1]).update(part) for part in (x, y)))


def moments_distance(x: np.ndarray, y: np.ndarray) -> float:
    with np.errstate(all="ignore"):
        parts = [np.atleast_1d(part) for rows in (x, y) for part in (rows.mean(0), np.atleast_2d(np.cov(rows.T)))]
    return metrics.frechet_distance_from_moments(*parts)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize(
    "score",
    [
        metrics.frechet_distance,
        lambda x, y: (*metrics.frechet(x, y), metrics.frechet(x, y).se),
        lambda x, y: (*metrics.frechet_extrapolated(x, y)[:3],),
        statistics_distance,
        moments_distance,
        metrics.kernel_distance,
        lambda x, y: metrics.inception_score(x),
        lambda x, y: metrics.inception_score(x, splits=2),
        lambda x, y: metrics.precision_recall_density_coverage(x, y, k=1),
    ],
    ids=[
        "frechet",
        "influence",
        "extrapolated",
        "statistics",
        "moments",
        "kernel",
        "inception",
        "splits",
        "neighbours",
    ],
)
@given(wild_sets())
def test_finite_input_gives_a_finite_number_or_a_refusal_by_name(
    score: Callable[..., object], sets: tuple[np.ndarray, np.ndarray]
) -> None:
    try:
        found = numbers(score(*sets))
    except DataError as error:
        assert re.search("leaves float64|NaN or infinity in|at least 4|is it a covariance", str(error))
        return
    assert np.isfinite(found).all()
    if score is metrics.frechet_distance:
        assert found[0] >= 0


@given(seeds, st.integers(2, 30), st.integers(1, 6), st.lists(st.integers(0, 30), max_size=6))
def test_statistics_don_t_depend_on_the_shards(seed: int, n: int, d: int, cuts: list[int]) -> None:
    rows, other = normal(seed, n, d) + 1e6, normal(seed + 1, 9, d) + 1e6
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    whole = metrics.Moments(d).update(rows)
    merged = metrics.Moments(d)
    for start, stop in itertools.pairwise(bounds):
        merged.merge(metrics.Moments(d).update(rows[start:stop]))
    backwards = metrics.Moments(d)
    for start, stop in reversed(list(itertools.pairwise(bounds))):
        backwards.update(rows[start:stop])

    for found in (merged, backwards):
        assert found.count == n
        np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-15)
        np.testing.assert_allclose(found.covariance, np.atleast_2d(np.cov(rows.T)), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(found.covariance, whole.covariance, rtol=1e-12, atol=1e-13)
        reference = metrics.Moments(d).update(other)
        assert metrics.frechet_distance_from_statistics(found, reference) == pytest.approx(
            metrics.frechet_distance(rows, other), rel=1e-7, abs=1e-9
        )


@given(seeds, st.integers(4, 20), st.integers(4, 20), st.integers(1, 4), st.integers(1, 3))
def test_precision_and_its_kin_under_shifts_scales_swaps_and_order(seed: int, n: int, m: int, d: int, k: int) -> None:
    generator = np.random.default_rng(seed)
    # Whole numbers, so that ties stay ties.
    real, fake = generator.integers(-4, 5, (n, d)).astype(float), generator.integers(-4, 5, (m, d)).astype(float)

    plain = metrics.precision_recall_density_coverage(real, fake, k)

    assert all(0 <= share <= 1 for share in (plain.precision, plain.recall, plain.coverage))
    assert plain.density >= 0
    assert metrics.precision_recall_density_coverage(4 * real + 3, 4 * fake + 3, k) == plain
    order = generator.permutation(n)
    assert metrics.precision_recall_density_coverage(real[order], fake, k) == plain
    swapped = metrics.precision_recall_density_coverage(fake, real, k)
    assert (swapped.precision, swapped.recall) == (plain.recall, plain.precision)
    assert metrics.precision_recall_density_coverage(real, real, k)[:2] == (1, 1)


documents = st.lists(st.tuples(st.floats(0, 500), st.integers(1, 90), st.integers(1, 400)), min_size=2, max_size=20)


@given(documents)
def test_perplexity_and_bits_per_byte_tell_the_same_story(rows: list[tuple[float, int, int]]) -> None:
    nats, tokens, size = (np.array(column, dtype=float) for column in zip(*rows, strict=True))

    if nats.sum() / tokens.sum() < 600:
        ppl = perplexity.score(nats, tokens, perplexity.Config()).value
        bpb = bits_per_byte.score(nats, size, bits_per_byte.Config()).value
        assert bpb == pytest.approx(math.log2(ppl) * tokens.sum() / size.sum(), rel=1e-9, abs=1e-12)


@given(st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=9), min_size=2, max_size=8), st.integers(2, 4))
def test_saying_everything_again_divides_distinct_n(samples: list[list[int]], times: int) -> None:
    plain, again = (distinct_n.score(samples * count, distinct_n.Config(n=2)) for count in (1, times))

    assert 0 < plain.value <= 1
    assert again.value == pytest.approx(plain.value / times)


@pytest.mark.parametrize("name", ["fid", "fid_inf", "kid", "is", "bpb"])
def test_error_bars_match_the_spread_over_repeated_experiments(name: str) -> None:
    generator = np.random.default_rng(11)

    def one() -> tuple[float, float]:
        x, y = generator.normal(size=(300, 4)) * [1, 2, 0.5, 1] + [0.5, 0, 0, 1], generator.normal(size=(120, 4))
        if name == "fid":
            score = fid_domain.score(x, y, fid_domain.Config())
        elif name == "fid_inf":
            score = fid_inf_domain.score(x, y, fid_inf_domain.Config())
        elif name == "kid":
            score = kid_domain.score(x, y, kid_domain.Config(standardise=False))
        elif name == "is":
            score = is_domain.score(2 * x, is_domain.Config())
        else:
            size = generator.integers(5, 200, 300)
            score = bits_per_byte.score(size * np.exp(generator.normal(size=300) / 3), size, bits_per_byte.Config())
        return score.value, score.se

    values, errors = np.array([one() for _ in range(200)]).T
    # The deviation of 200 values is itself known to 5 %.
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.2)


def test_the_error_bar_of_precision_errs_upwards_and_not_by_much() -> None:
    generator = np.random.default_rng(12)
    scores = [
        precision_domain.score(
            generator.normal(size=(150, 3)) * 1.3, generator.normal(size=(150, 3)), precision_domain.Config()
        )
        for _ in range(60)
    ]

    deviation = np.std([score.value for score in scores], ddof=1)
    assert 0.9 * deviation < np.mean([score.se for score in scores]) < 2.5 * deviation


def test_extrapolation_removes_most_of_the_bias() -> None:
    generator = np.random.default_rng(13)
    d = 32
    scale = np.linspace(0.5, 1.5, d)
    # Gaussians of diagonal covariance: the true distance is the gap of deviations, 0.01 times their squares.
    truth = 0.01 * float((scale**2).sum())
    found = [
        metrics.frechet_extrapolated(
            generator.normal(size=(300, d)) * scale * 1.1, generator.normal(size=(300, d)) * scale
        )
        for _ in range(20)
    ]

    assert np.mean([one.raw for one in found]) > 3 * truth
    assert np.mean([one.unclipped for one in found]) == pytest.approx(truth, rel=0.35)
