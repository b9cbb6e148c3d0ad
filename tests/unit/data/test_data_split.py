"""The splits: drawn by content, sticky, and free of leaks."""

from pathlib import Path

import numpy as np
import pytest
from dataline import Line, save, smooth, words, write_jsonl

from genfoundry.config.sections.split import Split
from genfoundry.config.specs import Vectors
from genfoundry.core.errors import DataError
from genfoundry.core.io import read_table
from genfoundry.data.preprocess.splitting import assign, draw
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.data.similarity.descriptor import MIRROR
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.setjoin import Matches
from genfoundry.data.split import leakcheck, leaksearch
from genfoundry.data.split.leakcheck import nearest
from genfoundry.modalities import text
from genfoundry.modalities.common import shingles as _shingles
from genfoundry.modalities.image import edits as _edits

COLUMNS = {"split_column": "split", "id_column": "id", "label_column": "label"}


def line_of(tmp_path: Path, rows: list[tuple[str, str, str]], label: str = "", **split: object) -> Line:
    filler = [
        {"id": f"f{i}", "split": s, "text": words(np.random.default_rng(100 + i), 30)}
        for i, s in enumerate(("train", "val", "test") * 2)
    ]
    mine = [{"id": i, "split": s, "text": t} for i, s, t in rows]
    for row in filler:
        row["label"] = "common"
    for row in mine:
        row["label"] = label or "common"
    source = write_jsonl(tmp_path / "raw.jsonl", filler + mine)
    return Line(tmp_path, "text", source, ingest=COLUMNS, split=split).ingest().preprocess().deduplicate()


def test_a_draw_depends_on_content_and_salt_alone_and_has_the_asked_shares() -> None:
    names = [f"{number:064x}" for number in range(20_000)]
    drawn = [draw(name, Split(val=0.1, test=0.2)) for name in names]

    assert drawn.count("test") == pytest.approx(4000, abs=250) and drawn.count("val") == pytest.approx(2000, abs=200)
    assert draw("0" * 64, Split(salt="a")) == draw("0" * 64, Split(salt="a"))
    assert [draw(name, Split(val=0.1, test=0.2, salt="b")) for name in names] != drawn


def test_raising_a_share_moves_records_only_into_that_split() -> None:
    names = [f"{number:064x}" for number in range(5000)]
    moves = {(draw(n, Split(val=0.1, test=0.2)), draw(n, Split(val=0.2, test=0.2))) for n in names}

    assert moves == {("train", "train"), ("val", "val"), ("test", "test"), ("train", "val")}


def test_what_no_record_is_given_is_drawn_from_those_given_to_train() -> None:
    names = [f"{number:064x}" for number in range(2000)]
    config = Split(val=0.2, test=0.2)

    found = [assign("train", draw(name, config), {"train", "test"}) for name in names]

    assert set(found) == {"train", "val"} and found.count("val") == pytest.approx(400, abs=60)
    assert {assign("train", draw(name, config), {"train", "val", "test"}) for name in names} == {"train"}
    assert {assign("test", draw(name, config), {"train", "test"}) for name in names} == {"test"}
    assert [assign(None, draw(name, config), {"train"}) for name in names] == [draw(name, config) for name in names]


def test_a_given_split_wins(tmp_path: Path) -> None:
    line = line_of(tmp_path, [("mine", "val", words(np.random.default_rng(0), 40))], test=0.99, val=0.0)

    assert dict(zip(line.clean()["id"], line.clean()["split"], strict=True))["mine"] == "val"


def test_an_evaluation_record_inside_a_training_record_is_withheld(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    inner, half = words(generator, 50), words(generator, 50)
    rows = [
        ("book", "train", f"{words(generator, 200)} {inner} {half[: len(half) // 2]}"),
        ("quote", "test", inner),
        ("half", "test", half),
        ("around", "val", f"{inner} {words(generator, 100)}"),
    ]

    line = line_of(tmp_path, rows).split()

    aside = read_table(line.paths.splits / "withheld.parquet")
    assert aside.to_numpy().tolist() == [["quote", "test", "book", 1.0]]
    used = read_table(line.paths.splits / "ids.parquet")
    assert {"book", "half", "around"} < set(used["id"]) and "quote" not in set(used["id"])
    assert used["sha256"].is_monotonic_increasing
    report = line.report("split")
    assert report["withheld"] == {"test": 1, "val": 0} and report["leaks"] == 0
    assert 0.3 < report["largest_containment"] < 0.7
    assert "book" in (line.paths.reports / "split.html").read_text()


def test_the_check_finds_what_the_search_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = words(np.random.default_rng(2), 50)
    line = line_of(
        tmp_path, [("book", "train", f"{words(np.random.default_rng(3), 200)} {inner}"), ("quote", "test", inner)]
    )
    monkeypatch.setattr(leaksearch, "contained", lambda *args: Matches.of([]))

    with pytest.raises(DataError, match=r"1 evaluation records are like training records.*quote \(test\) in book"):
        line.split()
    assert not line.paths.splits.exists()
    assert "Leaks, then the closest pairs" in (line.paths.reports / "split.html").read_text()


def test_the_check_finds_similar_texts_and_pictures() -> None:
    generator = np.random.default_rng(4)
    texts = [words(generator, 100) for _ in range(6)]
    texts[5] = texts[0] + " tail"
    sets = _shingles.sets(texts)

    found = nearest(sets, np.array([4, 5]), np.array([0, 1, 2, 3]), Rule(0.8), 1.0)

    assert found.leaks.tolist() == [False, True] and found.row[1] == 0
    assert found.score[1] == pytest.approx(96 / 97)

    levels = np.stack([smooth(generator) for _ in range(5)])
    levels[4] = _edits.brighter(levels[1], generator)
    vectors = _descriptor.describe(levels)
    found = nearest(vectors, np.array([3, 4]), np.array([0, 1, 2]), Rule(0.95, 0.9), 1.0)
    assert found.leaks.tolist() == [False, True] and found.row[1] == 1


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("floor", [-1.0, 0.3, 0.9])
def test_the_check_of_pictures_is_that_of_every_pair(
    monkeypatch: pytest.MonkeyPatch, mirror: bool, floor: float
) -> None:
    monkeypatch.setattr(leakcheck, "COLUMNS", 16)
    monkeypatch.setattr(leakcheck, "PAIRS", 50)
    monkeypatch.setattr(leakcheck, "BLOCK", 8)
    generator = np.random.default_rng(6)
    vectors = generator.normal(size=(120, len(MIRROR))).astype(np.float32)
    vectors[70:90] = vectors[:20] + 0.3 * generator.normal(size=(20, len(MIRROR)))
    vectors[90:100], vectors[100:110] = vectors[30:40] * MIRROR, vectors[30:40]  # ties: the first one counts
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[119] = 0
    training, evaluation = generator.permutation(60), np.arange(60, 120)

    prints = Vectors(vectors, np.empty((120, 0, 0, 0), np.uint8))
    found = nearest(prints, evaluation, training, Rule(0.9, floor, mirror), 1.0)

    exact = vectors.astype(np.float64)
    every = exact[evaluation] @ exact[training].T
    if mirror:
        every = np.maximum(every, (exact * MIRROR)[evaluation] @ exact[training].T)
    every = np.round(every, 6)
    np.testing.assert_array_equal(found.row, training[every.argmax(axis=1)])
    np.testing.assert_array_equal(found.score, every.max(axis=1))
    np.testing.assert_array_equal(found.leaks, (every >= 0.9).any(axis=1))
    assert 10 <= found.leaks.sum() <= 40


def test_a_split_too_small_or_a_label_never_trained_on_fails(tmp_path: Path) -> None:
    line = line_of(tmp_path, [("odd", "test", words(np.random.default_rng(5), 40))], label="rare", min_records=3)

    with pytest.raises(DataError) as caught:
        line.split()

    assert "split train has 2 records, needs split.min_records = 3" in str(caught.value)
    assert "split val has 2 records" in str(caught.value) and "split test" not in str(caught.value)
    assert "labels of test records that no training record has: rare" in str(caught.value)


def test_pictures_have_no_containment(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    for number in range(60):
        save(tmp_path / f"raw/{number % 2}/{number}.png", smooth(generator))

    line = (
        Line(tmp_path, "image", tmp_path / "raw", split={"test": 0.3, "val": 0.2})
        .ingest()
        .preprocess()
        .deduplicate()
        .split()
    )

    assert len(read_table(line.paths.splits / "withheld.parquet")) == 0
    assert sum(line.report("split")["records"].values()) == 60
    assert text.Dedup().threshold == 0.8
