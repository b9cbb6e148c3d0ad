"""Scores of text: units, windows that slide, prices from logits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.config.specs import Score
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.metrics import (
    bits_per_byte,
    bits_per_character,
    bits_per_unit,
    byte_perplexity,
    count_units,
    nats_from_logits,
    perplexity,
    perplexity_per_unit,
    score_sliding,
    sliding_windows,
    text_scores,
    word_perplexity,
)
from genfoundry.metrics._ratio import ratio

NATS, TOKENS = [math.log(2) * 6, math.log(2) * 10], [3, 5]


# Units


def test_two_bits_a_token_are_a_perplexity_of_four() -> None:
    found = perplexity_per_unit(NATS, TOKENS)

    assert found.value == pytest.approx(4, rel=1e-15)
    assert found.se == pytest.approx(0, abs=1e-14)  # both documents say the same
    assert bits_per_unit(NATS, TOKENS).value == pytest.approx(2, rel=1e-15)


def test_all_units_of_the_same_documents() -> None:
    found = text_scores(NATS, TOKENS, [1, 3], [8, 24], [8, 8])

    assert {name: rate.value for name, rate in found.items()} == pytest.approx(
        {
            "perplexity": 4,
            "word_perplexity": 16,
            "byte_perplexity": math.sqrt(2),
            "bits_per_byte": 0.5,
            "bits_per_character": 1,
        }
    )


def test_the_error_bar_is_the_ratio_estimators_by_hand() -> None:
    # 3/2 nats a unit; residuals 1 - 1.5 = -0.5 and 5 - 4.5 = 0.5; sqrt(2/1 * 0.5) / 4 = 0.25.
    found = perplexity_per_unit([1, 5], [1, 3])

    assert found.value == pytest.approx(math.exp(1.5))
    assert found.se == pytest.approx(0.25 * math.exp(1.5))
    assert math.sqrt((found.influence**2).sum()) == pytest.approx(found.se)
    assert found.influence == pytest.approx(np.array([-1, 1]) * 0.25 * math.exp(1.5) / math.sqrt(2))


@pytest.mark.parametrize(
    "kind",
    [list, np.float64, np.float32, np.float16, np.int32, torch.float32, torch.bfloat16, torch.float16, torch.int64],
    ids=str,
)
def test_every_kind_of_number_is_taken(kind: object) -> None:
    def as_kind(values: list[int]) -> object:
        if kind is list:
            return values
        return torch.tensor(values, dtype=kind) if isinstance(kind, torch.dtype) else np.array(values, kind)

    assert perplexity_per_unit(as_kind([2, 4]), as_kind([1, 2])).value == pytest.approx(math.e**2)


def test_a_single_document_has_a_value_and_no_error_bar() -> None:
    found = perplexity_per_unit(3.0, 2)

    assert found.value == pytest.approx(math.exp(1.5))
    assert math.isnan(found.se)


def test_counting_goes_on_after_two_to_the_24_tokens() -> None:
    # In float32, 2**24 + 1 is 2**24: a thousand single tokens would leave no trace.
    units = np.array([2**24] + [1] * 1000)

    found = perplexity_per_unit(units * math.log(3), units)

    assert found.value == pytest.approx(3, rel=1e-12)
    assert bits_per_unit(np.r_[0.0, np.ones(1000)], units).value == pytest.approx(1000 / math.log(2) / (2**24 + 1000))


@pytest.mark.parametrize(
    ("nats", "units", "words"),
    [
        ([701.0], [1], r"perplexity: 701 nats a token overflow"),
        ([1e308, 1e308], [1, 1], r"overflow"),
        ([], [], r"nats have shape \(0,\)"),
        ([1.0, 2.0], [0, 0], r"0 tokens were scored in 2 documents"),
        ([1.0, math.nan], [1, 1], r"nats are NaN.* row 1"),
        ([1.0, math.inf], [1, 1], r"nats are NaN.* row 1"),
        ([1.0, 1.0], [1, -1], r"tokens are .*negative.* row 1"),
        ([1.0, 1.0], [1], r"'nats': 2, 'token_counts': 1"),
        ([[1.0]], [[1]], r"shape \(1, 1\)"),
        (["a"], [1], r"nats are no array"),
        ([[1.0], [1.0, 2.0]], [1], r"rows of equal length"),
    ],
)
def test_what_has_no_perplexity_is_refused_by_name(nats: object, units: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        perplexity_per_unit(nats, units, "perplexity", "tokens")


@given(st.lists(st.tuples(st.floats(0, 600), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=2, max_size=9))
def test_perplexity_is_two_to_the_bits(rows: list[tuple[float, int, int]]) -> None:
    nats, tokens, size = (np.array(column) for column in zip(*rows, strict=True))

    assert math.log2(perplexity_per_unit(nats, tokens).value) == pytest.approx(
        bits_per_unit(nats, tokens).value, rel=1e-12, abs=1e-12
    )
    scaled = perplexity_per_unit(nats, tokens), byte_perplexity.score(nats, size, byte_perplexity.Config())
    assert math.log(scaled[0].value) * tokens.sum() == pytest.approx(math.log(scaled[1].value) * size.sum(), abs=1e-6)


def test_the_error_bar_is_the_spread_over_repeated_experiments() -> None:
    generator = np.random.default_rng(5)

    def one() -> Score:
        size = generator.integers(5, 200, 200)
        nats = size * np.exp(generator.normal(size=200) / 3)
        return word_perplexity.score(nats, size, word_perplexity.Config())

    scores = [one() for _ in range(300)]
    spread = np.std([score.value for score in scores], ddof=1)
    assert np.mean([score.se for score in scores]) == pytest.approx(spread, rel=0.15)


def test_each_file_scores_its_own_unit() -> None:
    for module, unit, value in (
        (perplexity, "tokens", 4),
        (word_perplexity, "words", 4),
        (byte_perplexity, "bytes", 4),
        (bits_per_byte, "bytes", 2),
        (bits_per_character, "characters", 2),
    ):
        found = module.score(NATS, TOKENS, module.Config())
        assert (found.value, found.count, found.extra) == (pytest.approx(value), 2, {unit: 8})
        with pytest.raises(DataError, match=f"0 {unit} were scored in 2"):
            module.score(NATS, [0, 0], module.Config())
        assert math.sqrt((found.influence["test"] ** 2).sum()) == pytest.approx(found.se)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("two words", (2, 9, 9)),
        ("  two\n\nwords ", (4, 13, 13)),  # an empty piece at either end, as re.split leaves it
        ("", (1, 0, 0)),
        ("naïve 😀", (2, 11, 7)),
        ("語 語", (2, 7, 3)),  # the ideographic space is white space too
    ],
)
def test_units_of_a_text(text: str, wanted: tuple[int, int, int]) -> None:
    assert count_units(text) == wanted


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(DataError, match="character 2 is half of a surrogate pair"):
        count_units("ab\ud800")


def test_ratio_of_one_document() -> None:
    assert ratio(np.array([6.0]), np.array([4.0])).value == 1.5


# Windows


def test_windows_by_hand() -> None:
    assert sliding_windows(7, 4, 2) == [(0, 1, 4), (2, 5, 6), (3, 7, 7)]
    assert sliding_windows(4, 4, 4) == [(0, 1, 4)]
    assert sliding_windows(0, 4, 4) == []


@given(st.integers(0, 60), st.integers(1, 12).flatmap(lambda w: st.tuples(st.just(w), st.integers(1, w))))
def test_every_token_is_scored_once_by_the_rule_of_lm_eval(length: int, plan: tuple[int, int]) -> None:
    window, stride = plan
    spans = sliding_windows(length, window, stride)

    assert [place for span in spans for place in range(span.first, span.end + 1)] == list(range(1, length + 1))
    for span in spans:
        assert span.end - span.begin <= window
        assert span.first - span.begin >= min(span.first, window - stride + 1)
    # ``get_rolling_token_windows`` of lm-eval 0.4 with token i as the number i, and 0 before the first.
    tokens, readings, predicted = list(range(1, length + 1)), [], 0
    while predicted < length:
        count = min(length - predicted, stride if predicted else window)
        end = predicted + count
        shown = tokens[end - window - 1 : end - 1] if predicted else [0, *tokens[: count - 1]]
        readings.append((shown, tokens[end - count : end]))
        predicted = end
    assert [(list(range(begin, end)), list(range(first, end + 1))) for begin, first, end in spans] == readings


@pytest.mark.parametrize(("window", "stride"), [(0, 0), (4, 0), (4, 5), (-1, 1)])
def test_windows_that_skip_tokens_are_refused(window: int, stride: int) -> None:
    with pytest.raises(ConfigError, match=f"window {window}, stride {stride}"):
        sliding_windows(9, window, stride)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(1, 9))
def test_what_a_callable_is_shown_and_what_of_it_counts(tokens: list[int], window: int) -> None:
    stride = (window + 1) // 2
    shown = []

    def sums(line: np.ndarray) -> np.ndarray:
        shown.append(len(line))
        return np.cumsum(line)[1:].astype(float)

    found = score_sliding(sums, tokens, window, stride, start=100)

    line = [100, *tokens]
    wanted = [
        sum(line[begin : place + 1])
        for begin, first, end in sliding_windows(len(tokens), window, stride)
        for place in range(first, end + 1)
    ]
    assert found.each.tolist() == wanted
    assert (found.nats, found.units) == (sum(wanted), len(tokens))
    assert max(shown) <= window + 1


def test_a_window_of_all_is_the_whole_sequence_at_once() -> None:
    line = torch.tensor([0.5, 0.25, 0.25], dtype=torch.bfloat16)

    found = score_sliding(lambda tokens: line[: len(tokens) - 1], [7, 8, 9], 3, 1, start=0)

    assert (found.nats, found.units) == (1, 3)


@pytest.mark.parametrize(
    ("prices", "tokens", "words"),
    [
        (lambda line: np.zeros(len(line)), [1, 2], "3 tokens were priced with shape"),
        (lambda line: np.full(len(line) - 1, np.nan), [1, 2], "token 0 costs nan nats"),
        (lambda line: np.zeros(0), [], "0 tokens to score"),
        (lambda line: np.zeros(len(line) - 1), [1.0, 2.7], "tokens are floats, first 1.0"),
    ],
)
def test_prices_that_can_not_be_are_refused(prices: object, tokens: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        score_sliding(prices, tokens, 4, 2, start=0)  # type: ignore[arg-type]


# Logits


def test_equal_logits_cost_log_v_each() -> None:
    found = nats_from_logits(np.zeros((2, 3, 7)), [[0, 1, 2], [6, 6, 6]])

    assert found.nats == pytest.approx(6 * math.log(7))
    assert (found.units, found.each.shape) == (6, (2, 3))


@pytest.mark.parametrize("gap", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.bfloat16])
def test_a_gap_of_logits_stays_finite(gap: float, kind: object) -> None:
    # torchmetrics 1.9 gives infinity from a gap of about 87 in float32, 18 in float16.
    rows = [[gap, 0.0], [0.0, gap]]
    logits = torch.tensor(rows, dtype=kind) if isinstance(kind, torch.dtype) else np.array(rows, kind)

    found = nats_from_logits(logits, [1, 1])

    exact = float(torch.as_tensor(logits).double().max())
    assert found.nats == pytest.approx(exact, rel=1e-12)


def test_half_precision_is_summed_in_double() -> None:
    logits = np.tile(np.array([0.0, 18.0], np.float16), (5000, 1))

    found = nats_from_logits(logits, np.zeros(5000, np.int64))

    assert found.nats == pytest.approx(5000 * (18 + math.log1p(math.exp(-18))), rel=1e-13)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_logits_cost_what_torch_says_in_double(count: int, vocabulary: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(count, vocabulary)) * 30
    targets = generator.integers(0, vocabulary, count)
    targets[generator.random(count) < 0.3] = -100
    targets[0] = 0

    found = nats_from_logits(torch.tensor(logits), torch.tensor(targets), ignore_index=-100)

    wanted = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(targets), reduction="none")
    assert found.each == pytest.approx(wanted.numpy(), rel=1e-9, abs=1e-12)
    assert found.units == (targets != -100).sum()


def test_an_impossible_token_beside_the_target_costs_nothing() -> None:
    assert nats_from_logits([[0.0, 0.0, -math.inf]], [1]).nats == pytest.approx(math.log(2))


def test_logits_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = np.random.default_rng(0).normal(size=(11, 3)), np.arange(11) % 3
    whole = nats_from_logits(logits, targets, ignore_index=2)
    monkeypatch.setattr("genfoundry.metrics._text.BLOCK", 6)

    assert nats_from_logits(logits, targets, ignore_index=2).each.tolist() == whole.each.tolist()


@pytest.mark.parametrize(
    ("logits", "targets", "ignore", "words"),
    [
        (np.zeros((2, 3)), [9, 9], 9, "all 2 targets are ignore_index 9"),
        (np.zeros((0, 3)), [], None, "there are no targets"),
        (np.zeros((2, 3)), [0], None, r"logits have shape \(2, 3\), targets \(1,\)"),
        (np.zeros((2, 3)), [0, 3], None, "target 3 at 1 is outside V = 3"),
        (np.zeros((2, 3)), [0, -1], None, "target -1 at 1"),
        (np.array([[0.0, np.nan]]), [0], None, "token 0 hold NaN or infinity"),
        (np.array([[0.0, 1], [0, np.inf]]), [0, 0], None, "token 1 hold NaN or infinity"),
        (np.full((1, 2), -np.inf), [0], None, "token 0 hold NaN or infinity"),
        (np.array([[0.0, -np.inf]]), [1], None, "token 0 costs inf nats"),
        (np.zeros((2, 3)), [0.0, 1.9], None, "targets are floats, first 0.0; give token numbers of an integer type"),
        (np.zeros((2, 3)), torch.tensor([1.9, 0.0], dtype=torch.bfloat16), -100, "targets are floats, first 1.89"),
        (np.zeros((1, 3)), [np.nan], None, "targets are floats, first nan"),
    ],
)
def test_logits_that_price_nothing_are_refused(
    logits: np.ndarray, targets: object, ignore: int | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        nats_from_logits(logits, targets, ignore)


def test_an_ignored_row_may_hold_anything() -> None:
    assert nats_from_logits([[np.nan, 1.0], [0.0, 0.0]], [-1, 0], ignore_index=-1).nats == pytest.approx(math.log(2))
