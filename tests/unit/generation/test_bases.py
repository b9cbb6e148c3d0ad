"""Bases: checked by digest, imported into our own form, or refused with what they are."""

from pathlib import Path

import numpy as np
import pytest
from trainline import tiny, train

from genfoundry.config import params as settings
from genfoundry.config.params import Settings
from genfoundry.config.sections.base import Base
from genfoundry.core.errors import ConfigError, GenfoundryError
from genfoundry.core.io import canonical_json, folder_digest, publish_folder, read_json, tree_digest
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.bases import import_base
from genfoundry.generation.modelfile import load_model

KIND, OPTIONS = tiny("vae")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    train(root, "vae", KIND, OPTIONS, {"steps": 3})
    return ModelPaths(root, "m").model


@pytest.fixture()
def source(trained: Path, tmp_path: Path) -> Path:
    """A copy of a trained model, as somebody would bring it."""
    target = tmp_path / "imports/mine"
    target.mkdir(parents=True)
    for file in trained.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def imported(root: Path, **block: str) -> Path:
    paths = ModelPaths(root, "b")
    with publish_folder(paths.model) as folder:
        import_base(Base(**block), root, "b", folder)
    return paths.model


def refused(root: Path, **block: str) -> str:
    with pytest.raises(GenfoundryError) as caught:
        imported(root, **block)
    assert not ModelPaths(root, "b").model.exists()
    return str(caught.value)


def test_a_base_is_the_model_with_its_licence(tmp_path: Path, source: Path) -> None:
    digest = folder_digest(source)
    model = imported(tmp_path, path="imports/mine", sha256=digest, license="CC-BY-4.0")

    assert load_model(model).family == "vae"
    assert read_json(model / "base.json") == {"format": "genfoundry", "sha256": digest, "license": "CC-BY-4.0"}
    for name in ("weights.safetensors", "config.json", "spec.json", "seen.npy"):
        assert (model / name).read_bytes() == (source / name).read_bytes()


def test_the_empty_base_needs_nothing(tmp_path: Path) -> None:
    assert read_json(imported(tmp_path) / "base.json") == {"empty": True}


def test_a_missing_digest_is_said(tmp_path: Path, source: Path) -> None:
    assert f"'bases.b.sha256' is missing; of what lies at imports/mine it is {folder_digest(source)}" in refused(
        tmp_path, path="imports/mine"
    )


def test_another_model_than_the_digest_is_of_is_refused_with_both(tmp_path: Path, source: Path) -> None:
    said = refused(tmp_path, path="imports/mine", sha256="0" * 64)

    assert "0" * 64 in said and folder_digest(source) in said and "it was changed" in said


def test_one_changed_byte_is_refused(tmp_path: Path, source: Path) -> None:
    digest, seen = folder_digest(source), np.load(source / "seen.npy")
    np.save(source / "seen.npy", seen + 1)

    assert "seen.npy was changed" in refused(tmp_path, path="imports/mine", sha256=digest)


def test_a_digest_is_hexadecimal() -> None:
    (fault,) = settings.faults(Base, {"path": "x", "sha256": "abc"}, "bases.b")

    assert "'bases.b.sha256' is 'abc'" in fault


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no such file or folder"),
        ({"config.json": b'{"model_type": "llama"}'}, "is a Hugging Face folder (model_type 'llama')"),
        ({"config.json": b"{}"}, "a config.json that names no family"),
        ({"model.bin": b"x"}, "pickled weights, which may run code"),
        ({"notes.txt": b"x"}, "a folder of notes.txt"),
        ({"": b"GGUF...."}, "is a GGUF file"),
        ({"": b"text"}, "a file that ends in nothing"),
    ],
)
def test_what_is_no_model_of_ours_is_named(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    for name, content in files.items():
        path = tmp_path / "imports/theirs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = refused(tmp_path, path="imports/theirs", sha256="0" * 64)

    assert said in found and "manifest" not in found
    if files:
        assert "'bases.b.format' is 'genfoundry'" in found and "formats there are: genfoundry" in found


def test_an_unknown_format_is_refused(tmp_path: Path, source: Path) -> None:
    assert "unknown formats part 'onnx'" in refused(tmp_path, path="imports/mine", format="onnx")


MODEL = {"dataset": "d", "options": {}, "training": {}, "sampling": {}, "evaluation": {}}


def tree(root: Path, bases: dict[str, object], **models: object) -> Settings:
    """Settings of a project with these models."""
    whole = {"format": 1, "project": "p", "execution": {}, "datasets": {}, "bases": bases, "models": models}
    (root / "params.yaml").write_bytes(canonical_json(whole))
    return settings.load(root)


def test_family_and_options_come_with_the_start(tmp_path: Path, source: Path) -> None:
    bases = {"b": {"path": "imports/mine", "sha256": tree_digest(source)}}
    first, second = {**MODEL, "init_from": "b"}, {**MODEL, "init_from": "first"}
    whole = tree(tmp_path, bases, first=first, second=second)

    for key in ("first", "second"):
        assert whole.models[key].family == "vae"
        assert settings.model_options(whole, key) == OPTIONS


def test_options_of_its_own_must_agree(tmp_path: Path, source: Path) -> None:
    bases = {"b": {"path": "imports/mine", "sha256": tree_digest(source)}}
    agreed = {**MODEL, "init_from": "b", "options": {"latent": OPTIONS.latent}}

    assert settings.model_options(tree(tmp_path, bases, m=agreed), "m") == OPTIONS
    with pytest.raises(ConfigError, match=r"'models\.m\.options\.latent' is 5, but 'b' has 3"):
        tree(tmp_path, bases, m={**agreed, "options": {"latent": 5}})


def test_a_model_from_nothing_needs_a_family(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'models\.m\.family' is missing"):
        tree(tmp_path, {"scratch": {}}, m=MODEL)


def test_a_base_in_another_form_gives_its_family_once_it_is_imported(tmp_path: Path, source: Path) -> None:
    bases = {"b": {"path": "imports/elsewhere", "sha256": "0" * 64}}
    block = {**MODEL, "init_from": "b"}

    with pytest.raises(ConfigError, match="known once 'b' is imported; run dvc repro base@b"):
        settings.model_options(tree(tmp_path, bases, m=block), "m")
    imported(tmp_path, path="imports/mine", sha256=tree_digest(source))
    assert settings.model_options(tree(tmp_path, bases, m=block), "m") == OPTIONS
