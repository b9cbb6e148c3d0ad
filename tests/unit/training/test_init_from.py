"""Warm starts: a model begins where another one ended, or is refused with the reason."""

from pathlib import Path

import numpy as np
import pytest
from trainline import make_arrays

from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import GridSpec, Section
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import canonical_json, publish_folder, read_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.modelfile import load_model
from genfoundry.models import transformer, vae
from genfoundry.tracking.runs import NoRun
from genfoundry.training import loop
from genfoundry.training.job import Job

VAE = vae.Config(width=8, latent=3, conditional=True)
TRANSFORMER = transformer.Config(width=16, layers=1, heads=2, context=8)


def train(root: Path, key: str, init: str, options: Section, dataset: str = "grid", **training: object) -> ModelPaths:
    """Train ``key`` from ``init`` on data of the kind that its dataset's name begins with."""
    data, scratch = DatasetPaths(root, dataset), ModelPaths(root, "scratch")
    if not data.arrays.exists():
        make_arrays(data.arrays, dataset.split("-")[0])
    if not scratch.model.exists():
        with publish_folder(scratch.model) as folder:
            (folder / "base.json").write_bytes(b"{}")
        (root / "params.yaml").write_text("models: {}\n")
    settings = Training.model_validate({"steps": 8, "batch": 6, "val_every": 4, "schedule": {"warmup": 2}, **training})
    family = "vae" if isinstance(options, vae.Config) else "transformer"
    model = ModelPaths(root, key)
    node = Node("train", key, "", (), ("models",), ())
    execution = Execution(accelerator="cpu", threads=1)
    loop.train(Job(node, model, data, ModelPaths(root, init), family, options, settings, execution), NoRun())
    return model


@pytest.mark.parametrize(("options", "dataset"), [(VAE, "grid"), (TRANSFORMER, "token")])
def test_a_model_starts_at_the_loss_of_the_one_it_starts_from(tmp_path: Path, options: Section, dataset: str) -> None:
    first = train(tmp_path, "first", "scratch", options, dataset)

    # As many steps, since the noise of a validation is keyed by them.
    second = train(tmp_path, "second", "first", options, dataset, seed=1, optimizer={"lr": 1e-12})
    fresh = train(tmp_path, "fresh", "scratch", options, dataset, seed=1, optimizer={"lr": 1e-12})

    ended = read_json(first.reports / "train.json")["best_val_loss"]
    assert read_json(second.reports / "train.json")["best_val_loss"] == pytest.approx(ended, rel=1e-6)
    assert read_json(fresh.reports / "train.json")["best_val_loss"] > ended * (1 + 1e-4)


def test_another_family_is_refused(tmp_path: Path) -> None:
    train(tmp_path, "images", "scratch", VAE)

    with pytest.raises(ConfigError, match="is of family 'vae', this model of 'transformer'"):
        train(tmp_path, "texts", "images", TRANSFORMER, "token")


def test_another_shape_is_refused_with_the_tensor_that_differs(tmp_path: Path) -> None:
    train(tmp_path, "narrow", "scratch", VAE)

    with pytest.raises(ConfigError, match=r"its tensor 'decoder.0.conv_1.bias' is \(16,\), the model wants \(32,\)"):
        train(tmp_path, "wide", "narrow", vae.Config(width=16, latent=3, conditional=True))


def relabel(arrays: Path, labels: tuple[str, ...]) -> None:
    """The same images under other names of their labels."""
    make_arrays(arrays, "grid")
    (arrays / "spec.json").write_bytes(
        canonical_json(GridSpec(channels=1, shape=(8, 8), labels=labels).model_dump(mode="json"))
    )


def test_other_labels_are_refused_where_they_are_heeded(tmp_path: Path) -> None:
    train(tmp_path, "first", "scratch", VAE)
    train(tmp_path, "blind", "scratch", VAE.model_copy(update={"conditional": False}))
    relabel(DatasetPaths(tmp_path, "grid-2").arrays, ("b", "a"))

    with pytest.raises(ConfigError, match="conditioned on the labels a, b, the data set has b, a"):
        train(tmp_path, "second", "first", VAE, "grid-2")
    train(tmp_path, "third", "blind", VAE.model_copy(update={"conditional": False}), "grid-2")


def test_another_vocabulary_is_refused(tmp_path: Path) -> None:
    train(tmp_path, "first", "scratch", TRANSFORMER, "token")
    other = DatasetPaths(tmp_path, "token-2").arrays
    make_arrays(other, "token")
    tokenizer = other / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"w3"', '"other"'))

    with pytest.raises(ConfigError, match="trained with another tokenizer"):
        train(tmp_path, "second", "first", TRANSFORMER, "token-2")


def test_a_damaged_start_is_refused(tmp_path: Path) -> None:
    first = train(tmp_path, "first", "scratch", VAE)
    weights = first.model / "weights.safetensors"
    flipped = bytearray(weights.read_bytes())
    flipped[-1] ^= 1
    weights.write_bytes(flipped)

    with pytest.raises(DataError, match=r"weights\.safetensors"):
        train(tmp_path, "second", "first", VAE)


def test_what_the_ancestor_has_seen_counts_as_seen(tmp_path: Path) -> None:
    first = train(tmp_path, "first", "scratch", VAE)
    other = DatasetPaths(tmp_path, "grid-2").arrays
    make_arrays(other, "grid")
    np.save(other / "train_records.npy", np.array([91, 92], np.uint64))

    second = train(tmp_path, "second", "first", VAE, "grid-2")

    assert {*np.load(first.model / "seen.npy"), 91, 92} == {*np.load(second.model / "seen.npy")}
    assert load_model(second.model).family == "vae"
