"""Values that must be the same on every machine: they decide splits, copies and arrays, and so dvc.lock."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from genfoundry.config.pointers import md5, read_pointer
from genfoundry.config.sections.split import Split
from genfoundry.data.embedded import packages as embedded
from genfoundry.data.preprocess.splitting import draw
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.modalities import text
from genfoundry.modalities.common import shingles as _shingles
from genfoundry.modalities.common import tokens as _tokens
from genfoundry.training.examples import GridData

ROOT = Path(__file__).resolve().parents[2]


def test_the_embedded_data_belong_to_the_locked_packages() -> None:
    """Other versions have other docstrings: lock, builder and data.dvc change together or not at all."""
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE))

    assert {name: locked[name] for name in embedded.PACKAGES} == embedded.PACKAGES
    assert all(len(re.findall(rf"^{name}==", lock, re.MULTILINE)) == 1 for name in embedded.PACKAGES)
    if read_pointer(ROOT) != embedded.EMBEDDED_MD5:
        pytest.skip("this fork has its own data")


def test_docstrings_of_a_package(tmp_path: Path) -> None:
    target = tmp_path / "numpy.jsonl"

    embedded._write_docs(embedded._distribution("numpy"), target)

    assert hashlib.md5(target.read_bytes()).hexdigest() == NUMPY


NUMPY = "17dcf3a3a01bf70fa3a9ffd7b6785616"


@pytest.mark.long
def test_the_embedded_data_are_what_data_dvc_says(tmp_path: Path) -> None:
    embedded.build(tmp_path / "data")

    assert md5(tmp_path / "data") == embedded.EMBEDDED_MD5


def test_shingle_hashes() -> None:
    sets = _shingles.sets(["The quick brown fox jumps over", "今日は良い天気", "one two"])

    assert [f"{value:016x}" for value in sets.hashes] == SHINGLES
    assert sets.ptr.tolist() == [0, 2, 5, 5]


SHINGLES = ["2d66eac4e6d6f99a", "c0882c7425640321", "bff9f157c325078b", "c8ecd9f54f2d09f2", "d933fda7e960fe10"]


def test_descriptor() -> None:
    levels = (np.indices((8, 12)).sum(0) * 37 % 256).astype(np.uint8)[None, :, :, None]

    found = _descriptor.describe(levels)

    np.testing.assert_allclose(found.vectors[0, :4], DESCRIPTOR, atol=1e-6)
    assert np.linalg.norm(found.vectors[0]) == pytest.approx(1, abs=1e-6)


DESCRIPTOR = [-0.02789, -0.044358, -0.076578, 0.052233]


def test_drawn_splits() -> None:
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(12)]

    assert "".join(draw(name, Split(val=0.3, test=0.3))[1] for name in names) == SPLITS


SPLITS = "rereararrrre"


def test_tokenizer() -> None:
    texts = ["the cat sat on the mat", "the rat sat on the cat", "Größe: 世界"]

    tokenizer = _tokens.train(text.Encode(vocab_size=270), texts)

    assert tokenizer.encode("the cat sat there 世").ids == TOKENS


TOKENS = [259, 264, 266, 263, 82, 69, 221, 161, 117, 245]


def test_batches(tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", np.zeros((10, 1, 1, 1), np.uint8))
    np.save(tmp_path / "train_labels.npy", np.arange(10))

    assert GridData(tmp_path, "train", ["label"]).batch(4, 4, seed=7)["conditions.label"].tolist() == BATCH


BATCH = [1, 5, 3, 4]
