"""The nearest pairs name the right records, look right for every kind of grid, and repeat byte for byte."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graded import stripes, write_image_samples, write_images, write_text_samples, write_texts
from PIL import Image

from genfoundry.config.specs import GridSpec
from genfoundry.core.io import publish_folder
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.evidence import Evidence
from genfoundry.evaluation.extraction.documents import Documents, read_documents
from genfoundry.evaluation.nearest import PAIRS, SAMPLES, write_nearest, write_pictures
from genfoundry.evaluation.nearest import write_texts as write_text_pairs
from genfoundry.modalities.common.media import GridMedia

BLUE = tuple(int(SAMPLES[place : place + 2], 16) for place in (1, 3, 5))


def flat(levels: np.ndarray) -> np.ndarray:
    return levels.reshape(len(levels), -1).astype(np.float64)


def grids(shape: tuple[int, ...], count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


def pairs_of(folder: Path, samples: np.ndarray, training: np.ndarray, held_out: np.ndarray) -> list[dict[str, Any]]:
    ids = [f"s{row}" for row in range(len(samples))], [f"t{row}" for row in range(len(training))]
    folder.mkdir()
    picture = GridMedia(GridSpec(channels=samples.shape[1], shape=samples.shape[2:])).picture
    write_pictures(folder, samples, training, flat(samples), flat(training), flat(held_out), *ids, picture)
    return list(json.loads((folder / "pairs.json").read_bytes())["pairs"])


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 8, 8), (4, 6, 6), (1, 40), (2, 40), (1, 3, 8, 8), (3, 3, 8, 8)], ids=str
)
def test_planted_copies_lead_the_pairs_of_any_grid(shape: tuple[int, ...], tmp_path: Path) -> None:
    training, samples, held_out = (grids(shape, count, seed) for seed, count in enumerate((60, 30, 20)))
    samples[7] = training[41]
    samples[3] = np.clip(training[12].astype(int) + 2, 0, 255)

    pairs = pairs_of(tmp_path / "a", samples, training, held_out)

    assert len(pairs) == PAIRS
    assert [(pair["sample"], pair["training"], pair["exact"]) for pair in pairs[:2]] == [
        ("s7", "t41", True),
        ("s3", "t12", False),
    ]
    assert pairs[0]["distance"] == pairs[0]["ratio"] == pairs[0]["held_out_share"] == 0
    assert all(0 < pair["ratio"] <= 1 and 0 <= pair["held_out_share"] <= 1 for pair in pairs[1:])
    gaps = np.sqrt(((flat(samples)[3] - flat(training)) ** 2).sum(axis=1))
    assert pairs[1]["next"] == f"t{np.argsort(gaps)[1]}"
    assert pairs[1]["distance"] == pytest.approx(gaps.min(), rel=1e-5)
    for name in ("pairs.png", "distances.png"):
        assert Image.open(tmp_path / "a" / name).convert("RGB").getcolors(10**6), "a picture that opens"


@pytest.mark.parametrize("frames", [0, 2])
def test_the_picture_shows_the_sample_beside_the_records(frames: int, tmp_path: Path) -> None:
    training, samples, held_out = (np.zeros((count, 1, 8, 8), np.uint8) for count in (12, 1, 6))
    training[:, 0, 0, 0] = np.arange(12) * 20
    training[5], training[6] = 255, 128
    samples[:] = 250
    held_out[:, 0, 0, 1] = np.arange(6) * 30

    if frames:  # of a video with two channels and black later frames the first is shown, in grey
        samples, training, held_out = (
            np.stack([levels, *[levels * 0] * frames], axis=2).repeat(2, axis=1)
            for levels in (samples, training, held_out)
        )
    pairs = pairs_of(tmp_path / "a", samples, training, held_out)
    picture = np.asarray(Image.open(tmp_path / "a/pairs.png").convert("L"))

    assert (pairs[0]["training"], pairs[0]["next"]) == ("t5", "t6")
    middle = picture[picture.shape[0] - 50]
    # Inches 0.1, 1.4 and 2.7 at 110 dots: sample, nearest and next.
    assert [int(middle[round(110 * (left + 0.45))]) for left in (0.1, 1.4, 2.7)] == [250, 255, 128]


def test_an_exact_copy_is_shown_even_where_features_take_another_for_it(tmp_path: Path) -> None:
    training, held_out = grids((1, 4, 4), 20, 0), grids((1, 4, 4), 9, 1)
    samples = training[[15]]
    features = flat(training)
    features[4] = features[15]  # the network can't tell record 4 from 15

    ids = ["s"], [f"t{row}" for row in range(20)]
    picture = GridMedia(GridSpec(channels=1, shape=(4, 4))).picture
    write_pictures(tmp_path, samples, training, features[[15]], features, flat(held_out), *ids, picture)

    pair = json.loads((tmp_path / "pairs.json").read_bytes())["pairs"][0]
    assert (pair["training"], pair["next"], pair["exact"]) == ("t15", "t4", True)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    training, samples, held_out = (grids((3, 8, 8), count, seed) for seed, count in enumerate((30, 12, 20)))

    for name in "ab":
        pairs_of(tmp_path / name, samples, training, held_out)

    for file in ("pairs.png", "pairs.json", "distances.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_two_training_records_are_enough(tmp_path: Path) -> None:
    pairs = pairs_of(tmp_path / "a", *(grids((1, 4, 4), count, count) for count in (3, 2, 1)))

    assert {pair["training"] for pair in pairs} <= {"t0", "t1"}


def documents_of(rows: list[list[int]]) -> Documents:
    stream = [token for row in rows for token in (0, *row)]
    return Documents(np.array(stream, np.uint16), np.cumsum([0, *(len(row) + 1 for row in rows)]), np.zeros(len(rows)))


def spell(tokens: list[int]) -> str:
    return " ".join(map(str, tokens))


def test_the_run_is_cut_out_of_both_texts(tmp_path: Path) -> None:
    training = documents_of([[9, 9], [1, 2, 3, 4, 5, 6], [7]])

    write_text_pairs(
        tmp_path, [[7, 8], [8, 2, 3, 4, 5, 8], [8]], training, [[2, 3], [5]], ["a", "b", "c"], ["x", "y", "z"], spell
    )

    assert json.loads((tmp_path / "pairs.json").read_bytes()) == {
        "kind": "texts",
        "pairs": [
            {
                "tokens": 4,
                "held_out_share": 0,
                "sample": {"id": "b", "before": "8", "run": "2 3 4 5", "after": "8"},
                "training": {"id": "y", "before": "0 1", "run": "2 3 4 5", "after": "6"},
            },
            {
                "tokens": 1,
                "held_out_share": 1,
                "sample": {"id": "a", "before": "", "run": "7", "after": "8"},
                "training": {"id": "z", "before": "0", "run": "7", "after": ""},
            },
        ],
    }
    assert (tmp_path / "distances.png").is_file()


def test_only_the_surroundings_of_a_run_are_shown_of_a_long_document(tmp_path: Path) -> None:
    training = documents_of([list(range(1, 300))])

    write_text_pairs(tmp_path, [[150, 151]], training, [], ["a"], ["x"], spell)

    pair = json.loads((tmp_path / "pairs.json").read_bytes())["pairs"][0]
    assert pair["training"]["before"] == spell(list(range(110, 150)))
    assert pair["training"]["after"] == spell(list(range(152, 192)))
    assert pair["held_out_share"] is None


def image_evidence(root: Path) -> Evidence:
    dataset, model = write_images(root), ModelPaths(root, "vae")
    train, test = (np.load(dataset.arrays / f"{split}.npy") for split in ("train", "test"))
    samples, _ = stripes(25, 9)
    samples[11] = train[33]
    write_image_samples(model, samples)
    with publish_folder(model.features) as folder:
        np.save(folder / "features.npy", flat(samples))
    with publish_folder(dataset.reference) as folder:
        np.save(folder / "train_features.npy", flat(train))
        np.save(folder / "test_features.npy", flat(test))
    return Evidence(model, dataset)


def test_pairs_of_an_image_model_from_its_files(tmp_path: Path) -> None:
    evidence = image_evidence(tmp_path)

    with publish_folder(tmp_path / "nearest") as folder:
        write_nearest(folder, evidence)

    pair = json.loads((tmp_path / "nearest/pairs.json").read_bytes())["pairs"][0]
    assert (pair["sample"], pair["training"], pair["exact"]) == ("vae/11", "train/33", True)
    assert {file.name for file in (tmp_path / "nearest").iterdir()} == {
        "pairs.png",
        "pairs.json",
        "distances.png",
        "manifest.json",
    }


def test_pairs_of_a_text_model_from_its_files(tmp_path: Path) -> None:
    dataset, model = write_texts(tmp_path), ModelPaths(tmp_path, "rnn")
    training = read_documents(dataset.arrays, "train")
    longest = int(np.diff(training.offsets).argmax())
    copied = training.tokens[training.offsets[longest] + 1 : training.offsets[longest + 1]].tolist()
    write_text_samples(model, [[1, 3, 5], copied, [2, 2]])

    with publish_folder(tmp_path / "nearest") as folder:
        write_nearest(folder, Evidence(model, dataset))

    pair = json.loads((tmp_path / "nearest/pairs.json").read_bytes())["pairs"][0]
    assert (pair["tokens"], pair["sample"]["id"], pair["training"]["id"]) == (len(copied), "rnn/1", f"train/{longest}")
    assert pair["sample"]["run"] == pair["training"]["run"] == spell(copied)
    assert BLUE in {
        colour for _, colour in Image.open(tmp_path / "nearest/distances.png").convert("RGB").getcolors(10**6)
    }


def test_a_model_without_samples_has_no_pairs(tmp_path: Path) -> None:
    evidence = Evidence(ModelPaths(tmp_path, "none"), DatasetPaths(tmp_path, "none"))

    with publish_folder(tmp_path / "nearest") as folder:
        write_nearest(folder, evidence)

    assert [file.name for file in (tmp_path / "nearest").iterdir()] == ["manifest.json"]
