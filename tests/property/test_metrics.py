"""Laws that scores keep on any data."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.metrics import bits_per_byte, distinct_n, fid_domain, is_domain, kid_domain, perplexity

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
        assert shuffled.se == pytest.approx(plain.se, rel=1e-6, abs=1e-9)


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


@pytest.mark.parametrize("name", ["fid", "kid", "is", "bpb"])
def test_error_bars_match_the_spread_over_repeated_experiments(name: str) -> None:
    generator = np.random.default_rng(11)

    def one() -> tuple[float, float]:
        x, y = generator.normal(size=(300, 4)) * [1, 2, 0.5, 1] + [0.5, 0, 0, 1], generator.normal(size=(120, 4))
        if name == "fid":
            score = fid_domain.score(x, y, fid_domain.Config())
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
