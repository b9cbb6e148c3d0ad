"""Latent space tools on loaded models."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genfoundry.config.specs import GridSpec, TokenSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation import latent
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.models import transformer, vae

SPEC = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))


def make(conditional: bool = False) -> LoadedModel:
    torch.manual_seed(3)
    config = vae.Config(width=8, latent=4, conditional=conditional)
    return LoadedModel(vae.build(config, SPEC).eval(), SPEC, "vae", config)


def records(count: int = 12) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.Generator(np.random.PCG64(1))
    return generator.integers(0, 256, (count, 1, 8, 8), dtype=np.uint8), np.arange(count) % 2


def test_the_middle_of_a_right_angle_is_the_diagonal() -> None:
    found = latent.path(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 3)

    np.testing.assert_allclose(found, [[2, 0], [math.sqrt(2), math.sqrt(2)], [0, 2]], atol=1e-6)
    straight = latent.path(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 3, spherical=False)
    np.testing.assert_allclose(straight[1], [1, 1], atol=1e-6)


points = st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3).map(np.array)


@given(points, points, st.integers(2, 7))
def test_a_path_keeps_its_ends_and_its_length_between_theirs(a: np.ndarray, b: np.ndarray, steps: int) -> None:
    found = latent.path(a, b, steps)

    assert found.shape == (steps, 3) and found.dtype == np.float32 and np.isfinite(found).all()
    np.testing.assert_allclose(found[[0, -1]], np.stack([a, b]), atol=1e-4)
    assert np.linalg.norm(found, axis=1).max() <= max(np.linalg.norm(a), np.linalg.norm(b)) + 1e-4


def test_encoding_does_not_depend_on_the_batch() -> None:
    levels, labels = records()
    loaded = make(conditional=True)

    whole, parts = latent.encode(loaded, levels, labels), latent.encode(loaded, levels, labels, batch=5)

    assert whole.shape == (12, 4) and whole.dtype == np.float32
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert np.abs(latent.encode(loaded, levels, 1 - labels) - whole).max() > 1e-3, "labels have no effect"


def test_an_interpolation_ends_at_the_reconstructions() -> None:
    levels, _ = records(2)
    loaded = make(conditional=True)
    both = latent.encode(loaded, levels, np.ones(2, int))

    found = latent.interpolate(loaded, both[0], both[1], 5, label=1)

    ends = latent.decode(loaded, both, np.ones(2, int))
    assert found.shape == (5, 1, 8, 8) and found.dtype == np.uint8
    assert np.abs(found[[0, -1]].astype(int) - ends).max() <= 1


def test_a_traversal_moves_one_dimension_a_row() -> None:
    loaded = make()
    start = np.array([0.3, -0.2, 0.1, 0.5], np.float32)

    found = latent.traverse(loaded, start, [2, 0], span=2.0, steps=3)

    wanted = np.array([[0.3, -0.2, -2, 0.5], [0.3, -0.2, 0, 0.5], [0.3, -0.2, 2, 0.5]], np.float32)
    np.testing.assert_array_equal(found[0], latent.decode(loaded, wanted))
    np.testing.assert_array_equal(found[1, 1], latent.decode(loaded, np.array([[0, -0.2, 0.1, 0.5]]))[0])


def test_use_of_dimensions_is_the_closed_form() -> None:
    mean = np.array([[1.0, 0.0, 0.05], [-1.0, 0.0, -0.05]])
    log_var = np.log(np.array([[0.25, 1.0, 1.0]] * 2))

    found = latent.usage(mean, log_var)

    np.testing.assert_allclose(found.kl_Z, [0.5 * (1 + 0.25 - 1 - math.log(0.25)), 0, 0.5 * 0.0025])
    assert found.active == 1 and found.order == [0, 2, 1]


def test_what_does_not_fit_is_refused() -> None:
    levels, labels = records()
    config = transformer.Config(width=16, layers=1, heads=2, context=8)
    tokens = TokenSpec(vocab_size=5)
    texts = LoadedModel(transformer.build(config, tokens), tokens, "transformer", config)

    with pytest.raises(ConfigError, match="family 'transformer' has no latent space"):
        latent.encode(texts, levels)
    with pytest.raises(ConfigError, match="conditional, 12 labels are needed, got none"):
        latent.encode(make(conditional=True), levels)
    with pytest.raises(ConfigError, match="12 labels are needed, got 3"):
        latent.encode(make(conditional=True), levels, labels[:3])
    with pytest.raises(DataError, match=r"got uint8 \(12, 1, 8, 4\), the model takes uint8 \(N, 1, 8, 8\)"):
        latent.encode(make(), levels[..., :4])


@pytest.mark.parametrize("labelled", [True, False])
def test_a_model_s_report_shows_its_latent_space(tmp_path: Path, labelled: bool) -> None:
    dataset, model, report = DatasetPaths(tmp_path, "d"), ModelPaths(tmp_path, "m"), tmp_path / "report"
    for folder in (dataset.arrays, dataset.index, model.samples, report):
        folder.mkdir(parents=True)
    levels, labels = records()
    np.save(dataset.arrays / "test.npy", levels)
    if labelled:
        np.save(dataset.arrays / "test_labels.npy", labels)
    write_table(dataset.index / "test.parquet", pd.DataFrame({"row": range(12), "id": [f"r{n}" for n in range(12)]}))
    loaded = make(conditional=labelled)

    latent.write_latents(loaded, dataset.arrays, model.samples, report)

    facts, rows = read_json(report / "latent.json"), 2 if labelled else 10
    assert len(facts["kl"]) == facts["latent"] == 4 and facts["interpolated"][0] == ([0, 2] if labelled else [0, 1])
    with Image.open(report / "interpolation.png") as picture:
        assert picture.size == (latent.STEPS * 50 + 2, rows * 50 + 2)
    assert {file.name for file in report.iterdir()} >= {"reconstruction.png", "traversal.png"}
    wanted = latent.encode(loaded, levels, labels)
    np.testing.assert_array_equal(latent.find_latents(model, dataset, ["r7", "r0"]), wanted[[7, 0]])
    with pytest.raises(DataError, match="'r99' is no test record"):
        latent.find_latents(model, dataset, ["r7", "r99"])


def test_a_family_without_latents_writes_nothing(tmp_path: Path) -> None:
    config, tokens = transformer.Config(width=16, layers=1, heads=2, context=8), TokenSpec(vocab_size=5)
    texts = LoadedModel(transformer.build(config, tokens), tokens, "transformer", config)

    latent.write_latents(texts, tmp_path / "none", tmp_path, tmp_path)

    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DataError, match="with a family that has a latent space"):
        latent.find_latents(ModelPaths(tmp_path, "m"), DatasetPaths(tmp_path, "d"), ["r1"])
