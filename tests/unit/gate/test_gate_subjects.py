"""Which models a comparison is about, what they have seen, and the held-out rows that are left."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from genfoundry.config import params as settings
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import publish_folder, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.gate.evidence import HeldOut, present_records
from genfoundry.gate.rules import Gate, unknown_metrics
from genfoundry.gate.subjects import Subject, common_dataset, resolve, seen_by

MODEL = {
    "family": "vae",
    "options": {},
    "training": {},
    "sampling": {},
    "evaluation": {},
}
TREE = settings.parse(
    settings.Settings,
    {
        "format": 1,
        "project": "p",
        "execution": {},
        "bases": {"scratch": {}},
        "datasets": {},
        "models": {key: {**MODEL, "dataset": data} for key, data in (("a", "x"), ("b", "x"), ("c", "y"))},
    },
    "",
)


def model(folder: Path, seen: list[int] | None) -> Path:
    with publish_folder(folder) as target:
        (target / "weights.safetensors").write_bytes(str(seen).encode())
        write_json(target / "config.json", {"family": "vae", "options": {}})
        if seen is not None:
            np.save(target / "seen.npy", np.array(seen, np.uint64))
    return folder


def no_store() -> None:
    raise AssertionError("the registry was asked")


def test_a_key_and_a_folder_are_found_without_the_registry(tmp_path: Path) -> None:
    model(tmp_path / "artifacts/models/a/model", [1])
    by_key = resolve("a", tmp_path, TREE, no_store, tmp_path)
    by_path = resolve("artifacts/models/a/model", tmp_path, TREE, no_store, tmp_path)
    assert by_key.digest == by_path.digest and by_key.workspace and not by_path.workspace
    assert (by_key.key, by_path.key) == ("a", "")
    assert resolve(str(by_path.model), tmp_path, TREE, no_store, tmp_path).digest == by_key.digest


def test_a_changed_folder_and_an_unknown_word_are_refused(tmp_path: Path) -> None:
    folder = model(tmp_path / "m", [1])
    (folder / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(DataError, match=r"weights.safetensors was changed"):
        resolve("m", tmp_path, TREE, no_store, tmp_path)
    for word in ("d", "../etc/passwd", "a@", "a/b"):
        with pytest.raises(ConfigError, match="is no model key"):
            resolve(word, tmp_path, TREE, no_store, tmp_path)


def test_only_models_of_one_dataset_are_compared(tmp_path: Path) -> None:
    def of(key: str) -> Subject:
        return Subject(key or "folder", tmp_path, "d", key=key)

    assert common_dataset([of("b"), of("a")], TREE) == ("x", "b")
    assert common_dataset([of(""), of("c")], TREE) == ("y", "c")
    with pytest.raises(ConfigError, match="different datasets"):
        common_dataset([of("a"), of("c")], TREE)
    with pytest.raises(ConfigError, match="neither model has a block"):
        common_dataset([of(""), of("")], TREE)


def test_what_any_model_has_seen_is_known_or_refused(tmp_path: Path) -> None:
    first = Subject("one", model(tmp_path / "1", [1, 2**64 - 1]), "1")
    second = Subject("two", model(tmp_path / "2", [1, 5]), "2")
    silent = Subject("silent", model(tmp_path / "3", None), "3")
    assert seen_by([first, second], False).tolist() == [1, 5, 2**64 - 1]
    with pytest.raises(DataError, match=r"silent: its folder has no seen.npy.*--trust-split"):
        seen_by([first, silent], False)
    assert seen_by([first, silent], True).tolist() == [1, 2**64 - 1]
    assert seen_by([silent], True).tolist() == []


def test_evidence_on_the_kept_records_alone(tmp_path: Path) -> None:
    paths, dataset = ModelPaths(tmp_path, "a"), DatasetPaths(tmp_path, "x")
    for folder in (dataset.arrays, dataset.index, dataset.reference, paths.features):
        folder.mkdir(parents=True)
    np.save(dataset.arrays / "test_records.npy", np.array([7, 8, 9], np.uint64))
    np.save(dataset.arrays / "test_tokens.npy", np.array([0, 5, 0, 6, 6, 0, 7], np.uint16))
    np.save(dataset.arrays / "test_offsets.npy", np.array([0, 2, 5, 7]))
    np.save(dataset.reference / "test_features.npy", np.arange(6.0).reshape(3, 2))
    np.save(paths.features / "features.npy", np.zeros((5, 2)))
    # The index in another order: rows are what counts.
    write_table(dataset.index / "test.parquet", pd.DataFrame({"row": [2, 0, 1], "label": ["c", "a", "b"]}))
    hashes = pd.DataFrame({"sha256": ["s7", "s8", "s9"], "nats": [1.0, 2.0, 3.0]})
    write_table(paths.features / "nats.parquet", hashes)
    (paths.features / "protocol.json").write_text(json.dumps({"likelihood": {"window": 8}}))

    held = HeldOut(paths, dataset, np.isin(present_records(dataset), [7, 9]), "d" * 64)

    assert held["reference_features"].tolist() == [[0, 1], [4, 5]]
    assert held["reference_tokens"] == [[5], [7]]
    assert held["nats"].tolist() == [1, 3]
    assert len(held["features"]) == 5
    assert held.table("index", "test.parquet", ["label"])["label"].tolist() == ["a", "c"]
    facts = held.facts(["nats"])
    assert facts["documents"] == {"split": "test", "n": 2, "digest": "d" * 64} and facts["likelihood"] == {"window": 8}

    np.save(dataset.reference / "test_features.npy", np.zeros((4, 2)))
    with pytest.raises(DataError, match="4 rows for 3 test records"):
        HeldOut(paths, dataset, held.keep, "d")["reference_features"]


def test_only_metrics_that_params_yaml_names_must_exist() -> None:
    assert unknown_metrics(Gate()) == []
    (fault,) = unknown_metrics(Gate(guards={"recal_domain": 0.1, "recall_domain": 0.1}))
    assert fault.startswith("params.yaml: unknown metric 'gate.guards.recal_domain'; did you mean 'recall_domain'")
    assert unknown_metrics(Gate(primary={"grid": "fid_domian"}))
