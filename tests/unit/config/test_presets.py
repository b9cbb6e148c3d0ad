"""Every file under presets/ is made of sections that the typed settings take."""

import re
from pathlib import Path
from typing import Any

import pytest

from genfoundry.config import params as settings
from genfoundry.config.params import Settings, read_yaml
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.table import DATASET_SECTIONS, MODEL_SECTIONS, section
from genfoundry.config.sections.training import Training
from genfoundry.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "presets").glob("*.yaml"))
MODELS = [(file, key) for file in FILES for key in read_yaml(file).get("models", {})]
DATASETS = [(file, key) for file in FILES for key in read_yaml(file).get("datasets", {})]


def names(cases: list[tuple[Path, str]]) -> list[str]:
    return [f"{file.stem}-{key}" for file, key in cases]


def tree_of(file: Path) -> Settings:
    """The default params.yaml with the blocks of a preset added."""
    preset, whole = read_yaml(file), read_yaml(ROOT / "params.yaml")
    merged: dict[str, Any] = {name: {**whole[name], **preset.get(name, {})} for name in ("datasets", "models")}
    return settings.parse(Settings, {**whole, **merged}, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_preset_holds_blocks_of_params_yaml_and_is_in_the_readme(file: Path) -> None:
    preset = read_yaml(file)

    assert preset.keys() <= {"execution", "datasets", "models"} and preset.get("models")
    assert settings.parse(Execution, preset.get("execution", {}), "execution")
    assert f"`{file.name}`" in (ROOT / "presets/README.md").read_text()


@pytest.mark.parametrize(("file", "key"), DATASETS, ids=names(DATASETS))
def test_every_section_of_a_dataset_is_typed(file: Path, key: str) -> None:
    tree = tree_of(file)

    for name in DATASET_SECTIONS:
        section(tree, key, name)


@pytest.mark.parametrize(("file", "key"), MODELS, ids=names(MODELS))
def test_every_section_of_a_model_is_typed(file: Path, key: str) -> None:
    tree = tree_of(file)
    block = tree.models[key]

    found = {name: section(tree, key, name) for name in ("options", *MODEL_SECTIONS)}

    training = found["training"]
    assert isinstance(training, Training) and training.batch % training.accumulate == 0
    assert block.dataset in tree.datasets and block.init_from in {*tree.bases, *tree.models}
    assert not training.compile or training.determinism == "fast", "compile needs determinism fast"


def test_a_wrong_key_in_a_preset_would_be_seen(tmp_path: Path) -> None:
    text = next(file for file in FILES if file.stem == "gpu-24gb").read_text()
    (tmp_path / "wrong.yaml").write_text(re.sub("vocab_size:", "vocab_sise:", text))

    with pytest.raises(ConfigError, match=r"unknown key 'datasets\.texts.encode\.vocab_sise'"):
        section(tree_of(tmp_path / "wrong.yaml"), "texts", "encode")
