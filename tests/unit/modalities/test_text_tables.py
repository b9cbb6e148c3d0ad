"""Text in tables: quotes in TSV, names of columns that are wrong or doubled."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataline import Line, smooth, words, write_jsonl

from genfoundry.core.errors import DataError
from genfoundry.modalities.image.pixels import png


def read(source: Path, modality: str = "text", **config: object) -> Line:
    return Line(source.parent / "out", modality, source, ingest={"max_rejected": 1.0, **config}).ingest()


def sentences(count: int) -> list[str]:
    """Quotations over two sentences among others: every fourth sentence opens one, the next closes it."""
    generator = np.random.default_rng(11)
    plain = [words(generator, 12) for _ in range(count)]
    return [f'"{text}' if number % 4 == 0 else text + '"' * (number % 4 == 1) for number, text in enumerate(plain)]


OTHERS = {
    "number": [str(number) for number in range(60)],
    "label": [("pos", "neg", "neutral")[number % 3] for number in range(60)],
    "name": [f"doc-{number}" for number in range(60)],
    "translation": [f"{number} mots traduits" for number in range(60)],
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("first", [True, False])
def test_a_quote_in_tsv_is_a_character(tmp_path: Path, other: str, first: bool) -> None:
    rows = list(zip(sentences(60), OTHERS[other], strict=True))
    lines = ["\t".join(row if first else row[::-1]) for row in [("text", other), *rows]]
    (tmp_path / "raw.tsv").write_text("\n".join(lines) + "\n")

    line = read(tmp_path / "raw.tsv", label_column=other)

    assert list(line.records()["content"]) == sentences(60) and not line.rejected()
    assert list(line.records()["label"]) == OTHERS[other]


def quoted(rows: list[tuple[str, ...]], quoting: int = csv.QUOTE_MINIMAL) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "cell\tand\nline",
        "line\nand\tcell",
        "a\tb\tc\nd",
        "first line\n\tand indented",
        'he said "so"\nthen left',
        "a\n\nb",
    ],
)
@pytest.mark.parametrize("columns", [("text", "label"), ("label", "text"), ("number", "text")])
def test_a_cell_of_tsv_that_was_quoted_over_lines_is_an_error(
    tmp_path: Path, text: str, columns: tuple[str, ...]
) -> None:
    """Its pieces would be rows, some of them without a word."""
    held = {**OTHERS, "text": [text if number == 20 else f"plain {number}" for number in range(60)]}
    rows = list(zip(*(held[column] for column in columns), strict=True))
    (tmp_path / "raw.tsv").write_text(quoted([columns, *rows]))

    with pytest.raises(DataError, match=r"raw\.tsv: lines 22 to 2\d look like one cell in quotes.*ingest\.quoting to"):
        read(tmp_path / "raw.tsv")
    assert list(read(tmp_path / "raw.tsv", quoting=True).records()["content"]) == held["text"]
    assert len(read(tmp_path / "raw.tsv", quoting=False).records()) >= 59


def test_a_table_with_quotes_around_all_cells_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "raw.tsv").write_text(quoted([("text",), ("words",)], csv.QUOTE_ALL))

    with pytest.raises(DataError, match=r"no column 'text' among '\"text\"'.*its cells are quoted: set ingest"):
        read(tmp_path / "raw.tsv")
    assert list(read(tmp_path / "raw.tsv", quoting=True).records()["content"]) == ["words"]


def test_csv_may_be_without_quotes(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text('text,label\n"opened,a\nclosed",b\nplain,c\n')

    assert list(read(tmp_path / "raw.csv", quoting=False).records()["content"]) == ['"opened', 'closed"', "plain"]


def test_an_open_quote_in_tsv_takes_neither_memory_nor_rows(tmp_path: Path) -> None:
    rows = [f"{number}\twords {number}" for number in range(5000)]
    rows[3] = '3\t"opened and never closed'
    rows[4000] = '4000\ta 5" pipe'
    (tmp_path / "raw.tsv").write_text("\n".join(["number\ttext", *rows]) + "\n")

    assert len(read(tmp_path / "raw.tsv").records()) == 5000


KEYS = ["label", "split", "id", "license", "source", "time", "group"]


@pytest.mark.parametrize("key", ["text", *KEYS])
def test_a_key_that_no_object_of_a_file_has_is_refused(tmp_path: Path, key: str) -> None:
    """A misspelt split_column let 16 of 20 test records train."""
    rows = [{"text": f"words {number}", **dict.fromkeys(KEYS, "train"), "id": str(number)} for number in range(5)]
    source = write_jsonl(tmp_path / "raw/b.jsonl", rows)
    # One object of a file is enough, and a file without objects has nothing to lack.
    write_jsonl(tmp_path / "raw/a.jsonl", [{}, {"text": "more words", "typo": "x", **dict.fromkeys(KEYS, "val")}])
    (tmp_path / "raw/c.jsonl").write_text("\nno object\n")

    with pytest.raises(DataError, match=rf"b\.jsonl: has no column 'typo' among 'text', 'label', .*{key}_column"):
        read(source.parent, **{f"{key}_column": "typo"})
    assert len(read(source.parent, **{f"{key}_column": key}).records()) == 6


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"text;label\na b;x\n", "its cells are separated by ';': save it with commas as .csv"),
        ("text,label\na b,x\n".encode("utf-16"), "it is UTF-16, as a spreadsheet writes it: save it as UTF-8"),
        (b"texd,label\na b,x\n", "has no column 'text' among 'texd', 'label'; name the right one"),
    ],
)
def test_what_a_spreadsheet_wrote_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "raw.csv").write_bytes(content)

    with pytest.raises(DataError, match=re.escape(said)):
        read(tmp_path / "raw.csv")


def test_a_byte_of_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_bytes("text\nschön ist es hier\n".encode("cp1252"))

    with pytest.raises(DataError, match=r"character 3 is the byte 0xf6, no UTF-8 text; save the file as UTF-8"):
        read(tmp_path / "raw.csv")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    """The last one was taken."""
    (tmp_path / "raw.csv").write_text("id,text,text\n1,original,translated\n")
    (tmp_path / "raw.tsv").write_text("text\tnote\tnote\noriginal\t1\t2\n")
    (tmp_path / "blank.csv").write_text("text,,\noriginal,,\n")
    texts = pa.table([["original"], ["translated"]], names=["text", "text"])
    pq.write_table(texts, tmp_path / "raw.parquet")
    pixels = [png(smooth(np.random.default_rng(1)))]
    pq.write_table(pa.table([pixels, pixels], names=["image", "image"]), tmp_path / "pictures.parquet")

    for name, column in (("raw.csv", "'text'"), ("raw.tsv", "'note'"), ("raw.parquet", "'text'")):
        with pytest.raises(DataError, match=rf"{name}: has more than one column {column}; rename all but one"):
            read(tmp_path / name)
    with pytest.raises(DataError, match=r"pictures\.parquet: has more than one column image"):
        read(tmp_path / "pictures.parquet", "image")
    assert list(read(tmp_path / "blank.csv").records()["content"]) == ["original"]


def test_an_object_with_a_key_twice_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "raw.jsonl").write_text('{"text": "a", "text": "b"}\n{"text": "c", "more": {"x": 1, "x": 2}}\n')

    line = read(tmp_path / "raw.jsonl")

    assert line.rejected() == {"raw.jsonl#1": "duplicate_key"} and list(line.records()["content"]) == ["c"]


def test_pandas_writes_csv_that_is_read_as_it_was(tmp_path: Path) -> None:
    texts = ['"opened', "line\nend", "a,b", 'said "so"', "tab\there"]
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "raw.csv", index=False)

    assert list(read(tmp_path / "raw.csv").records()["content"]) == texts
