"""The rules, each at the number where it turns."""

import json
import math

import pytest

from genfoundry.config import params as settings
from genfoundry.config.specs import GridSpec, TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.gate.rules import Decision, Gate, Loss, Rule, decide, guard, unknown_metrics
from genfoundry.metrics._paired import Difference

EQUAL_NIGHT = Gate(rule="non_inferior", margin=0.02, reason="fresher data")


def loss(value: float, se: float, allowed: float = 0.0, against: str = "champion", slice_: str = "") -> Loss:
    return Loss("fid_domain", Difference(value, se, 100, "test"), allowed, against, slice_)


@pytest.mark.parametrize(("value", "blessed"), [(-1.70, True), (-1.60, False), (0.0, False), (1.0, False)])
def test_superiority_asks_that_the_bound_lies_below_zero(value: float, blessed: bool) -> None:
    assert decide(Gate(), 0.05, [loss(value, 1.0)]).blessed is blessed


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_never_passes(value: float) -> None:
    better, fine = loss(-2.0, 0.1), loss(0.0, 0.1, 1.0)
    assert decide(Gate(), 0.05, [better], [fine]).blessed
    assert not decide(Gate(), 0.05, [loss(value, 0.1)], [fine]).blessed
    assert not decide(Gate(), 0.05, [better], [loss(value, 0.1, 1.0)]).blessed
    assert not decide(EQUAL_NIGHT, 0.05, [loss(value, 0.1, 1.0)]).blessed
    told = Decision((Rule("finite", False, "no number", {"value": value}),), {"scores": {"fid": {"value": value}}})
    assert json.loads(json.dumps(told.as_json(), allow_nan=False))["scores"] == {"fid": {"value": None}}


def test_a_superiority_margin_asks_for_more() -> None:
    assert decide(Gate(), 0.05, [loss(-2.0, 0.1, 1.5)]).blessed
    assert not decide(Gate(), 0.05, [loss(-2.0, 0.1, 1.9)]).blessed


def test_a_stricter_look_asks_for_more() -> None:
    assert decide(Gate(), 0.05, [loss(-2.0, 1.0)]).blessed
    assert not decide(Gate(), 0.01, [loss(-2.0, 1.0)]).blessed


def test_non_inferiority_is_held_against_the_best_so_far_too() -> None:
    now, best = loss(0.0, 1.0, 2.0), loss(1.5, 1.0, 2.0, "best")
    assert decide(EQUAL_NIGHT, 0.05, [now]).blessed
    told = decide(EQUAL_NIGHT, 0.05, [now, best])
    assert not told.blessed and [rule.passed for rule in told.rules] == [True, False]
    # Who is better than the model in service is promoted, whatever was rolled back before.
    assert decide(Gate(), 0.05, [loss(-9.0, 1.0), best]).blessed


@pytest.mark.parametrize(
    ("value", "se", "passed"),
    [
        (0.06, 0.01, False),
        (0.06, 0.05, True),  # by noise
        (0.04, 0.001, True),  # clear, but allowed
        (-0.5, 0.01, True),
        (0.06, math.nan, False),  # without an error bar the estimate decides
        (0.04, math.nan, True),
    ],
)
def test_a_guard_blocks_what_is_clear_and_beyond_the_allowance(value: float, se: float, passed: bool) -> None:
    assert guard(loss(value, se, 0.05), 0.05).passed is passed


def test_many_guards_share_one_alpha() -> None:
    """A loss that is clear at 5 % alone, not at 1 %."""
    one = loss(2.0, 1.0, 0.5)
    better = [loss(-9.0, 1.0)]
    assert not decide(Gate(), 0.05, better, [one]).blessed
    assert decide(Gate(), 0.05, better, [one, *[loss(-1.0, 1.0, 0.5)] * 4]).blessed


def test_one_refusal_is_enough_and_is_told() -> None:
    told = decide(Gate(), 0.05, [loss(-9.0, 1.0)], refusals=[Rule("copies:exact_copies", False, "copies")])
    assert told.verdict == "NOT_BLESSED"
    assert [rule["name"] for rule in told.as_json()["rules"] if not rule["passed"]] == ["copies:exact_copies"]


def test_no_rule_at_all_blesses_nobody() -> None:
    assert not Decision(()).blessed


def test_the_first_champion_is_held_against_refusals_alone() -> None:
    assert decide(Gate(), 0.05, [], refusals=[Rule("finite", True, "")]).blessed


def test_decision_json_is_json_with_every_number() -> None:
    told = decide(Gate(), 0.05, [loss(-9.0, 1.0)], [loss(0.1, math.nan, 0.5)], facts={"dataset": "digits"})
    tree = json.loads(json.dumps(told.as_json(), allow_nan=False))
    assert tree["verdict"] == "BLESSED" and tree["dataset"] == "digits"
    assert tree["rules"][0]["numbers"] == pytest.approx(
        {"loss": -9.0, "se": 1.0, "bound": -9 + 1.644854, "limit": 0.0, "alpha": 0.05}
    )
    assert "se" not in tree["rules"][1]["numbers"]


@pytest.mark.parametrize("values", [{"rule": "non_inferior"}, {"rule": "non_inferior", "margin": 0.1, "reason": " "}])
def test_non_inferiority_needs_a_margin_and_a_reason(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="needs a margin above 0 and a reason"):
        settings.parse(Gate, values, "gate")


def test_unknown_and_senseless_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'gate.gaurds'; did you mean 'guards'"):
        settings.parse(Gate, {"gaurds": {}}, "gate")
    with pytest.raises(ConfigError, match=r"gate.guards.recall_domain"):
        settings.parse(Gate, {"guards": {"recall_domain": -1}}, "gate")


def test_the_primary_metric_goes_by_the_kind_of_data() -> None:
    image, text, code = (
        GridSpec(channels=1, shape=(8, 8)),
        TokenSpec(vocab_size=9),
        TokenSpec(vocab_size=9, modality="code"),
    )
    assert [Gate().primary_of(spec) for spec in (image, text)] == ["fid_domain", "bits_per_byte"]
    other = Gate(primary={"grid": "fd_dinov2", "code": "bits_per_character"})
    found = [other.primary_of(spec) for spec in (image, text, code)]
    assert found == ["fd_dinov2", "bits_per_byte", "bits_per_character"]
    (fault,) = unknown_metrics(Gate(primary={"imgae": "fid_domain"}))
    assert "unknown modality 'gate.primary.imgae'; did you mean 'image'" in fault
