"""Conditions: what values become, which are refused, and what spec.json says of them."""

import json

import numpy as np
import pytest

from genfoundry.config.conditions import Classes, Number, Text, Wanted, found
from genfoundry.config.specs import GridSpec, parse_spec
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import canonical_json

SPEC = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))


def test_a_text_becomes_its_bytes_and_comes_back() -> None:
    rows = Text(length=6).encode("caption", ["déjà", "", "longer than that"])

    assert rows.dtype == np.int64 and rows.shape == (3, 6)
    assert [bytes(int(one) - 1 for one in row if one) for row in rows] == ["déjà".encode(), b"", b"longer"]


def test_values_become_arrays() -> None:
    assert Classes(names=("x", "y")).encode("kind", ["y", "x"]).tolist() == [1, 0]
    numbers = Number(low=0, high=2).encode("pitch", [1, 2.5])
    assert numbers.dtype == np.float32 and numbers.tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("condition", "value", "said"),
    [
        (Classes(names=("x", "y")), "z", "kind is 'z': the model knows x, y"),
        (Text(length=4), 3, "kind is 3; needs a text"),
        (Number(low=0, high=1), "1", "kind is '1'; needs a finite number"),
        (Number(low=0, high=1), float("nan"), "kind is nan; needs a finite number"),
        (Number(low=0, high=1), True, "kind is True; needs a finite number"),
        (Number(low=0, high=1), None, "kind is None; needs a finite number"),
    ],
)
def test_what_is_no_value_is_refused_by_name(condition: Classes | Text | Number, value: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        condition.encode("kind", [value])


def test_a_column_says_what_it_is() -> None:
    assert found(Wanted(kind="classes"), "x", ["b", "a", "b"]) == Classes(names=("a", "b"))
    assert found(Wanted(kind="number"), "x", [3, 1.5]) == Number(low=1.5, high=3)
    texts = [f"text {number:03d}" for number in range(100)]
    told = found(Wanted(kind="text", length=9), "x", texts)
    assert told.length == 9 and len(told.examples) == 16 and {*told.examples} <= {*texts}


def test_values_in_turn_are_values() -> None:
    for condition in (Classes(names=("x", "y")), Text(length=3, examples=("a", "b")), Number(low=-1, high=1)):
        assert len(condition.encode("c", condition.in_turn(25))) == 25
    numbers = Number(low=-1, high=1).in_turn(11)
    assert (min(numbers), max(numbers)) == (-1, 1) and len({*numbers}) == 11


def test_a_spec_without_further_conditions_is_written_as_before() -> None:
    assert "conditions" not in SPEC.model_dump(mode="json")
    assert SPEC.asked == {"label": Classes(names=("a", "b"))} and GridSpec(channels=1, shape=(8, 8)).asked == {}


def test_a_spec_with_conditions_comes_back() -> None:
    conditions = {"caption": Text(length=8, examples=("x",)), "pitch": Number(low=0, high=9.5)}
    spec = SPEC.model_copy(update={"conditions": conditions})
    assert parse_spec(json.loads(canonical_json(spec.model_dump(mode="json")))) == spec
    assert list(spec.asked) == ["label", "caption", "pitch"]
