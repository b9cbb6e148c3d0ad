"""Copies of training records among samples are found, whole or near, and fresh records are not."""

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.core.errors import DataError
from genfoundry.metrics import (
    authenticity,
    authenticity_share,
    exact_copies,
    exact_copy_share,
    near_copies,
    near_copy_share,
    nearest,
    nearness,
)
from genfoundry.metrics._copies import halves, low_threshold, share_error

# Exact copies


@pytest.mark.parametrize("planted", [1, 5])
def test_planted_pictures_are_counted_one_by_one(planted: int) -> None:
    generator = np.random.default_rng(0)
    training, fresh = (generator.integers(0, 256, (count, 1, 8, 8)).astype(np.uint8) for count in (300, 100))
    samples = fresh.copy()
    samples[:planted] = training[10 : 10 + planted]

    found = exact_copies.score(samples, training, exact_copies.Config())
    floor = exact_copies.score(fresh, training, exact_copies.Config())

    assert found.value == planted / 100
    assert found.extra == {"copies": planted, "records": planted}
    assert floor.value == 0
    assert exact_copy_share(samples, training).source[: planted + 1].tolist() == [*range(10, 10 + planted), -1]


@pytest.mark.parametrize(
    ("samples", "training"),
    [
        (["ab", "é", "c"], ["é", "x", "ab", "ab"]),
        ([b"ab", b"e", b"c"], [b"e", b"x", b"ab", b"ab"]),
        (np.array([[2.5], [1.5], [0.0]]), np.array([[1.5], [7.0], [2.5], [2.5]])),
        (torch.tensor([[2], [1], [9]], dtype=torch.uint8), torch.tensor([[1], [7], [2], [2]], dtype=torch.uint8)),
        (np.array([[2, 2], [1, 1], [9, 9]])[:, ::-1], np.array([[1, 1], [7, 7], [2, 2], [2, 2]])),
    ],
)
def test_copies_of_any_kind_of_record(samples: object, training: object) -> None:
    found = exact_copy_share(samples, training)

    assert found.source.tolist() == [2, 0, -1]
    assert found.value == pytest.approx(2 / 3)
    assert found.copied.tolist() == [True, True, False]


def test_equal_hashes_are_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfoundry.metrics._copies._hash", lambda row: b"same")

    assert exact_copy_share(["a", "b", "c"], ["x", "b"]).source.tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    ("samples", "training", "words"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((2, 4), np.uint8), r"samples are \('uint8', \(3,\)\).*\(4,\)"),
        (np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.int64), "uint8.*int64"),
        (["a"], [b"a"], "samples are str, training records bytes"),
        ([], ["a"], "0 samples, 1 training"),
        (np.zeros((0, 3)), np.zeros((2, 3)), "0 samples, 2 training"),
        (["a", 1], ["a"], "samples hold int, str"),
        (np.array(["a", None]), np.array(["a"]), "type object"),
    ],
)
def test_rows_that_can_not_be_equal_are_refused(samples: object, training: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        exact_copy_share(samples, training)


def test_the_error_of_a_share_is_wilsons_and_never_zero() -> None:
    # 0 of 100: Wilson's interval reaches from 0 to z^2 / (n + z^2).
    upper = 1.959964**2 / (100 + 1.959964**2)

    assert share_error(0, 100) == pytest.approx(upper / 2 / 1.959964)
    assert share_error(0.5, 10**6) == pytest.approx(0.5 / 1000, rel=1e-5)


# Distances


@given(st.integers(1, 8), st.integers(2, 12), st.integers(1, 4), st.integers(0, 2**32 - 1), st.sampled_from([1, 7]))
def test_the_nearest_are_those_of_the_definition(n: int, m: int, d: int, seed: int, block: int) -> None:
    generator = np.random.default_rng(seed)
    # Few different values, so that there are ties and twins.
    x, y = generator.integers(0, 3, (n, d)).astype(float), generator.integers(0, 3, (m, d)).astype(float)
    k = int(generator.integers(1, m))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genfoundry.metrics._copies.BLOCK", block)
        found = nearest(x, y, k)

    for row in range(n):
        distances = np.sqrt(((x[row] - y) ** 2).sum(axis=1))
        order = np.lexsort((np.arange(m), distances))[:k]
        assert found.rows[row].tolist() == order.tolist()
        assert found.distances[row] * found.scale == pytest.approx(distances[order], rel=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e8])
def test_a_copy_is_at_distance_zero_at_any_offset(offset: float) -> None:
    y = np.random.default_rng(1).normal(size=(50, 16)) + offset

    found = nearest(y[::5], y, 3)

    assert found.rows[:, 0].tolist() == list(range(0, 50, 5))
    assert (found.distances[:, 0] == 0).all()


def test_a_copy_but_for_the_last_digit_is_told_from_a_copy() -> None:
    y = np.random.default_rng(1).normal(size=(20, 4)) + 1e6
    x = y.copy()
    x[3, 0] = np.nextafter(x[3, 0], np.inf)

    found = nearest(x, y, 1)

    assert found.rows[:, 0].tolist() == list(range(20))
    assert found.distances[3, 0] * found.scale == pytest.approx(np.spacing(1e6))


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e307])
def test_no_scale_overflows_or_vanishes(scale: float) -> None:
    generator = np.random.default_rng(2)
    x, y = generator.uniform(-9, 9, (20, 3)), generator.uniform(-9, 9, (30, 3))
    plain, scaled = (near_copy_share(a * s, y * s, x[::-1] * s, 5) for a, s in ((x, 1.0), (x, scale)))

    assert scaled.ratio == pytest.approx(plain.ratio, rel=1e-9)
    assert scaled.copied.tolist() == plain.copied.tolist()
    assert authenticity_share(x * scale, y * scale).value == authenticity_share(x, y).value


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float32])
def test_features_in_half_precision(kind: torch.dtype) -> None:
    y = torch.arange(12.0).reshape(6, 2).to(kind)

    assert nearest(y, y.tolist(), 1).rows[:, 0].tolist() == list(range(6))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda y: nearest(y, y, 6), "k is 6 of 6 training records"),
        (lambda y: nearest(y, y, 0), "k is 0 of 6"),
        (lambda y: nearest(y, y[:1], 1), "k is 1 of 1"),
        (lambda y: nearest(y, y[:, :1], 1), "features have 2 columns, train_features 1"),
        (lambda y: nearest(y * np.nan, y, 1), "nearest: features hold NaN or infinity in 6 of 6 rows"),
        (lambda y: near_copy_share(y, y, np.full_like(y, np.inf), 2), "near_copies: features hold NaN"),
        (lambda y: near_copy_share(y, y, y), "k is 50 of 6"),
        (lambda y: near_copy_share(y, y, y, 2, 0.0), r"quantile is 0\.0"),
        (lambda y: nearest(y[:0], y, 1), r"shape \(0, 2\)"),
        (lambda y: authenticity_share(y, y[:1]), "k is 1 of 1"),
        (lambda y: near_copies.score(y, y, y, near_copies.Config(k=6)), "near_copies: k is 6 of 6"),
        (lambda y: near_copies.score(y, y, y[:, :1], near_copies.Config()), "reference_features 1"),
    ],
)
def test_neighbours_that_can_not_be_are_refused(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call(np.ones((6, 1)) * np.arange(12.0).reshape(6, 2))  # type: ignore[operator]


# Near copies


class Pictures(NamedTuple):
    training: np.ndarray
    held_out: np.ndarray
    fresh: np.ndarray


def pictures(seed: int = 0) -> Pictures:
    """Smooth pictures of 24 x 24, one law: a shift by a pixel or a little noise leaves them much alike."""
    generator = np.random.default_rng(seed)
    waves = np.stack([np.sin(np.arange(24)[:, None] * a / 8 + np.arange(24) * b / 8) for a, b in np.ndindex(4, 4)])

    def draw(count: int) -> np.ndarray:
        return np.einsum("nk,kij->nij", generator.normal(size=(count, 16)), waves)

    return Pictures(draw(1000), draw(400), draw(400))


def flat(rows: np.ndarray) -> np.ndarray:
    return rows.reshape(len(rows), -1)


@pytest.mark.parametrize("percent", [1, 5])
@pytest.mark.parametrize("how", ["exact", "noise", "shift"])
def test_planted_near_copies_are_found_and_fresh_pictures_are_not(percent: int, how: str) -> None:
    data = pictures()
    planted = data.training[: 4 * percent].copy()
    if how == "noise":
        planted += np.random.default_rng(1).normal(size=planted.shape) * 0.05 * planted.std()
    if how == "shift":
        planted = np.roll(planted, 1, axis=2)
        planted[:, :, 0] = planted[:, :, 1]
    samples = data.fresh.copy()
    samples[: len(planted)] = planted
    config = near_copies.Config()

    fresh, found = (
        near_copies.score(flat(rows), flat(data.training), flat(data.held_out), config)
        for rows in (data.fresh, samples)
    )
    setters, others = halves(len(data.held_out))
    floor = near_copies.score(flat(data.held_out[others]), flat(data.training), flat(data.held_out), config)

    assert max(floor.value, fresh.value) <= 0.02
    # All that was planted counts, beside what fresh pictures count by chance.
    assert found.value >= percent / 100
    assert found.value - fresh.value == pytest.approx(percent / 100, abs=0.005)
    if percent == 5:
        assert found.value - 1.96 * found.se > floor.value
    assert found.extra["n_reference"] == len(setters) == 200


def test_a_sample_at_the_threshold_counts() -> None:
    training, held_out = [[0.0], [10.0], [20.0]], [[1.0], [4.0], [14.0]]

    found = near_copy_share([[1.0], [1.5], [19.0]], training, held_out, k=2)

    assert found.threshold == pytest.approx(1 / 5)
    assert found.copied.tolist() == [True, False, True]


def test_a_ratio_by_hand() -> None:
    ratio, found = nearness([[0.0]], [[10.0], [1.0], [3.0], [-2.0]], 3)

    assert ratio == pytest.approx([1 / 2])
    assert found.rows.tolist() == [[1, 3, 2]]


def test_twins_of_twins_are_copies() -> None:
    # All k at distance 0: 0 / 0 is a copy, not NaN.
    assert nearness([[1.0], [2.0]], [[1.0]] * 4, 3)[0].tolist() == [0, 1]


def test_the_threshold_is_the_rank_that_a_fresh_record_falls_below_with_that_probability() -> None:
    ratios = np.linspace(0.1, 1, 199)[::-1]

    assert low_threshold(ratios, 0.01) == (np.sort(ratios)[1], 2 / 200)
    assert low_threshold(ratios[:9], 0.01) == (ratios[8], 1 / 10)
    assert low_threshold(ratios[100:], 0.01)[1] == 0.01  # 99 are just enough


def test_a_fresh_record_counts_about_as_often_as_promised() -> None:
    shares, expected = [], []
    for seed in range(40):
        generator = np.random.default_rng(seed)
        x, y, z = (generator.normal(size=(count, 3)) for count in (200, 300, 240))
        found = near_copies.score(x, y, z, near_copies.Config(quantile=0.05))
        shares.append(found.value)
        expected.append(found.extra["expected"])
    assert np.mean(shares) == pytest.approx(np.mean(expected), abs=3 * np.std(shares) / math.sqrt(40))


def test_the_error_bar_covers_the_threshold_too() -> None:
    scores = []
    for seed in range(120):
        generator = np.random.default_rng(seed)
        x, y, z = (generator.normal(size=(count, 3)) for count in (200, 300, 200))
        scores.append(near_copies.score(x, y, z, near_copies.Config(quantile=0.1)))
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.se for score in scores]) == pytest.approx(spread, rel=0.25)


def test_few_training_records_take_fewer_neighbours() -> None:
    generator = np.random.default_rng(0)
    x, y, z = (generator.normal(size=(count, 3)) for count in (5, 12, 8))

    assert near_copies.score(x, y, z, near_copies.Config()).extra["k"] == 6


def test_halves_are_fixed_and_part_all_rows() -> None:
    first, second = halves(7)

    assert sorted([*first, *second]) == list(range(7))
    assert (len(first), len(second)) == (4, 3)
    assert halves(7)[0].tolist() == first.tolist()


# Authenticity


def test_authenticity_by_hand() -> None:
    # Records 0 and 1 are 1 apart, 10 is 9 from 1. A sample is authentic if farther from its record than that.
    training = [[0.0], [1.0], [10.0]]

    found = authenticity_share([[0.4], [-1.0], [-1.5], [12.0], [20.0]], training)

    assert found.copied.tolist() == [True, True, False, True, False]  # at -1 as far as the record's own: a tie
    assert found.value == pytest.approx(2 / 5)
    assert authenticity.score([[0.4], [20.0]], training, authenticity.Config()).value == 0.5


def test_twins_in_training_leave_only_their_copies_inauthentic() -> None:
    found = authenticity_share([[1.0], [1.1]], [[1.0], [1.0], [5.0]])

    assert found.copied.tolist() == [True, False]


@given(st.integers(1, 6), st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_authenticity_by_its_definition(n: int, m: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    x, y = generator.integers(0, 4, (n, 2)).astype(float), generator.integers(0, 4, (m, 2)).astype(float)

    wanted = []
    for row in x:
        distances = np.sqrt(((row - y) ** 2).sum(axis=1))
        first = distances.argmin()
        wanted.append(distances[first] > min(np.sqrt(((y[first] - y[j]) ** 2).sum()) for j in range(m) if j != first))
    assert authenticity_share(x, y).copied.tolist() == [not fine for fine in wanted]


def test_copies_lower_authenticity_below_held_out_records() -> None:
    data = pictures()
    samples = np.concatenate([data.training[:100], data.fresh[:300]])

    found, floor = (
        authenticity.score(flat(rows), flat(data.training), authenticity.Config()) for rows in (samples, data.held_out)
    )
    assert found.value < floor.value - 0.1
