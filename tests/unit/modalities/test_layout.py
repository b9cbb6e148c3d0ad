"""Splits and labels by folders: the names that people use, where they stand, and what can't be told apart."""

import os
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from dataline import Line, save, smooth, write_jsonl

from genfoundry.core.errors import ConfigError, DataError
from genfoundry.modalities import code, image, text
from genfoundry.modalities.common.layout import layout, split_named

GENERATOR = np.random.default_rng(0)
PICTURE = smooth(GENERATOR, 8)


def pictures(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        save(folder / name, PICTURE)
    return folder


def given(source: Path, modality: str = "image", **ingest: object) -> dict[str, tuple[str, str]]:
    """(split, label) of each record by its id, - for none."""
    line = Line(source.parent / "out", modality, source, ingest=ingest).ingest()
    table = line.records()[["id", "split", "label"]].fillna("-")
    return {name: (split, label) for name, split, label in table.itertuples(index=False)}


def placed(names: Iterable[str], config: object = image.Ingest()) -> dict[str, str]:
    """Split and label of files with these names: ``{"Test/dog/1.png": "test dog"}``."""
    names = list(names)
    found = layout(names, config, "here")  # type: ignore[arg-type]
    return {name: f"{found.split(name) or '-'} {found.label(name) or '-'}" for name in names}


@pytest.mark.parametrize(
    "folders",
    [
        ("Train", "Valid", "Test"),
        ("TRAIN", "VAL", "TEST"),
        ("training", "validation", "testing"),
        ("training_set", "dev", "test_set"),
        ("trainset", "Validation-Set", "Test Set"),
    ],
)
def test_any_usual_name_in_any_case_is_a_split(tmp_path: Path, folders: tuple[str, str, str]) -> None:
    names = [f"{folder}/{label}/{number}.png" for folder in folders for label in ("cat", "dog") for number in range(2)]

    found = given(pictures(tmp_path / "raw", names))

    wanted = dict(zip(folders, ("train", "val", "test"), strict=True))
    assert found == {name: (wanted[name.split("/")[0]], name.split("/")[1]) for name in names}


TREES = {
    "split first": ("train/cat/1.png", "valid/dog/2.png", "test/cat/3.png"),
    "common folder": ("set/train/cat/1.png", "set/valid/dog/2.png", "set/test/cat/3.png"),
    "beside files": ("repo-main/README.png", "repo-main/Train/cat/1.png", "repo-main/Test/dog/3.png"),
    "two common folders": ("a/b/train/1.png", "a/b/val/2.png", "a/b/test/3.png"),
    "label first": ("cat/train/1.png", "cat/test/2.png", "dog/train/1.png", "dog/val/2.png"),
    "label first below": ("set/cat/Train/1.png", "set/dog/Train/1.png", "set/dog/Testing/2.png"),
}
SPLITS_OF = {
    "split first": ["train cat", "val dog", "test cat"],
    "common folder": ["train cat", "val dog", "test cat"],
    "beside files": ["- repo-main", "train cat", "test dog"],
    "two common folders": ["train -", "val -", "test -"],
    "label first": ["train cat", "test cat", "train dog", "val dog"],
    "label first below": ["train cat", "train dog", "test dog"],
}


@pytest.mark.parametrize("tree", TREES)
@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_a_tree_gives_the_same_as_a_folder_and_as_an_archive(tmp_path: Path, tree: str, ending: str) -> None:
    names, path = TREES[tree], tmp_path / f"set.{ending}"
    folder = pictures(tmp_path / "raw", names)
    (folder / "__MACOSX/train").mkdir(parents=True)
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "__MACOSX/train/junk.png").write_bytes(b"\0")
    if ending == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for file in sorted(folder.rglob("*")):
                archive.write(file, f"./{file.relative_to(folder)}")
    else:
        with tarfile.open(path, "w:gz" if ending == "tar.gz" else "w") as tar:
            tar.add(folder, ".")

    whole, packed = given(folder), given(path)

    assert [" ".join(whole[name]) for name in names] == SPLITS_OF[tree]
    assert packed == {f"set.{ending}/{name}": found for name, found in whole.items()}


def test_a_zip_made_on_windows_keeps_labels_and_splits(tmp_path: Path) -> None:
    names = ("set/Train/cat/1.png", "set/Train/dog/2.png", "set/Test/cat/3.png")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in names:
            archive.write(save(tmp_path / "1.png", smooth(GENERATOR, 8)), name.replace("/", "\\"))

    found = given(tmp_path / "set.zip")

    wanted = [("train", "cat"), ("train", "dog"), ("test", "cat")]
    assert found == {f"set.zip/{name}": what for name, what in zip(names, wanted, strict=True)}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        # Labels that have the name of a split: no second split stands beside them.
        (("prod/1.png", "test/1.png"), ["- prod", "- test"]),
        (("bus/1.png", "train/1.png", "truck/1.png"), ["- bus", "- train", "- truck"]),
        (("train/train/1.png", "train/bus/1.png", "test/train/1.png"), ["train train", "train bus", "test train"]),
        (("bus/train/1.png", "bus/test/1.png", "train/train/1.png"), ["train bus", "test bus", "train train"]),
        # One split alone, and one beside what has none.
        (("train/1.png",), ["train -"]),
        (("set/train/cat/1.png", "set/train/dog/1.png"), ["train cat", "train dog"]),
        (("test/cat/1.png", "cat/1.png", "dog/1.png"), ["test cat", "- cat", "- dog"]),
        (("train/cat/1.png", "test/cat/1.png", "docs/a.png", "b.png"), ["train cat", "test cat", "- docs", "- -"]),
        (("train/cat/1.png", "unlabeled/1.png"), ["train cat", "- unlabeled"]),
        # The same folder twice, as archives are packed; two folders of one split.
        (("training_set/training_set/cat/1.png", "test_set/test_set/cat/1.png"), ["train cat", "test cat"]),
        (("train/1.png", "valid/1.png", "dev/1.png"), ["train -", "val -", "val -"]),
        # Archives and tables by their names.
        (("train.zip", "Test.tar.gz"), ["train -", "test -"]),
        (("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test.parquet"),
         ["train -", "train -", "test -"]),
        (("train-00000-of-00001-a09b74b3ef9c3b56.parquet", "validation-00000-of-00001-01.parquet"),
         ["train -", "val -"]),
        (("cat/1.png", "cat/train.png", "cat/test.png"), ["- cat", "- cat", "- cat"]),
        (("trains/1.png", "contest/1.png", "Valparaiso/1.png"), ["- trains", "- contest", "- Valparaiso"]),
        # Labels that hold the word of a split, alone or among many others.
        (("train station/1.png", "bus/1.png"), ["- train station", "- bus"]),
        (("test tube/1.png", "query/1.png", "Oval/1.png"), ["- test tube", "- query", "- Oval"]),
        (("train/1.png", "private/1.png", "gallery/1.png"), ["- train", "- private", "- gallery"]),
        (("bullet train/1.png", "test tube/1.png", *(f"{letter}/1.png" for letter in "abcdefghijk")),
         ["- bullet train", "- test tube", *(f"- {letter}" for letter in "abcdefghijk")]),
        (("train/cat/1.png", "test/cat/1.png", "images/1.png", "data/1.png"),
         ["train cat", "test cat", "- images", "- data"]),
    ],
)  # fmt: skip
def test_what_a_tree_of_pictures_gives(names: tuple[str, ...], wanted: list[str]) -> None:
    assert list(placed(names).values()) == wanted


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (("train.jsonl", "valid.jsonl", "test.jsonl.gz", "README.md"), ["train", "val", "test", "-"]),
        (("ptb/train.txt", "ptb/valid.txt", "ptb/test.txt"), ["train", "val", "test"]),
        (("letters/a.txt", "test/b.txt"), ["-", "test"]),
        (("en/train/a.txt", "en/dev/b.txt", "de/train/c.txt"), ["train", "val", "train"]),
        (("a.txt", "test.txt", "train"), ["-", "-", "-"]),
        # Splits in different folders, as files as well as folders.
        (("en/train.jsonl", "de/test.jsonl"), ["train", "test"]),
        (("2019/train.txt", "2020/test.txt", "README.md"), ["train", "test", "-"]),
        (("en/train.jsonl", "en/test.jsonl", "de/train/a.jsonl"), ["train", "test", "train"]),
        # Documents by their titles.
        (("The Train.txt", "A test of time.txt", *(f"{letter}.txt" for letter in "abcdefghijk")), ["-"] * 13),
        (("x/train.txt", "y/test.txt", *(f"z/{letter}.txt" for letter in "abcdefghijk")), ["-"] * 13),
    ],
)
def test_what_a_tree_of_texts_gives(names: tuple[str, ...], wanted: list[str]) -> None:
    assert [found.split()[0] for found in placed(names, text.Ingest()).values()] == wanted


def test_tests_in_a_source_tree_are_no_split() -> None:
    tests = ("repo-main/src/a.py", "repo-main/test/b.py", "repo-main/setup.py", "repo-main/train.py")
    divided = ("train/repo/a.py", "test/repo/test/b.py")

    assert {found.split()[0] for found in placed(tests, code.Ingest()).values()} == {"-"}
    assert [found.split()[0] for found in placed(divided, code.Ingest()).values()] == ["train", "test"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train/1.png", "holdout/1.png"), "'train' and 'holdout' stand side by side in the source"),
        (("train/1.png", "test2/1.png"), "'train' and 'test2' .* ingest.split_names: .test2: test"),
        (("set/Train/a/1.png", "set/Test/a/1.png", "set/eval/1.png"), "'Train' and 'eval' .* in 'set'"),
        (("dog/train/1.png", "dog/hold-out/1.png", "cat/train/2.png"), "'train' and 'hold-out' .* in 'dog'"),
        (("train/cat/1.png", "train/dog/1.png", "queries/cat/1.png"), "'train' and 'queries'"),
        (("train2017/1.png", "val2017/1.png", "annotations/a.png"), "'val2017' and 'train2017' .* .train2017: train"),
        (("trainA/1.png", "trainB/1.png", "testA/1.png", "testB/1.png"), "'trainA' and 'testA'"),
        (("test/1.png", "train_images/1.png"), "'test' and 'train_images'"),
        (("train.zip", "testdata.zip"), "'train' and 'testdata'"),
        (("x/Data/train/1.png", "x/Data/val/1.png", "x/Sets/1.png"), "'train', 'val' in 'x/Data' are named as splits"),
        (("dog/train/1.png", "dog/test/1.png", "dog/3.png", "cat/train/4.png"), "in 'dog' are named as splits"),
        (("train_photos/a/1.png", "test_images/a/1.png"), "'train_photos' and 'test_images' stand side by side"),
        (("01_train/1.png", "02_val/1.png", "03_test/1.png"), "'02_val' and '01_train' .* .01_train: train"),
        (("1-training/1.png", "2-validation/1.png", "3-testing/1.png"), "'2-validation' and '1-training'"),
        (("train-clean-100/1.png", "dev-clean/1.png", "test-clean/1.png"), "'train-clean-100' and 'dev-clean'"),
        (("train-v1/1.png", "test-v2/1.png"), "'train-v1' and 'test-v2'"),
        (("train_2019/1.png", "val_2020/1.png"), "'val_2020' and 'train_2019'"),
        (("train80/1.png", "test20/1.png"), "'train80' and 'test20'"),
        (("ILSVRC2012_img_train_t3/1.png", "ILSVRC2012_img_val/1.png"), "'ILSVRC2012_img_train_t3'"),
        (("VOCtrainval/1.png", "VOCtest/1.png"), "'VOCtrainval' and 'VOCtest'"),
        (("trainval/1.png", "test/1.png"), "'test' and 'trainval' .* .trainval: train"),
        (("dogs_train/1.png", "cats_test/1.png"), "'dogs_train' and 'cats_test'"),
        (("train_a.zip", "test_b.zip"), "'train_a' and 'test_b'"),
        (("dog/a/train/1.png", "dog/test/1.png", "cat/train/1.png"), "'cat/train' and 'dog/test' are named as splits"),
        (("a/train_a/1.png", "b/test_b/1.png"), "'a/train_a' and 'b/test_b' stand in different folders"),
        (("train/cat/1.png", "predict/1.png"), "'train' and 'predict' stand side by side"),
        (("train/cat/1.png", "Query Images/1.png"), "'train' and 'Query Images' .* .Query Images: test"),
        (("train_photos/cat/1.png", "unseen/1.png"), "'train_photos' and 'unseen'"),
        (("dog/train/1.png", "dog/inference/1.png", "cat/train/1.png"), "'train' and 'inference' .* in 'dog'"),
        (("train.zip", "submission.zip"), "'train' and 'submission'"),
    ],
)
def test_what_only_looks_like_a_split_is_named(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=f"^here: .*{words}"):
        placed(names)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train_v1.jsonl", "test_v2.jsonl"), "'train_v1' and 'test_v2'"),
        (("a_train.jsonl", "b_test.jsonl"), "'b_test' and 'a_train'"),
        (("train_en.jsonl", "test_de.csv"), "'train_en' and 'test_de'"),
        (("train.jsonl", "pred.jsonl"), "'train' and 'pred'"),
        (("en/train_en.jsonl", "de/test_de.jsonl"), "'en/train_en' and 'de/test_de' stand in different folders"),
        (("en/train.jsonl", "de/test.jsonl", "de/notes.md"), "'en/train' and 'de/test' are named as splits"),
    ],
)
def test_tables_that_only_look_like_splits_are_named(names: tuple[str, ...], words: str) -> None:
    with pytest.raises(DataError, match=f"^here: .*{words}"):
        placed(names, text.Ingest())


def test_names_that_look_like_splits_are_settled_by_settings() -> None:
    names = ("train_photos/cat/1.png", "test_images/cat/1.png", "predict/1.png")
    config = image.Ingest(split_names={"train_photos": "train", "test_images": "test", "predict": "none"})
    labels = image.Ingest(split_names={"bullet train": "none"})

    assert list(placed(names, config).values()) == ["train cat", "test cat", "- -"]
    assert list(placed(("bullet train/1.png", "test tube/1.png"), labels).values()) == ["- bullet train", "- test tube"]


def test_a_folder_called_dev_among_others_is_asked_about() -> None:
    lists = ("lists/announce/1.txt", "lists/dev/2.txt", "lists/users/3.txt")

    with pytest.raises(DataError, match=r"'dev' is the name of a split, but .* ingest.split_names: \{dev: val\}"):
        placed(lists, text.Ingest())
    for split, wanted in (("none", ["-", "-", "-"]), ("val", ["-", "val", "-"])):
        config = text.Ingest(split_names={"dev": split})
        assert [found.split()[0] for found in placed(lists, config).values()] == wanted


def test_an_error_says_what_to_write_and_that_helps(tmp_path: Path) -> None:
    source = pictures(tmp_path / "raw", ("train/1.png", "holdout/2.png", "extra/3.png", "train_more/4.png"))

    with pytest.raises(DataError, match=r"raw: 'train' and 'holdout' .* ingest.split_names: \{holdout: test\}"):
        given(source)
    found = given(source, split_names={"Holdout": "test", "extra": "none", "train_more": "train"})

    assert [split for split, _ in found.values()] == ["-", "test", "train", "train"]
    with pytest.raises(ConfigError, match=r"split_names.holdout.*'train', 'val', 'test' or 'none'"):
        given(source, split_names={"holdout": "tset"})


def test_folders_and_columns_know_the_same_names(tmp_path: Path) -> None:
    parts = ["Training", "DEV", "test_set", "holdout", "spare", "other"]
    source = write_jsonl(tmp_path / "raw.jsonl", [{"text": part, "part": part} for part in parts])

    found = given(
        source, "text", split_column="part", split_names={"holdout": "test", "spare": "none"}, max_rejected=0.2
    )

    assert [split for split, _ in found.values()] == ["train", "val", "test", "test", "-"]
    assert split_named("held", {}) is None


def test_an_archive_of_another_split_than_its_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name, inside in (("train.zip", "train/cat"), ("test.zip", "training/cat")):
        with zipfile.ZipFile(tmp_path / "raw" / name, "w") as archive:
            archive.write(save(tmp_path / "1.png", PICTURE), f"{inside}/1.png")

    with pytest.raises(DataError, match=r"test.zip: its name gives split test, but training/cat/1.png in it"):
        given(tmp_path / "raw")


def test_a_folder_more_that_changes_the_splits_is_seen_by_the_cache(tmp_path: Path) -> None:
    """Files that stay are read again where other files make their folder a split."""
    from genfoundry.config.sections.execution import Execution
    from genfoundry.data.ingest import reading

    source = pictures(tmp_path / "raw", ("prod/1.png", "test/2.png"))
    line = Line(tmp_path / "out", "image", source)

    def splits() -> dict[str, str]:
        config, remembers = line.sections["ingest"], Execution(data_executor="serial", data_cache=1)
        reading.read_source(line.modality, source, config, line.paths, remembers)
        return dict(line.records()[["id", "split"]].dropna().itertuples(index=False))

    assert splits() == {} == splits()
    pictures(source, ("train/3.png",))
    assert splits() == {"test/2.png": "test", "train/3.png": "train"}


def test_what_points_elsewhere_is_named_and_links_to_files_are_read(tmp_path: Path) -> None:
    """A whole label may be a link to another disk: no record of it would be missed by any count."""
    source, elsewhere = pictures(tmp_path / "raw", ("cat/1.png",)), pictures(tmp_path / "far", ("1.png", "2.png"))
    (source / "cat/linked.png").symlink_to(elsewhere / "1.png")
    assert set(given(source)) == {"cat/1.png", "cat/linked.png"}

    (source / "dog").symlink_to(elsewhere)
    (source / "cat/broken.png").symlink_to(tmp_path / "gone.png")
    (source / "cat/circle.png").symlink_to("circle.png")
    os.mkfifo(source / "cat/pipe.png")
    (source / ".hidden").symlink_to(elsewhere)

    with pytest.raises(DataError) as caught:
        given(source)
    for name, why in (
        ("cat/broken.png", "a link to nothing"),
        ("cat/circle.png", "a link that leads nowhere"),
        ("cat/pipe.png", "a device, a socket or a pipe"),
        ("dog", "a link to a folder"),
    ):
        assert f"{name} ({why}" in str(caught.value)
    assert ".hidden" not in str(caught.value)
