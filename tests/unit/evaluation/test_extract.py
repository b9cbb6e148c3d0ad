"""Extraction: the same bytes from one process and from two, weights that must not change, work that must not hang."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from graded import Told, stripes, write_image_samples, write_images, write_text_samples, write_texts, write_untrained

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.reference import Reference
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import file_digest, folder_digest, read_json, read_table, verify_folder, write_json
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.core.processes import cores
from genfoundry.evaluation.extraction.documents import read_documents
from genfoundry.evaluation.extraction.embedding import reference_networks
from genfoundry.evaluation.extraction.extract import write_features
from genfoundry.evaluation.extraction.likelihood import RULES, Plan, document_nats
from genfoundry.evaluation.extraction.spread import Places, places, spread
from genfoundry.evaluation.networks import dinov2, domain, inception
from genfoundry.evaluation.networks._contract import identity
from genfoundry.evaluation.reference import write_reference
from genfoundry.generation.modelfile import load_model

ONE, TWO = (Execution(accelerator="cpu", devices=devices, threads=1) for devices in (1, 2))


# spreading


def named(suffix: str, device: str) -> Callable[[int], tuple[int, str, int]]:
    """Says what was done, where and by whom."""
    return lambda piece: (piece, f"{device}{suffix}", os.getpid())


def test_pieces_come_back_in_order_each_worker_taking_a_run_of_them() -> None:
    told: list[int] = []

    found = spread(partial(named, "!"), range(5), Places(("cpu", "cpu"), 1), told.append)

    assert [piece for piece, _, _ in found] == [0, 1, 2, 3, 4]
    assert {where for _, where, _ in found} == {"cpu!"}
    workers = [worker for _, _, worker in found]
    assert workers[0] == workers[1] != workers[2] == workers[4]
    assert os.getpid() not in workers
    assert sorted(told) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("pieces", "devices"), [(3, 1), (1, 2), (0, 2)])
def test_one_device_or_one_piece_needs_no_other_process(pieces: int, devices: int) -> None:
    threads = torch.get_num_threads()

    found = spread(partial(named, ""), range(pieces), Places(("cpu",) * devices, 3))

    assert [worker for _, _, worker in found] == [os.getpid()] * pieces
    assert torch.get_num_threads() == threads


def threads_of(device: str) -> Callable[[int], int]:
    return lambda piece: torch.get_num_threads()


@pytest.mark.parametrize("devices", [1, 2])
def test_each_process_has_the_threads_of_the_settings(devices: int) -> None:
    assert spread(threads_of, [0, 1], Places(("cpu",) * devices, 2)) == [2, 2]


def refusing(device: str) -> Callable[[int], int]:
    def work(piece: int) -> int:
        if piece == 3:
            raise DataError("row 3 is broken; fix it")
        time.sleep(300 if piece < 2 else 0)
        return piece

    return work


def test_an_error_of_one_process_ends_all_and_is_raised_as_it_was() -> None:
    started = time.monotonic()

    with pytest.raises(DataError, match="row 3 is broken"):
        spread(refusing, range(4), Places(("cpu", "cpu"), 1))
    assert time.monotonic() - started < 250, "did not wait for the one that sleeps"


class Odd(Exception):
    """Can't be unpickled: its arguments are not those of its message."""

    def __init__(self, where: str, value: int) -> None:
        super().__init__(f"{where} is {value}")


def odd(device: str) -> Callable[[int], int]:
    def work(piece: int) -> int:
        raise Odd("the piece", piece)

    return work


def test_an_error_that_can_not_travel_sends_its_words() -> None:
    with pytest.raises(RuntimeError, match=r"the piece is [01]"):
        spread(odd, range(2), Places(("cpu", "cpu"), 1))


def killed(device: str) -> Callable[[int], int]:
    def work(piece: int) -> int:
        if piece == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return piece

    return work


def test_a_process_that_is_killed_ends_the_work_with_the_reason() -> None:
    with pytest.raises(InfrastructureError, match="process on cpu ended by signal 9 before its work was done"):
        spread(killed, range(2), Places(("cpu", "cpu"), 1))


def test_devices_follow_the_settings() -> None:
    assert places(Execution(accelerator="cpu", threads=3)) == Places(("cpu",), 3)
    assert places(Execution(accelerator="cpu", devices=2, threads=1)) == Places(("cpu", "cpu"), 1)
    assert 1 <= places(Execution(accelerator="cpu")).threads <= cores()
    assert Places(("cuda:0", "cuda:1"), 1).kind == "cuda"
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no GPU"):
            places(Execution(accelerator="gpu"))


# the stage


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    """A model with more samples than a batch of the feature network holds."""
    root = tmp_path_factory.mktemp("images")
    dataset, paths = write_images(root), ModelPaths(root, "grids")
    write_reference(dataset, Reference(features=4, steps=20))
    write_untrained(paths, dataset, "vae", width=8, latent=2)
    write_image_samples(paths, stripes(2 * domain.BATCH + 30, seed=77)[0])
    return paths, dataset


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    root = tmp_path_factory.mktemp("texts")
    dataset, paths = write_texts(root), ModelPaths(root, "tokens")
    write_untrained(paths, dataset, "transformer", width=8, layers=1, heads=1, context=16)
    write_text_samples(paths, [[1, 2]])
    return paths, dataset


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_two_processes_write_the_bytes_of_one(kind: str, request: pytest.FixtureRequest) -> None:
    paths, dataset = request.getfixturevalue(kind)
    digests, told = [], Told()

    for execution in (ONE, TWO):
        write_features(Evaluation(batch=7), paths, dataset, told, execution)
        digests.append(folder_digest(paths.features))

    assert digests[0] == digests[1]
    assert told.names == ["images_per_second" if kind == "images" else "tokens_per_second"] * 2
    assert read_json(paths.features / "protocol.json")["device"] == {"kind": "cpu"}


def labelled(root: Path, labels: tuple[str, ...]) -> tuple[ModelPaths, DatasetPaths]:
    """A model that heeds labels, far from where it starts."""
    dataset, paths = write_texts(root, labels=labels), ModelPaths(root, "tokens")
    write_untrained(paths, dataset, "transformer", noise=0.3, width=8, layers=1, heads=1, context=16, conditional=True)
    write_text_samples(paths, [[1, 2]])
    return paths, dataset


def test_documents_are_scored_by_their_own_labels_on_any_number_of_processes(tmp_path: Path) -> None:
    paths, dataset = labelled(tmp_path, ("down", "up"))
    digests = []
    for execution in (ONE, TWO):
        write_features(Evaluation(batch=7), paths, dataset, Told(), execution)
        digests.append(folder_digest(paths.features))
    assert digests[0] == digests[1]

    model, documents = load_model(paths.model).model, read_documents(dataset.arrays, "test")
    found, rows = read_table(paths.features / "nats.parquet")["nats"], np.arange(40)
    for label in (0, 1):
        given = documents._replace(conditions={"label": np.full(40, label)})
        same = np.isclose(document_nats(model, given, Plan(16, 8), 7), found, rtol=1e-4)
        assert same.tolist() == (rows % 2 == label).tolist()
    assert read_json(paths.features / "protocol.json")["likelihood"] == {
        "window": 16,
        "stride": 8,
        **RULES,
        "given": ["label"],
    }


def test_a_label_means_its_name_also_where_the_data_number_it_otherwise(tmp_path: Path) -> None:
    """As when a champion is scored on data that got another class since."""
    paths, dataset = labelled(tmp_path / "old", ("down", "up"))
    write_features(Evaluation(), paths, dataset, Told(), ONE)
    new = write_texts(tmp_path / "new", labels=("down", "up"))
    spec = read_json(new.arrays / "spec.json") | {"labels": ["a third", "down", "up"]}
    write_json(new.arrays / "spec.json", spec)
    for split in ("train", "val", "test"):
        np.save(new.arrays / f"{split}_labels.npy", np.load(new.arrays / f"{split}_labels.npy") + 1)
    other = ModelPaths(tmp_path / "new", "tokens")
    for folder in ("model", "samples"):
        shutil.copytree(getattr(paths, folder), getattr(other, folder))
    write_features(Evaluation(), other, new, Told(), ONE)

    assert file_digest(other.features / "nats.parquet") == file_digest(paths.features / "nats.parquet")
    foreign = write_texts(tmp_path / "foreign", labels=("down", "sideways"))
    with pytest.raises(ConfigError, match="of a test record, label is 'sideways': the model knows down, up; train it"):
        write_features(Evaluation(), other, foreign, Told(), ONE)
    plain = write_texts(tmp_path / "plain")
    with pytest.raises(ConfigError, match="the model heeds label, which test records lack; train it on this data set"):
        write_features(Evaluation(), other, plain, Told(), ONE)


def test_features_are_those_of_the_whole_set_at_once(images: tuple[ModelPaths, DatasetPaths]) -> None:
    paths, dataset = images
    write_features(Evaluation(), paths, dataset, Told(), ONE)

    features, logits = domain.embed(domain.read_network(dataset.reference), np.load(paths.samples / "samples.npy"))

    assert logits is not None
    np.testing.assert_array_equal(np.load(paths.features / "features.npy"), features)
    np.testing.assert_array_equal(np.load(paths.features / "logits.npy"), logits)


def test_samples_of_another_shape_are_refused_before_any_process_starts(
    images: tuple[ModelPaths, DatasetPaths], tmp_path: Path
) -> None:
    paths, dataset = images
    other = ModelPaths(tmp_path, "other")
    write_untrained(other, dataset, "vae", width=8, latent=2)
    write_image_samples(other, np.zeros((5, 3, 8, 8), np.uint8))

    with pytest.raises(DataError, match=r"samples: uint8 \(5, 3, 8, 8\), but the feature network takes uint8"):
        write_features(Evaluation(), other, dataset, Told(), TWO)
    assert not other.features.exists()
    assert paths.features.parent.exists()


# published networks


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModelPaths, DatasetPaths]]:
    """A few images, and a reference that names an Inception-v3 of random weights by a path of the workspace."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "BATCH", 4)
        yield few(tmp_path_factory)


def few(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelPaths, DatasetPaths]:
    root = tmp_path_factory.mktemp("scored")
    torch.manual_seed(0)
    torch.save(inception.Inception().state_dict(), root / "inception.pth")
    dataset, paths = write_images(root, counts={"train": 6, "val": 4, "test": 5}), ModelPaths(root, "few")
    named = {"inception": {"weights": "inception.pth", "sha256": file_digest(root / "inception.pth")}}
    numbers = write_reference(dataset, Reference.model_validate({"features": 2, "steps": 2, "networks": named}))
    assert numbers["networks"]["inception"]["digest"] == named["inception"]["sha256"]
    write_untrained(paths, dataset, "vae", width=8, latent=2)
    write_image_samples(paths, stripes(3, seed=77)[0])
    return paths, dataset


def test_published_networks_stand_beside_the_data_sets_own(scored: tuple[ModelPaths, DatasetPaths]) -> None:
    paths, dataset = scored
    told = Told()

    write_features(Evaluation(), paths, dataset, told, ONE)

    kept = read_json(dataset.reference / "inception/network.json")
    assert kept.pop("options") == {"weights": "inception.pth", "sha256": kept["digest"]}
    assert read_json(paths.features / "protocol.json")["networks"] == {"inception": kept}
    assert kept["preprocessing"] == inception.PREPROCESSING
    assert np.load(paths.features / "inception_features.npy").shape == (3, 2048)
    assert np.load(paths.features / "inception_logits.npy").shape == (3, 1008)
    for split, count in (("train", 6), ("test", 5)):
        assert np.load(dataset.reference / f"inception/{split}_features.npy").shape == (count, 2048)
        assert np.load(dataset.reference / f"inception/{split}_logits.npy").shape == (count, 1008)
    assert told.names == ["images_per_second", "inception_images_per_second"]
    verify_folder(dataset.reference)


def test_weights_that_changed_since_the_reference_are_refused_by_name(scored: tuple[ModelPaths, DatasetPaths]) -> None:
    paths, dataset = scored
    file = dataset.root / "inception.pth"
    content = file.read_bytes()
    try:
        file.write_bytes(content + b"x")
        with pytest.raises(DataError, match=r"inception: its weights changed .* dvc repro --force reference@stripes"):
            write_features(Evaluation(), paths, dataset, Told(), ONE)
        file.unlink()
        with pytest.raises(ConfigError, match=r"networks.inception.weights' is 'inception\.pth': there is no file"):
            write_features(Evaluation(), paths, dataset, Told(), ONE)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("changed", ["model.safetensors", "config.json"])
def test_a_folder_of_transformers_must_stay_as_it_was(changed: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="extra pretrained is not installed")
    paths, folder = DatasetPaths(tmp_path, "any"), tmp_path / "dinov2"
    folder.mkdir()
    for name in ("model.safetensors", "config.json"):
        (folder / name).write_text("as it was")
    options = dinov2.Config(weights="dinov2")
    weights = dinov2.locate(options, tmp_path, tmp_path)
    kept = identity("dinov2", weights, 7, dinov2.preprocessing(weights))
    (paths.reference / "dinov2").mkdir(parents=True)
    domain.save(domain.make(domain.Layout(kind="pca", channels=1, shape=(2,), dimension=2, classes=0)), paths.reference)
    write_json(paths.reference / "dinov2/network.json", {**kept, "options": options.model_dump()})

    assert reference_networks(paths)[1].identity == kept
    (folder / changed).write_text("changed")
    with pytest.raises(DataError, match=r"dinov2: .* changed since the reference was made; .*reference@any"):
        reference_networks(paths)


def test_published_networks_are_for_images(tmp_path: Path) -> None:
    named = Reference.model_validate({"networks": {"inception": {"weights": "w.pth"}}})

    with pytest.raises(
        ConfigError, match=r"'datasets.counting.reference.networks' is inception: feature networks take"
    ):
        write_reference(write_texts(tmp_path), named)
