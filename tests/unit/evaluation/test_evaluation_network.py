"""The feature network: learnt on the training records, named by its weights, the same for each row alone."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graded import stripes, write_images

from genfoundry.config.sections.reference import Reference
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import file_digest, folder_digest, publish_folder, read_json, verify_folder
from genfoundry.core.paths import DatasetPaths
from genfoundry.evaluation import features
from genfoundry.evaluation.features import Grids, components, read_grids
from genfoundry.evaluation.networks import domain
from genfoundry.evaluation.networks.domain import Layout
from genfoundry.evaluation.reference import write_reference

CONFIG = Reference(features=4, steps=60)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[DatasetPaths, dict[str, Any]]:
    """The reference of scikit-learn's digits, a third held out, at a third of the default's steps."""
    from sklearn.datasets import load_digits

    from genfoundry.core.io import write_json

    data = load_digits()
    levels = (data.images * 255 / 16).round().astype(np.uint8)[:, None]
    order = np.random.default_rng(0).permutation(len(levels))
    paths = DatasetPaths(tmp_path_factory.mktemp("digits"), "digits")
    with publish_folder(paths.arrays) as folder:
        write_json(folder / "spec.json", GridSpec(channels=1, shape=(8, 8), labels=tuple("0123456789")).model_dump())
        for split, rows in zip(("train", "val", "test"), np.split(order, [1070, 1200]), strict=True):
            np.save(folder / f"{split}.npy", levels[rows])
            np.save(folder / f"{split}_labels.npy", data.target[rows].astype(np.int64))
    return paths, write_reference(paths, Reference(steps=200))


def test_digits_are_told_apart_far_better_than_by_a_line(digits: tuple[DatasetPaths, dict[str, Any]]) -> None:
    paths, numbers = digits

    assert numbers["kind"] == "conv"
    assert numbers["dimension"] == 32
    assert numbers["accuracy"] > 0.98
    assert 0.94 < numbers["linear_accuracy"] < 0.98
    assert 8 < numbers["floor"]["is_domain"] <= 10
    features = np.load(paths.reference / "test_features.npy")
    logits = np.load(paths.reference / "test_logits.npy")
    labels = np.load(paths.arrays / "test_labels.npy")
    assert (features < 0).mean() > 0.2, "taken before the nonlinearity"
    assert (logits.argmax(1) == labels).mean() == numbers["accuracy"]
    verify_folder(paths.reference)


def test_the_floor_lies_far_below_the_distance_of_another_law(digits: tuple[DatasetPaths, dict[str, Any]]) -> None:
    from genfoundry.metrics import fid_domain

    paths, numbers = digits
    judge = domain.read_network(paths.reference)
    test = np.load(paths.reference / "test_features.npy")
    inverted, _ = domain.embed(judge, 255 - np.load(paths.arrays / "test.npy"))

    assert fid_domain.score(inverted, test, fid_domain.Config()).value > 10 * numbers["floor"]["fid_domain"]


def test_statistics_are_those_of_the_test_features(digits: tuple[DatasetPaths, dict[str, Any]]) -> None:
    paths, _ = digits
    test = np.load(paths.reference / "test_features.npy").astype(np.float64)

    found = np.load(paths.reference / "statistics.npz")

    np.testing.assert_allclose(found["mu"], test.mean(0))
    np.testing.assert_allclose(found["sigma"], np.cov(test.T))


def test_the_same_reference_has_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    paths = write_images(tmp_path)

    digests = []
    for seed in (0, 0, 1):
        torch.set_num_threads(1 if digests else 2)
        torch.manual_seed(len(digests))
        write_reference(paths, CONFIG.model_copy(update={"seed": seed}))
        digests.append(folder_digest(paths.reference))
    assert digests[0] == digests[1] != digests[2]


def test_a_row_has_the_same_features_in_any_company(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    write_reference(paths, CONFIG)
    judge = domain.read_network(paths.reference)
    levels, _ = stripes(domain.BATCH + 3, seed=5)

    whole, logits = domain.embed(judge, levels)
    alone, _ = domain.embed(judge, levels[:1])
    empty, no_logits = domain.embed(judge, levels[:0])

    assert whole.shape == (domain.BATCH + 3, 4)
    assert logits.shape == (domain.BATCH + 3, 2)
    np.testing.assert_array_equal(alone[0], whole[0])
    assert empty.shape == (0, 4)
    assert no_logits.shape == (0, 2)


def test_features_of_the_splits_are_those_of_the_stored_network(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    numbers = write_reference(paths, CONFIG)

    judge = domain.read_network(paths.reference)

    assert judge.layout.digest == numbers["digest"] == file_digest(paths.reference / "network.safetensors")
    for split in ("train", "val", "test"):
        features, logits = domain.embed(judge, read_grids(paths.arrays, split).levels)
        np.testing.assert_array_equal(features, np.load(paths.reference / f"{split}_features.npy"))
        np.testing.assert_array_equal(logits, np.load(paths.reference / f"{split}_logits.npy"))
    records = read_json(paths.reference / "records.json")
    assert records["test"] == {"split": "test", "n": 40, "digest": file_digest(paths.arrays / "test.npy")}


def test_never_wider_than_a_tenth_of_the_test_records(tmp_path: Path) -> None:
    paths = write_images(tmp_path)

    assert write_reference(paths, CONFIG.model_copy(update={"features": 32}))["dimension"] == 4


@pytest.mark.parametrize(
    ("labelled", "ratio"), [(False, 1e9), (True, 1e-9)], ids=["no labels", "no better than a linear classifier"]
)
def test_principal_components_where_the_classifier_is_of_no_use(labelled: bool, ratio: float, tmp_path: Path) -> None:
    paths = write_images(tmp_path, labelled=labelled)

    numbers = write_reference(paths, CONFIG.model_copy(update={"max_error_ratio": ratio, "steps": 2}))

    assert numbers["kind"] == read_json(paths.reference / "network.json")["kind"] == "pca"
    assert "is_domain" not in numbers["floor"]
    assert not (paths.reference / "test_logits.npy").exists()
    train = np.load(paths.reference / "train_features.npy")
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-4)
    covariance = np.cov(train.T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    assert np.all(np.diff(np.diag(covariance)) <= 0), "largest first"


def test_components_span_what_varies() -> None:
    levels = np.zeros((20, 1, 2, 2), np.uint8)
    levels[:, 0, 0, 1] = np.arange(20) * 10
    layout = Layout(kind="pca", channels=1, shape=(2, 2), dimension=2, classes=0)

    found = components(layout, Grids(levels, None))

    assert found.components[:, 0].tolist() == pytest.approx([0, 1, 0, 0], abs=1e-6)


@pytest.mark.parametrize("shape", [(50,), (8, 8), (5, 16), (6, 9, 7)])
def test_grids_of_one_to_three_axes(shape: tuple[int, ...]) -> None:
    layout = Layout(kind="conv", channels=2, shape=shape, dimension=3, classes=4)
    levels = np.random.default_rng(0).integers(0, 256, (2, 2, *shape)).astype(np.uint8)

    features, logits = domain.embed(domain.make(layout), levels)

    assert features.shape == (2, 3)
    assert logits.shape == (2, 4)
    assert not np.array_equal(features[0], features[1])


@pytest.mark.parametrize("flipped", [False, True])
def test_the_weights_kept_are_those_of_the_lowest_validation_loss(
    flipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = write_images(tmp_path).arrays
    splits = {split: read_grids(arrays, split) for split in ("train", "val", "test")}
    val = splits["val"]
    if flipped:  # what is learnt only makes it worse
        val = splits["val"] = val._replace(labels=1 - val.labels)
    monkeypatch.setattr(features, "VAL_EVERY", 10)
    layout = Layout(kind="conv", channels=1, shape=(8, 8), dimension=4, classes=2)
    loss, seen = features._val_loss, []
    monkeypatch.setattr(features, "_val_loss", lambda *given: seen.append(loss(*given)) or seen[-1])

    found, step = features.train(layout, splits, CONFIG)

    assert len(seen) == 6
    assert step == 10 * (1 + int(np.argmin(seen)))
    assert loss(found, val) == pytest.approx(min(seen))
    assert (step == 10) == flipped


def test_without_validation_records_the_last_weights_are_taken(tmp_path: Path) -> None:
    paths = write_images(tmp_path, counts={"train": 40, "val": 0, "test": 40})

    assert write_reference(paths, CONFIG)["best_step"] == 60
    assert np.load(paths.reference / "val_features.npy").shape == (0, 4)


def test_what_the_network_can_not_take_is_refused(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    write_reference(paths, CONFIG)
    judge = domain.read_network(paths.reference)

    with pytest.raises(
        DataError, match=r"samples: uint8 \(2, 3, 8, 8\), but the feature network takes uint8 \(N, 1, 8, 8\)"
    ):
        domain.embed(judge, np.zeros((2, 3, 8, 8), np.uint8), "samples")
    with pytest.raises(DataError, match="float32"):
        domain.embed(judge, np.zeros((2, 1, 8, 8), np.float32))


def test_other_weights_than_the_named_ones_are_refused(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    write_reference(paths, CONFIG)
    weights = paths.reference / "network.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)

    with pytest.raises(DataError, match=r"network.safetensors: sha256 \w{12}, network.json names"):
        domain.read_network(paths.reference)


def test_too_few_records_are_refused(tmp_path: Path) -> None:
    paths = write_images(tmp_path, counts={"train": 30, "val": 5, "test": 2})

    with pytest.raises(DataError, match="2 records in split 'test'; scores need at least 3"):
        write_reference(paths, CONFIG)
    assert not paths.reference.exists()
