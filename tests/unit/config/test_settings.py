from pathlib import Path

import pytest

from genfoundry.config import params as settings
from genfoundry.config.sections.table import DATASET_SECTIONS, MODEL_SECTIONS, section
from genfoundry.config.sections.training import Training
from genfoundry.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]


def test_the_default_params_are_valid() -> None:
    tree = settings.load(ROOT)

    for key in tree.datasets:
        for name in DATASET_SECTIONS:
            section(tree, key, name)
    for key in tree.models:
        for name in (*MODEL_SECTIONS, "options"):
            section(tree, key, name)


def test_every_fault_is_named_at_once_with_the_nearest_key() -> None:
    wrong = {"stepz": 10, "batch": "many", "optimizer": {"learning_rate": 1}, "seed": -1}

    with pytest.raises(ConfigError) as caught:
        settings.parse(Training, wrong, "models.m.training")

    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "unknown key 'models.m.training.stepz'; did you mean 'steps'?" in str(caught.value)
    assert "'models.m.training.batch' is 'many'" in str(caught.value)
    assert "unknown key 'models.m.training.optimizer.learning_rate'" in str(caught.value)
    assert "'models.m.training.seed' is -1" in str(caught.value)


def test_a_missing_section_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'datasets.d.encode' is missing; add it"):
        settings.parse(settings.Settings, {
            "format": 1, "project": "p", "execution": {}, "bases": {}, "models": {},
            "datasets": {"d": {"modality": "image", "source": "data", **{
                name: {} for name in ("ingest", "validation", "preprocess", "dedup", "split", "reference")}}},
        }, "")  # fmt: skip


def test_small_floats_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: 1e-05\nb: 1e-4\n")

    assert settings.read_yaml(tmp_path / "a.yaml") == {"a": 1e-05, "b": 1e-4}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: [1\n", "line"),
        (b"- 1\n", "needs a mapping"),
        (b"a: \xff\n", "not UTF-8 at byte 3"),
        (b"a: &x [1]\nb: [" + b"*x," * 101 + b"]\n", "alias bomb"),
        (b"a: !!python/object/apply:os.getcwd []\n", "not YAML"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.yaml").write_bytes(content)

    with pytest.raises(ConfigError, match=said):
        settings.read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("key", ["a b", "$(touch x)", "../x", "-x", "X", ""])
def test_keys_that_could_reach_a_shell_or_a_path_are_refused(key: str) -> None:
    tree = {"format": 1, "project": "p", "execution": {}, "bases": {key: {}}, "models": {}, "datasets": {}}

    assert settings.faults(settings.Settings, tree, "")
