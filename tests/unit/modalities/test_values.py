"""Values that name something: one spelling for each, null for missing ones, in every reader."""

import json
import math
import unicodedata
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataline import Line, smooth, words, write_jsonl

from genfoundry.core.errors import DataError
from genfoundry.data.ingest import sources
from genfoundry.modalities.common import values
from genfoundry.modalities.image.pixels import png

E_ACUTE = "caf\u00e9"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        (7.0, "7"),
        (-0.0, "0"),
        (7.5, "7.5"),
        (np.float32(7), "7"),
        (np.int64(7), "7"),
        (np.str_("x"), "x"),
        (Decimal("7.00"), "7"),
        (Decimal("7.50"), "7.5"),
        (Decimal("1E+2"), "100"),
        (2.0**53 - 1, "9007199254740991"),
        (Decimal(f"0.{'1' * 60}0"), f"0.{'1' * 60}"),
        (True, "true"),
        (np.False_, "false"),
        *[(truth, truth.lower()) for truth in ("True", "False", "TRUE", "FALSE", "true", "false")],
        ("7.0", "7"),
        (f"{'7' * 5000}.0", "7" * 5000),
        ("-7.00", "-7"),
        ("-0.0", "0"),
        ("007.0", "007"),
        *[(same, same) for same in ("007", "1.10", "7.", "none", "-", "1.0.0", "v1.0", "nan", "tRUE", "\u0667.\u0660")],
        (np.float32(0.1), "0.1"),
        (np.float16(0.1), "0.1"),
        (np.float32(2**24 - 1), "16777215"),
        (b"caf\xc3\xa9", E_ACUTE),
        ("cafe\u0301", E_ACUTE),
        (" x y\u00a0", "x y"),
        (datetime(2024, 5, 1, 12, tzinfo=UTC), "2024-05-01T12:00:00+00:00"),
        (pd.Timestamp("2024-05-01"), "2024-05-01T00:00:00"),
        (date(2024, 5, 1), "2024-05-01"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        *[(missing, None) for missing in (None, "", " \n", b"", math.nan, np.float32("nan"), Decimal("NaN"))],
        *[(missing, None) for missing in (pd.NA, pd.NaT, np.datetime64("NaT"))],
    ],
)
def test_a_value_has_one_spelling(value: object, text: str | None) -> None:
    assert values.canonical(value) == text
    assert values.canonical(text) == text
    assert bool(values.kind(value)) == (text is not None)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"caf\xe9", "not_utf8"),
        ("\ud83d", "not_utf8"),
        (["a"], "no_value"),
        ({"a": 1}, "no_value"),
        (np.array([1]), "no_value"),
        (2.0**53, "inexact"),
        (np.float32(2**24), "inexact"),
        (np.float16(2**11), "inexact"),
        (math.inf, "not_finite"),
        (np.float32(-math.inf), "not_finite"),
        (Decimal("Infinity"), "not_finite"),
        (-1e18, "inexact"),
    ],
)
def test_what_names_nothing_is_odd(value: object, reason: str) -> None:
    with pytest.raises(values.Odd) as caught:
        values.canonical(value)
    assert caught.value.args[0] == reason


def test_texts_of_a_missing_value_are_no_value() -> None:
    assert [values.canonical(text, values.MISSING) for text in (*values.MISSING, " nan ")] == [None] * 8
    for name in ("NA", "NULL", "null", "N/A", "none", "NONE", "Nan"):
        assert values.canonical(name, values.MISSING) == name


def texts(count: int) -> list[str]:
    generator = np.random.default_rng(7)
    return [words(generator, 30) for _ in range(count)]


def as_csv(path: Path, column: pd.Series) -> None:
    pd.DataFrame({"text": texts(len(column)), "who": column}).to_csv(f"{path}.csv", index=False)


def as_tsv(path: Path, column: pd.Series) -> None:
    pd.DataFrame({"text": texts(len(column)), "who": column}).to_csv(f"{path}.tsv", index=False, sep="\t")


def as_jsonl(path: Path, column: pd.Series) -> None:
    write_jsonl(Path(f"{path}.jsonl"), [{"text": t, "who": w} for t, w in zip(texts(len(column)), column, strict=True)])


def as_parquet(path: Path, column: pd.Series) -> None:
    pd.DataFrame({"text": texts(len(column)), "who": column}).to_parquet(f"{path}.parquet")


WRITERS = pytest.mark.parametrize("write", [as_csv, as_tsv, as_jsonl, as_parquet])


def source(tmp_path: Path, write: Callable[[Path, pd.Series], None], *columns: pd.Series) -> Path:
    (tmp_path / "raw").mkdir()
    for number, column in enumerate(columns):
        write(tmp_path / f"raw/{number}", column)
    return tmp_path / "raw"


def read(raw: Path, **ingest: object) -> Line:
    return Line(raw.parent / "out", "text", raw, ingest={"max_rejected": 1.0, **ingest}).ingest()


@WRITERS
def test_authors_of_whole_and_of_gapped_files_are_the_same(
    tmp_path: Path, write: Callable[[Path, pd.Series], None]
) -> None:
    """One gap makes pandas write 7 as 7.0: the author was in training and in test, and no check saw it."""
    raw = source(tmp_path, write, pd.Series(range(30)), pd.Series([*range(29), math.nan]))

    table = read(raw, group_column="who", label_column="who").records()

    for column in ("group", "label"):
        assert set(table[column].dropna()) == {str(number) for number in range(30)}
        assert table[column].isna().sum() == 1


@WRITERS
def test_ids_are_compared_as_the_numbers_that_they_are(
    tmp_path: Path, write: Callable[[Path, pd.Series], None]
) -> None:
    raw = source(tmp_path, write, pd.Series([1, 2]), pd.Series([2.0, 3.0, math.nan]))

    line = read(raw, id_column="who")

    assert list(line.records()["id"]) == ["1", "2", "3"]
    assert sorted(line.rejected().values()) == ["duplicate_id", "no_id"]


@WRITERS
def test_composed_and_decomposed_letters_are_one_value(
    tmp_path: Path, write: Callable[[Path, pd.Series], None]
) -> None:
    raw = source(tmp_path, write, pd.Series([E_ACUTE, unicodedata.normalize("NFD", E_ACUTE), "tea"]))

    line = read(raw, label_column="who", group_column="who")

    assert line.report("ingest")["labels"]["records"] == {E_ACUTE: 2, "tea": 1}
    assert line.records()["group"].nunique() == 2
    assert read(raw, id_column="who").rejected() == {E_ACUTE: "duplicate_id"}


def test_a_folder_is_the_label_in_either_normal_form(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    for form in ("NFC", "NFD"):
        folder = tmp_path / "raw" / unicodedata.normalize(form, E_ACUTE)
        folder.mkdir(parents=True)
        (folder / f"{form}.png").write_bytes(png(smooth(generator)))

    assert list(Line(tmp_path, "image", tmp_path / "raw").ingest().records()["label"]) == [E_ACUTE, E_ACUTE]


def test_a_group_folder_of_code_is_one_in_either_normal_form(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        folder = tmp_path / "raw" / unicodedata.normalize(form, E_ACUTE)
        folder.mkdir(parents=True)
        (folder / "a.py").write_text(f"{form} = 1\n")

    records = Line(tmp_path, "code", tmp_path / "raw", ingest={"group_folders": 1}).ingest().records()

    assert list(records["group"]) == [E_ACUTE, E_ACUTE]


def test_unknown_authors_are_no_group(tmp_path: Path) -> None:
    raw = source(tmp_path, as_jsonl, pd.Series([*range(20), *[math.nan] * 10]))

    with pytest.raises(DataError, match=r"10 of 30 records have no group"):
        Line(tmp_path, "text", raw, ingest={"group_column": "who"}, split={"by": "group"}).ingest().preprocess()


@WRITERS
def test_the_words_for_a_missing_value_are_a_setting(tmp_path: Path, write: Callable[[Path, pd.Series], None]) -> None:
    """``nan`` is also the code of a language, Min Nan, and ``NULL`` what a database writes."""
    raw = source(tmp_path, write, pd.Series(["nan", "NULL", "<NA>", "de"]))

    assert set(read(raw, label_column="who").records()["label"].dropna()) == {"NULL", "de"}
    assert set(read(raw, label_column="who", missing=["NULL", "<NA>"]).records()["label"].dropna()) == {"nan", "de"}


SPELLINGS = {
    "whole numbers as text": (pd.Series(["1.0", "2.0"]), pd.Series(["1", "2"]), {"1", "2"}),
    "truth": (pd.Series([True, False]), pd.Series([True, False], dtype=object), {"true", "false"}),
    "gaps as text": (pd.Series([1.0, None]).astype(str), pd.Series(["1", None]).astype(object), {"1"}),
    "a gap as None": (pd.Series(["a", "None"]), pd.Series(["a", "<NA>"]), {"a"}),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("second", [as_csv, as_jsonl, as_parquet])
@WRITERS
def test_readers_agree_on_a_value(
    tmp_path: Path, write: Callable[[Path, pd.Series], None], second: Callable[[Path, pd.Series], None], spelling: str
) -> None:
    (tmp_path / "raw").mkdir()
    for name, writer, column in zip("ab", (write, second), SPELLINGS[spelling][:2], strict=True):
        writer(tmp_path / "raw" / name, column)

    table = read(tmp_path / "raw", label_column="who", group_column="who").records()

    for column in ("label", "group"):
        assert set(table[column].dropna()) == SPELLINGS[spelling][2]


def test_json_and_cells_agree_on_truth(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.csv").write_text("text,who\nfirst,true\nsecond,FALSE\n")
    write_jsonl(tmp_path / "raw/b.jsonl", [{"text": "third", "who": True}, {"text": "fourth", "who": False}])

    assert list(read(tmp_path / "raw", label_column="who").records()["label"]) == ["true", "false"] * 2


@pytest.mark.parametrize(("modality", "content"), [("text", "text"), ("image", "image")])
def test_floats_of_32_bits_are_the_numbers_of_64(tmp_path: Path, modality: str, content: str) -> None:
    generator = np.random.default_rng(5)
    made = {"text": texts(3), "image": [png(smooth(generator)) for _ in range(3)]}
    (tmp_path / "raw").mkdir()
    for name, kind in {"a": pa.float16(), "b": pa.float32(), "c": pa.float64()}.items():
        large = np.inf if kind == pa.float16() else 2**25
        column = pa.array(np.asarray([0.1, 7, large], kind.to_pandas_dtype()), kind)
        pq.write_table(pa.table({content: made[content], "label": column}), tmp_path / f"raw/{name}.parquet")

    config = {"label_column": "label", "max_rejected": 1.0}
    line = Line(tmp_path, modality, tmp_path / "raw", ingest=config).ingest()

    assert list(line.records()["label"]) == ["0.1", "7", "0.1", "7", "0.1", "7", "33554432"]
    assert line.rejected() == {"a.parquet#3": "not_finite", "b.parquet#3": "inexact"}


def test_an_infinite_id_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text(
        '{"text": "a", "id": 1e400}\n{"text": "b", "id": 1}\n{"text": "c", "id": -Infinity}'
    )

    line = read(tmp_path / "raw.jsonl", id_column="id")

    assert list(line.records()["id"]) == ["1"]
    assert line.rejected() == {"raw.jsonl#1": "not_finite", "raw.jsonl#3": "not_finite"}


def test_missing_texts_in_tables_of_pictures_are_no_label(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    pictures = [png(smooth(generator)) for _ in range(4)]
    table = pa.table({"image": pictures, "label": ["nan", "None", "cat", "NA"]})
    (tmp_path / "raw").mkdir()
    pq.write_table(table, tmp_path / "raw/a.parquet")

    def labels(**ingest: object) -> list[str]:
        line = Line(tmp_path, "image", tmp_path / "raw", ingest={"label_column": "label", **ingest}).ingest()
        return list(line.records()["label"].fillna("-"))

    assert labels() == ["-", "-", "cat", "NA"]
    assert labels(missing=["NA"]) == ["nan", "None", "cat", "-"]


NAMES = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}}}


def hugging_face(path: Path, content: str, labels: list[object]) -> Path:
    generator = np.random.default_rng(5)
    made = {"text": texts(len(labels)), "image": [png(smooth(generator)) for _ in labels]}
    table = pa.table({content: made[content], "label": labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(NAMES)}), path)
    return path


@pytest.mark.parametrize(("modality", "content"), [("text", "text"), ("image", "image")])
def test_classes_have_names_and_a_negative_number_is_none(tmp_path: Path, modality: str, content: str) -> None:
    raw = tmp_path / "raw"
    hugging_face(raw / "0.parquet", content, [0, 1, -1, -100, 2])
    hugging_face(raw / "1.parquet", content, [1.0, None, math.nan])

    line = Line(tmp_path, modality, raw, ingest={"label_column": "label", "max_rejected": 1.0}).ingest()

    assert line.records()["label"].astype(object).where(line.records()["label"].notna(), None).tolist() == [
        "cat",
        "dog",
        None,
        None,
        "dog",
        None,
        None,
    ]
    assert line.rejected() == {"0.parquet#5": "unknown_class"}


def test_files_that_disagree_on_what_a_column_holds_are_refused(tmp_path: Path) -> None:
    """A class number beside class names, in files that a later run reads from the cache."""
    raw = tmp_path / "raw"
    hugging_face(raw / "0.parquet", "text", [0, 1])
    pd.DataFrame({"text": texts(2), "label": [0, 1]}).to_parquet(raw / "1.parquet")

    for _ in range(2):
        with pytest.raises(DataError, match=r"'label' holds text in 0\.parquet, but number in 1\.parquet; write it"):
            read(raw, label_column="label")
    assert len(read(raw).records()) == 4


def test_files_that_disagree_are_found_over_units_and_in_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "UNIT", 1)
    raw = source(tmp_path, as_jsonl, pd.Series([1, 2]), pd.Series(["a", 1]), pd.Series([True, False]))

    with pytest.raises(DataError, match=r"'who' holds number in 0\.jsonl, but truth value in 2\.jsonl"):
        read(raw, group_column="who")
    for name, labels in (("p", ["1", "2"]), ("q", [1, 2])):
        pictures = [png(smooth(np.random.default_rng(1))) for _ in labels]
        (tmp_path / "pictures").mkdir(exist_ok=True)
        pq.write_table(pa.table({"image": pictures, "label": labels}), tmp_path / f"pictures/{name}.parquet")
    with pytest.raises(DataError, match=r"'label' holds text in p\.parquet, but number in q\.parquet"):
        Line(tmp_path, "image", tmp_path / "pictures", ingest={"label_column": "label"}).ingest()
    for file in (tmp_path / "pictures").iterdir():
        pq.write_table(pq.read_table(file).rename_columns(["image", "named"]), file)
    with pytest.raises(DataError, match=r"'named' holds text in p\.parquet, but number in q\.parquet"):
        Line(tmp_path, "image", tmp_path / "pictures", ingest={"fact_columns": ["named"]}).ingest()


@pytest.mark.parametrize("kind", ["latin1.csv", "surrogate.jsonl", "bytes.parquet", "list.jsonl"])
@pytest.mark.parametrize("column", ["label", "group", "id", "split", "source", "license", "time"])
def test_one_odd_value_rejects_its_record(tmp_path: Path, kind: str, column: str) -> None:
    usual = "train" if column == "split" else "k"
    names = [usual if column in ("split", "label") else f"k{number}" for number in range(6)]
    raw = tmp_path / kind
    if raw.suffix == ".csv":
        rows = [f"{text},{name}\n".encode() for text, name in zip(texts(6), names, strict=True)]
        rows[2] = rows[2].rstrip() + b"\xe9\n"
        raw.write_bytes(b"text,who\n" + b"".join(rows))
    elif raw.suffix == ".jsonl":
        odd = "\ud83d" if kind.startswith("surrogate") else ["a", "b"]
        rows = [{"text": text, "who": name} for text, name in zip(texts(6), names, strict=True)]
        write_jsonl(raw, [*rows[:2], {**rows[2], "who": odd}, *rows[3:]])
    else:
        cells = [name.encode() for name in names]
        pq.write_table(pa.table({"text": texts(6), "who": [*cells[:2], b"caf\xe9", *cells[3:]]}), raw)

    line = read(raw, **{f"{column}_column": "who"})

    if column == "license" and kind == "list.jsonl":
        assert "a, b" in set(line.records()[column])  # code often comes under several
        return
    assert list(line.rejected().values()) == ["no_value" if kind == "list.jsonl" else "not_utf8"]
    assert set(line.records()[column]) == {*names[:2], *names[3:]}


@pytest.mark.parametrize(("modality", "content"), [("text", "text"), ("image", "image")])
def test_a_value_of_parquet_that_python_cannot_hold_rejects_its_record(
    tmp_path: Path, modality: str, content: str
) -> None:
    """Parquet does not check that a text is UTF-8, and its times go beyond the year 9999."""
    broken = pa.array([b"a", b"b", b"caf\xe9", b"c"]).view(pa.string())
    far = pa.array([0, 10**18, 0, 0], pa.timestamp("us"))
    generator = np.random.default_rng(5)
    made = {"text": texts(4), "image": [png(smooth(generator)) for _ in range(4)]}
    pq.write_table(pa.table({content: made[content], "who": broken, "when": far}), tmp_path / "raw.parquet")
    more = {"time_column": "when"} if modality == "text" else {"fact_columns": ["when"]}

    config = {"label_column": "who", "max_rejected": 1.0, **more}
    line = Line(tmp_path, modality, tmp_path / "raw.parquet", ingest=config).ingest()

    assert line.rejected() == {"raw.parquet#2": "no_value", "raw.parquet#3": "not_utf8"}
    assert list(line.records()["label"]) == ["a", "c"]
