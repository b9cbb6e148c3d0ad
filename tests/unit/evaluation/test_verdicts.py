"""Scores in words, and one model against another from what the stages left."""

import math
from pathlib import Path

import numpy as np
import pytest

from genfoundry.evaluation import verdicts
from genfoundry.evaluation.influences import paired_se, read_influences, write_influences
from genfoundry.evaluation.results import ModelResult
from genfoundry.evaluation.verdicts import against, contests, copies, plus_minus, ranked
from genfoundry.gate import rules
from genfoundry.tracking import views

KEY = "bits_per_byte@aa11bb22"
HARD = np.random.default_rng(0).normal(size=200) / 100
"""What each document adds to the error of both models alike."""


def model(key: str, value: float, own: float = 0.0, score: str = KEY) -> ModelResult:
    influence = HARD + own * np.random.default_rng(len(key)).normal(size=200)
    se = math.sqrt(float((influence**2).sum()))
    found = ModelResult(key, "notes", "rnn", {})
    found.scores = {score: {"value": value, "se": se, "low": value - 1.96 * se, "high": value + 1.96 * se, "n": 200}}
    found.protocols = {score: {"higher_is_better": False}}
    found.influences = {score: {"test": influence}}
    return found


def test_what_both_models_share_cancels() -> None:
    good, bad = model("good", 1.70, own=1e-4), model("worse", 1.75, own=1e-4)

    (contest,) = contests([bad, good])

    assert contest.paired
    assert contest.better == "good"
    assert contest.se < 0.02 * good.scores[KEY]["se"]
    assert contest.words.startswith("good is better than worse by 0.05 ± 0.00")
    assert contest.interval[0] < contest.difference < contest.interval[1]


def test_without_influences_the_bar_is_wider_and_no_one_wins() -> None:
    good, bad = model("good", 1.70), model("worse", 1.75)
    good.influences = {}

    (contest,) = contests([good, bad])

    assert not contest.paired
    assert contest.better == ""
    assert contest.se == pytest.approx(math.hypot(good.scores[KEY]["se"], bad.scores[KEY]["se"]))
    assert "can't be told apart" in contest.words


def test_models_are_compared_without_the_bias_of_their_scores() -> None:
    narrow, wide = model("narrow", 1.70, own=1e-4), model("wide", 1.75, own=1e-4)
    wide.scores[KEY]["bias"] = 0.10

    (contest,) = contests([narrow, wide])

    assert contest.better == "wide"
    assert contest.difference == pytest.approx(0.05)
    assert ranked([narrow, wide], KEY)[0] is wide
    score = {"value": 1.75, "se": 0.01, "bias": 0.1, "low": 1.6304, "high": 1.6696, "floor": 1.74}
    assert plus_minus(score) == "1.75, without bias 1.65 ± 0.02"
    # The floor has the bias of as many samples too.
    assert against(score, False) == "its interval reaches real data's"


def test_few_documents_name_no_winner() -> None:
    good, bad = model("good", 1.70, own=1e-4), model("worse", 1.75, own=1e-4)
    good.scores[KEY]["n"] = bad.scores[KEY]["n"] = 49
    assert contests([good, bad]) == []


def test_models_measured_otherwise_are_not_compared() -> None:
    assert contests([model("good", 1.7), model("other", 9.0, score="bits_per_byte@cc33dd44")]) == []


def test_the_p_value_is_that_of_the_normal_law() -> None:
    good, bad = model("good", 1.0), model("worse", 1.2)
    good.influences = bad.influences = {}
    good.scores[KEY]["se"], bad.scores[KEY]["se"] = 0.06, 0.08

    (contest,) = contests([good, bad])

    assert contest.p_value == pytest.approx(0.0455003, rel=1e-5)  # two deviations
    assert contest.better == "good"


def test_equal_models_have_a_p_value_of_one() -> None:
    (contest,) = contests([model("one", 1.0), model("two", 1.0)])

    assert (contest.p_value, contest.better) == (1.0, "")


def test_ranking_follows_the_direction() -> None:
    first, second = model("first", 1.0), model("second", 2.0)

    assert [found.key for found in ranked([second, first], KEY)] == ["first", "second"]
    first.protocols = {KEY: {"higher_is_better": True}}
    second.protocols = first.protocols
    assert [found.key for found in ranked([second, first], KEY)] == ["second", "first"]


def test_copying_is_read_against_held_out_records() -> None:
    result = model("copyist", 1.0)
    result.scores = {
        "exact_copies@a": {"value": 0.05, "se": 0.01, "low": 0.03, "high": 0.07, "floor": 0.0},
        "near_copies@b": {"value": 0.012, "se": 0.004, "low": 0.004, "high": 0.02, "floor": 0.01},
    }

    said, bad = copies(result)

    assert bad
    assert said.startswith("5.00% are exact copies of training records (held-out records: 0.00%)")
    result.scores.pop("exact_copies@a")
    assert copies(result)[1] is False


@pytest.mark.parametrize(
    ("score", "higher", "words"),
    [
        ({"value": 9.0, "se": 1.0, "low": 7.0, "high": 11.0, "floor": 7.5}, False, "its interval reaches real data's"),
        ({"value": 9.8, "se": 0.1, "low": 9.6, "high": 10.0, "floor": 9.5}, True, "which is no merit"),
        ({"value": 60.0, "floor": 7.5, "relative": 8.0}, False, "8 times real data's 7.5"),
        ({"value": 4.0, "unigram": 3.0}, False, "33% above the unigram model's 3: worse"),
        ({"value": 0.2, "floor": 0.0}, False, "real data has 0"),
    ],
)
def test_a_score_against_what_it_is_held_against(score: dict[str, float], higher: bool, words: str) -> None:
    assert words in against(score, higher)


def test_the_error_bar_is_that_of_the_interval() -> None:
    assert plus_minus({"value": 9.0, "se": 1.5}) == "9 ± 2.9"
    assert plus_minus({"value": 9.0}) == "9"


def test_influences_come_back_as_written(tmp_path: Path) -> None:
    influences = {"m@1": {"sample": np.arange(3.0), "test": np.ones(2)}, "bare@2": {}}

    write_influences(tmp_path / "one.npz", influences)
    write_influences(tmp_path / "two.npz", influences)

    found = read_influences(tmp_path / "one.npz")
    assert found.keys() == {"m@1"}
    np.testing.assert_array_equal(found["m@1"]["sample"], np.arange(3.0))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    assert read_influences(tmp_path / "none.npz") == {}


def test_influences_of_unequal_units_can_not_be_paired() -> None:
    assert math.isnan(paired_se({"test": np.ones(3)}, {"test": np.ones(4)}))
    assert math.isnan(paired_se({}, {}))
    assert paired_se({"test": np.ones(4)}, {"test": np.zeros(4)}) == 2.0


def test_the_page_the_gate_and_mlflow_rank_by_the_same_scores() -> None:
    assert tuple(rules.PRIMARY.values()) == verdicts.PRIMARY == views.RANKED
