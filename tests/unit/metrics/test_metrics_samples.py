"""Scores of sampled texts alone: likeness to each other, repetition, lengths, code that parses."""

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError
from genfoundry.metrics import distinct_n, length_distance, parses, repetition, self_bleu

# Likeness of samples


def slow_bleu(sample: Sequence[int], others: Sequence[Sequence[int]], n: int) -> float:
    """BLEU by its definition, pair by pair."""
    logs = []
    for order in range(1, n + 1):

        def bag(row: Sequence[int], order: int = order) -> Counter[tuple[int, ...]]:
            return Counter(tuple(row[i : i + order]) for i in range(len(row) - order + 1))

        mine, theirs = bag(sample), [bag(other) for other in others]
        found = sum(min(count, max(other[gram] for other in theirs)) for gram, count in mine.items())
        if order == 1 and not found:
            return 0.0
        logs.append(math.log((found or 0.1) / max(mine.total(), 1)))
    nearest = min((abs(len(other) - len(sample)), len(other)) for other in others)[1]
    return min(1, math.exp(1 - nearest / len(sample))) * math.exp(sum(logs) / n)


token_rows = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), min_size=3, max_size=7)


@given(token_rows, st.integers(1, 4))
def test_self_bleu_and_its_jackknife_by_their_definitions(rows: list[list[int]], n: int) -> None:
    def mean(kept: list[list[int]]) -> float:
        return float(np.mean([slow_bleu(row, kept[:i] + kept[i + 1 :], n) for i, row in enumerate(kept)]))

    found = self_bleu.score(rows, self_bleu.Config(n=n))

    assert found.value == pytest.approx(mean(rows), abs=1e-12)
    left = np.array([mean(rows[:i] + rows[i + 1 :]) for i in range(len(rows))])
    se = math.sqrt((len(rows) - 1) / len(rows) * ((left - left.mean()) ** 2).sum())
    assert found.se == pytest.approx(se, abs=1e-9)


def test_saying_the_same_again_is_one_and_sharing_nothing_is_zero() -> None:
    assert self_bleu.score([[1, 2, 3, 4, 5]] * 4, self_bleu.Config()).value == pytest.approx(1)
    assert self_bleu.score([[1, 2], [3, 4], [5, 6]], self_bleu.Config()).value == 0


def test_only_the_first_samples_are_compared() -> None:
    rows = [[1, 2], [1, 3], [1, 2], [7, 8], [9, 9]]

    capped = self_bleu.score(rows, self_bleu.Config(most=3))

    assert capped == self_bleu.score(rows[:3], self_bleu.Config(most=3))
    assert capped.count == 3


def test_repetition_by_hand() -> None:
    # 1 2 1 2 1 has the bigrams 12 21 12 21: half of them new. 1 2 3 has two new ones.
    found = repetition.score([[1, 2, 1, 2, 1], [1, 2, 3], [4]], repetition.Config(n=2))

    assert (found.value, found.count, found.extra) == (pytest.approx(0.25), 2, {"worst": 0.5})
    assert found.se == pytest.approx(np.std([0.5, 0], ddof=1) / math.sqrt(2))


@given(token_rows)
def test_influences_carry_the_error_bar(rows: list[list[int]]) -> None:
    for module in (self_bleu, repetition, distinct_n):
        found = module.score(rows, module.Config(n=1))
        assert found.influence["sample"].sum() == pytest.approx(0, abs=1e-9)
        assert math.sqrt((found.influence["sample"] ** 2).sum()) == pytest.approx(found.se, abs=1e-12)


# Lengths


def rows_of(lengths: Sequence[int]) -> list[list[int]]:
    return [[0] * length for length in lengths]


def test_lengths_cut_at_the_limit() -> None:
    # Up to 3 are 1/4 of the samples and none of the documents, of which two count as 8.
    found = length_distance.score(rows_of([3, 4, 6, 8]), rows_of([4, 6, 9, 100]), length_distance.Config())

    assert found.value == pytest.approx(0.25)
    assert found.extra == {"limit": 8, "mean": 5.25, "reference_mean": 6.5, "n_reference": 4}
    assert found.se == pytest.approx(math.sqrt(0.25 * 0.75 / 3))


def test_all_equal_lengths_are_no_distance_and_disjoint_ones_are_one() -> None:
    assert length_distance.score(rows_of([5, 5]), rows_of([9, 9, 9]), length_distance.Config()).value == 0
    assert length_distance.score(rows_of([1, 2]), rows_of([3, 4]), length_distance.Config(limit=9)).value == 1


@given(st.lists(st.integers(0, 9), min_size=2, max_size=9), st.lists(st.integers(0, 9), min_size=2, max_size=9))
def test_the_distance_of_lengths_is_scipys(x: list[int], y: list[int]) -> None:
    found = length_distance.score(rows_of(x), rows_of(y), length_distance.Config(limit=99))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert found.value == pytest.approx(ks_2samp(x, y).statistic, abs=1e-12)
    squares = sum(float((part**2).sum()) for part in found.influence.values())
    assert math.sqrt(squares) == pytest.approx(found.se, abs=1e-12)


def test_the_error_bar_of_lengths_is_the_spread_over_repeated_experiments() -> None:
    generator = np.random.default_rng(8)

    def one() -> Score:
        x, y = generator.poisson(30, 100), generator.poisson(40, 300)
        return length_distance.score(rows_of(x), rows_of(y), length_distance.Config(limit=200))

    scores = [one() for _ in range(150)]
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.se for score in scores]) == pytest.approx(spread, rel=0.3)


# Code


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("x = 1\n", True),
        ("def f(:\n", False),
        ("", False),
        ("# only a comment\n", False),
        ("x = '\0'", False),
        ("\ud800", False),
        (r"s = '\d'", True),  # an invalid escape warns, and parses
        ("1 if 1is 1 else 2", True),
        ("(" * 5000 + ")" * 5000, False),
        ("-" * 100_000 + "1", False),
        ("  indented = 1", False),
    ],
)
def test_what_is_python(text: str, good: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parses.is_python(text) is good


def test_the_share_that_parses() -> None:
    found = parses.score(["x = 1", "x =", "y", "1 +"], parses.Config())

    assert (found.value, found.count, found.extra["parsed"]) == (0.5, 4, 2)
    z = 1.959964
    assert found.se == pytest.approx(math.sqrt(1 / 16 + z**2 / 64) / (1 + z**2 / 4))  # Wilson's half width
    assert not parses.BY_DEFAULT


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: parses.score([], parses.Config()), "sample_texts are empty"),
        (lambda: self_bleu.score([[1], [2], []], self_bleu.Config()), "2 of 3 samples hold a token"),
        (lambda: repetition.score([[1, 2], [3]], repetition.Config(n=2)), "1 of 2 samples have 2 tokens"),
        (lambda: length_distance.score([[1]], [[1], [2]], length_distance.Config()), "sample_tokens are 1"),
        (lambda: length_distance.score([[1], [2]], [[1]], length_distance.Config()), "reference_tokens are 1"),
        (lambda: length_distance.score([[], []], [[1], [2]], length_distance.Config()), "all 2 samples are empty"),
    ],
)
def test_samples_that_say_nothing_are_refused(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()  # type: ignore[operator]


def test_no_order_of_samples_matters() -> None:
    rows = [[1, 2, 1], [2, 1, 2, 2], [1, 1], [3]]
    for module in (self_bleu, repetition, distinct_n):
        values = {
            round(module.score(list(order), module.Config(n=1)).value, 12) for order in itertools.permutations(rows)
        }
        assert len(values) == 1
