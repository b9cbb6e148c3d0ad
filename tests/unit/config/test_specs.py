"""Specs: what older files mean, what new ones say, and how stored levels become numbers and back."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from genfoundry.config.specs import DataSpec, GridSpec, TokenSpec, parse_spec
from genfoundry.core.errors import DataError
from genfoundry.core.io import canonical_json
from genfoundry.evaluation.networks import domain
from genfoundry.generation.generator import to_levels, to_range

OLD = {
    '{"channels":1,"kind":"grid","labels":["a"],"range":[-1.0,1.0],"shape":[8,8]}\n': GridSpec(
        channels=1, shape=(8, 8), labels=("a",)
    ),
    '{"boundary":0,"kind":"token","labels":[],"vocab_size":300}\n': TokenSpec(vocab_size=300),
}
"""spec.json as it was written before specs had a modality, axes, rates and storage."""


@pytest.mark.parametrize("text", OLD)
def test_an_old_spec_means_what_it_meant_and_is_written_as_it_was(text: str) -> None:
    spec = parse_spec(json.loads(text))

    assert spec == OLD[text]
    assert spec.modality == ("image" if spec.kind == "grid" else "text")
    assert spec.model_dump(mode="json") == json.loads(text)


@pytest.mark.parametrize(
    "spec",
    [
        GridSpec(modality="wave", channels=2, shape=(64,), rates={"time": 16000}, storage="int16"),
        GridSpec(modality="film", channels=3, shape=(4, 8, 8), rates={"time": 25}, range=(0, 1)),
        GridSpec(modality="spectrogram", channels=1, shape=(80, 9), axes=("band", "time"), storage="float16"),
        TokenSpec(modality="code", vocab_size=9),
    ],
)
def test_a_spec_comes_back_from_its_file(spec: DataSpec) -> None:
    assert parse_spec(json.loads(canonical_json(spec.model_dump(mode="json")))) == spec


@pytest.mark.parametrize(
    ("shape", "axes"), [((9,), "time"), ((9, 8), "height width"), ((2, 9, 8), "time height width")]
)
def test_axes_have_usual_names(shape: tuple[int, ...], axes: str) -> None:
    assert GridSpec(channels=1, shape=shape).axes == tuple(axes.split())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"axes": ("time",)}, "name each axis once"),
        ({"axes": ("time", "time")}, "name each axis once"),
        ({"rates": {"time": 100}}, "time needs to be an axis"),
        ({"rates": {"height": 0}}, "above 0 Hz"),
        ({"storage": "int8"}, "uint8"),
        ({"modality": "../wave"}, "pattern"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GridSpec(channels=1, shape=(8, 8), **fields)


@pytest.mark.parametrize(
    ("storage", "known"),
    [
        ("uint8", {0: -1.0, 255: 1.0, 51: -0.6}),
        ("int16", {-32767: -1.0, 0: 0.0, 32767: 1.0}),
        ("float16", {-1.0: -1.0, 0.25: 0.25, 1.0: 1.0}),
    ],
)
def test_levels_are_the_values_that_they_stand_for(storage: Any, known: dict[float, float]) -> None:
    spec = GridSpec(channels=1, shape=(1,), storage=storage)
    levels = torch.tensor(list(known)).to(getattr(torch, storage)).view(-1, 1, 1)

    values = to_range(levels, spec)

    assert values.dtype == torch.float32
    torch.testing.assert_close(values.flatten(), torch.tensor(list(known.values())))
    # The feature network of a data set in [-1, 1] sees the same numbers.
    torch.testing.assert_close(domain.as_grid(levels.numpy()), values)


@given(
    st.sampled_from([("uint8", 0, 255), ("int16", -32767, 32767)]),
    st.sampled_from([(), (7,), (2, 3), (2, 2, 2)]),
    st.integers(0, 2**32),
)
def test_every_level_of_any_shape_comes_back(storage: tuple[Any, int, int], shape: tuple[int, ...], seed: int) -> None:
    kind, bottom, top = storage
    spec = GridSpec(channels=2, shape=shape, storage=kind, range=(-1.0, 3.0))
    levels = np.random.default_rng(seed).integers(bottom, top + 1, (5, 2, *shape)).astype(kind)

    back = to_levels(to_range(torch.from_numpy(levels), spec), spec)

    assert back.numpy().dtype == spec.dtype
    np.testing.assert_array_equal(back.numpy(), levels)


@pytest.mark.parametrize("storage", ["uint8", "int16", "float16"])
def test_what_lies_outside_of_the_range_is_stored_at_its_end_and_nan_is_refused(storage: Any) -> None:
    spec = GridSpec(channels=1, shape=(2,), storage=storage)

    found = to_levels(torch.tensor([[[-7.0, 9.0]]]), spec)

    assert found.flatten().tolist() == list(spec.levels)
    with pytest.raises(DataError, match="NaN"):
        to_levels(torch.tensor([[[0.0, float("nan")]]]), spec)
