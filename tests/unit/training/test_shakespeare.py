"""The preset for Tiny Shakespeare: it is as small as it says, and a small run of its recipe learns."""

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import shakespeare
from genfoundry.config.specs import TokenSpec
from genfoundry.core.io import read_json
from genfoundry.generation.modelfile import load_model
from genfoundry.models import transformer


def sentences(count: int) -> str:
    """A language with one bit a word: who acts decides what comes next."""
    generator = np.random.default_rng(0)
    return "".join("the cat ran\n" if generator.random() < 0.5 else "a dog sat\n" for _ in range(count))


def test_the_preset_keeps_within_what_it_is_compared_at() -> None:
    block = shakespeare.recipe()
    model = transformer.build(transformer.Config(**block["options"]), TokenSpec(vocab_size=1 + 5 + 65))
    training = block["training"]

    bare = transformer.build(transformer.Config(**shakespeare.plain(block["options"])), model.spec)

    assert sum(parameter.numel() for parameter in model.parameters()) <= 810_000
    assert all(layer.mix_1 is None for layer in bare.blocks), "the bare loop's model is the plain one"
    assert model.context * training["batch"] * training["steps"] == 64 * 12 * 2000
    assert training["select"] == "last", "val of the benchmark is a piece of the training text: it may choose nothing"


def test_a_small_run_of_the_recipe_learns(tmp_path: Path) -> None:
    text = sentences(1200)
    dataset = shakespeare.lay_out(tmp_path, text)
    block = shakespeare.recipe()
    small = {"width": 32, "layers": 1, "heads": 2, "context": 32, "convolution_layers": 1}
    short = {"steps": 60, "val_every": 60, "log_every": 60}

    paths = shakespeare.stage(dataset, {**block["options"], **small}, {**block["training"], **short}, threads=1)

    found = shakespeare.held_out_nats(load_model(paths.model).model, dataset)
    # Letters by their frequency cost 2.3 nats; to know the two lines brings a block to about 0.2.
    assert found < 0.6
    assert read_json(paths.reports / "train.json")["steps"] == 60


def test_the_whole_held_out_text_is_priced_once(tmp_path: Path) -> None:
    dataset = shakespeare.lay_out(tmp_path, sentences(100))
    model = transformer.build(transformer.Config(width=16, heads=2, layers=1, context=32), TokenSpec(vocab_size=30))

    assert len(np.load(dataset.arrays / "test_tokens.npy")) % 32 > 2, "a shorter last block is part of it"
    assert shakespeare.held_out_nats(model, dataset) == pytest.approx(math.log(30), abs=1e-5)
