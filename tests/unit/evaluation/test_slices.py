"""Scores by group: for whom is a model worse?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graded import stripes, write_image_samples, write_images, write_text_samples, write_texts

from genfoundry.config.sections.evaluation import Slices
from genfoundry.core.errors import DataError
from genfoundry.core.io import publish_folder, read_table, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.evidence import Evidence
from genfoundry.evaluation.metrics import load_metric
from genfoundry.evaluation.slices import sliced
from genfoundry.metrics import bits_per_byte, class_balance, kid_domain, label_agreement

NATS = {"bits_per_byte": (load_metric("bits_per_byte"), bits_per_byte.Config())}


@pytest.fixture()
def texts(tmp_path: Path) -> Evidence:
    """40 documents; those of file ``a`` cost twice as many nats a byte."""
    dataset, paths = write_texts(tmp_path), ModelPaths(tmp_path, "partial")
    write_text_samples(paths, [[1, 2, 3]])
    index = read_table(dataset.index / "test.parquet")
    sizes = np.load(dataset.arrays / "test_bytes.npy")
    dear = (index["source"] == "a").to_numpy()
    with publish_folder(paths.features) as folder:
        write_table(folder / "nats.parquet", index.assign(nats=np.where(dear, 2.0, 1.0) * sizes, bytes=sizes))
    return Evidence(paths, dataset)


def test_a_group_that_costs_more_is_seen(texts: Evidence) -> None:
    found = sliced(Slices(min_n=3), NATS, texts)["source"]

    cheap, dear = (found["scores"][group]["bits_per_byte"]["value"] for group in "ba")
    assert dear == pytest.approx(2 * cheap)
    assert found["spread"]["bits_per_byte"]["highest"] == "a"
    assert found["spread"]["bits_per_byte"]["gap"] == pytest.approx(cheap)
    assert sum(group["n"] for group in found["scores"].values()) == 40


def test_a_group_that_is_too_small_is_counted_not_scored(texts: Evidence) -> None:
    found = sliced(Slices(min_n=20), NATS, texts)["source"]

    assert found["scores"]["a"] == {"n": 14}
    assert "bits_per_byte" in found["scores"]["b"]
    assert found["counts"] == {"groups": 2, "not_scored": 0, "too_small": 1}


def test_a_column_that_is_not_there_is_refused(texts: Evidence) -> None:
    with pytest.raises(DataError, match="no column 'author'; they have label, source"):
        sliced(Slices(columns=("author",)), NATS, texts)


def test_records_without_labels_have_no_slices_by_label(texts: Evidence) -> None:
    assert sliced(Slices(columns=("label",)), NATS, texts) == {}


def _images(root: Path, labels: list[str] | None) -> tuple[DatasetPaths, ModelPaths]:
    dataset, paths = write_images(root), ModelPaths(root, "copyist")
    levels, numbers = stripes(60, seed=5)
    levels[numbers == 1] = 255 - levels[numbers == 1]  # the odd ones are bad
    write_image_samples(paths, levels, labels=labels)
    features = {"test": np.load(dataset.arrays / "test.npy"), "samples": levels}
    rows = {name: values.reshape(len(values), -1)[:, ::9].astype(np.float32) for name, values in features.items()}
    with publish_folder(dataset.reference) as folder:
        np.save(folder / "test_features.npy", rows["test"])
    with publish_folder(paths.features) as folder:
        np.save(folder / "features.npy", rows["samples"])
        np.save(folder / "logits.npy", np.eye(2, dtype=np.float32)[numbers])
    return dataset, paths


@pytest.mark.parametrize("asked", [True, False])
def test_samples_belong_to_the_class_asked_for_or_to_the_one_seen(tmp_path: Path, asked: bool) -> None:
    labels = [("even", "odd")[row % 2] for row in range(60)] if asked else None
    dataset, paths = _images(tmp_path, labels)

    found = sliced(
        Slices(min_n=10), {"kid_domain": (load_metric("kid_domain"), kid_domain.Config())}, Evidence(paths, dataset)
    )

    assert found.keys() == {"label", "source"}
    good, bad = (found["label"]["scores"][group]["kid_domain"] for group in ("even", "odd"))
    assert good["n"] == 30
    assert good["low"] < 0.5 < bad["low"]
    assert found["source"]["spread"] == {}, "samples come from no file"


def test_columns_that_divide_alike_are_told_once(tmp_path: Path) -> None:
    dataset, paths = _images(tmp_path, None)
    index = read_table(dataset.index / "test.parquet")
    write_table(dataset.index / "test.parquet", index.assign(source="folder " + index["label"]))

    found = sliced(
        Slices(min_n=10), {"kid_domain": (load_metric("kid_domain"), kid_domain.Config())}, Evidence(paths, dataset)
    )

    assert found.keys() == {"label"}


# classes


def logits(classes: list[int], k: int) -> np.ndarray:
    return np.eye(k)[classes] * 9


def test_balance_is_half_the_sum_of_gaps() -> None:
    result = class_balance.score(logits([0, 0, 0, 1], 3), [0, 1, 2, 2], class_balance.Config())

    # 3/4, 1/4, 0 against 1/4, 1/4, 1/2
    assert result.value == pytest.approx(0.5)
    assert result.extra == {"missing": 1}


def test_agreement_is_a_share_with_its_error() -> None:
    result = label_agreement.score(logits([0, 1, 1, 1], 2), [0, 0, 1, 1], label_agreement.Config())

    assert result.value == 0.75
    assert result.se == pytest.approx(np.std([1, 0, 1, 1], ddof=1) / 2)


@pytest.mark.parametrize("module", [class_balance, label_agreement])
def test_influences_sum_to_the_variance(module: Any) -> None:
    generator = np.random.default_rng(0)
    result = module.score(generator.normal(size=(50, 4)), generator.integers(0, 4, 50), module.Config())

    assert sum((part**2).sum() for part in result.influence.values()) == pytest.approx(result.se**2)
    assert all(part.sum() == pytest.approx(0, abs=1e-12) for part in result.influence.values())


def test_the_error_of_the_balance_is_that_of_repeated_draws() -> None:
    generator = np.random.default_rng(1)
    shares, real = np.array([0.5, 0.3, 0.2]), generator.choice(3, 4000, p=[0.2, 0.3, 0.5])
    drawn = [
        class_balance.score(logits(generator.choice(3, 400, p=shares), 3), real, class_balance.Config())
        for _ in range(300)
    ]

    seen = np.std([result.value for result in drawn])
    assert seen == pytest.approx(np.mean([result.se for result in drawn]), rel=0.2)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: class_balance.score(logits([0, 1], 2), [0, 2], class_balance.Config()),
            "2 train_labels for 2 classes",
        ),
        (lambda: label_agreement.score(logits([0, 1], 2), [0], label_agreement.Config()), "2 logits, 1 sample_labels"),
        (lambda: label_agreement.score(logits([0, 1], 2), [0, 5], label_agreement.Config()), "from 0 to 5"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()
