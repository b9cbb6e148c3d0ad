"""Text: what is read, what is set aside and why, what becomes canonical."""

import gzip
import os
import tempfile
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from dataline import Line, write_jsonl
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.core.errors import DataError
from genfoundry.modalities import text
from genfoundry.modalities.common import documents
from genfoundry.modalities.common import tables as _tables


def read(source: Path, **config: object) -> Line:
    source.parent.mkdir(parents=True, exist_ok=True)
    return Line(source.parent / "out", "text", source, ingest={"max_rejected": 1.0, **config}).ingest()


def test_a_folder_of_mixed_files_is_read_in_order_with_ids_by_file_and_line(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    write_jsonl(source / "b.jsonl", [{"text": "one"}, {"text": "two", "more": 1}])
    (source / "a/x.md").parent.mkdir()
    (source / "a/x.md").write_text("# title\n\nbody\n")
    (source / "c.csv").write_text('other,text\n1,"first\nline"\n2,second\n')
    pd.DataFrame({"text": ["p", "q"]}).to_parquet(source / "d.parquet")
    (source / ".hidden.txt").write_text("no")

    records = read(source).records()

    assert list(records["id"]) == [
        "a/x.md",
        "b.jsonl#1",
        "b.jsonl#2",
        "c.csv#2",
        "c.csv#4",
        "d.parquet#1",
        "d.parquet#2",
    ]
    assert list(records["content"]) == ["# title\n\nbody\n", "one", "two", "first\nline", "second", "p", "q"]
    assert list(records["lines"]) == [3, 1, 1, 2, 1, 1, 1]
    assert records["label"].isna().all()


def test_a_folder_that_may_not_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        closed = Path(temporary) / "raw/closed"
        closed.mkdir(parents=True)
        (closed / "a.txt").write_text("text")
        Path(temporary).chmod(0o755)
        closed.chmod(0)
        # Root may read everything, so it steps back for a moment.
        user = os.geteuid()
        os.seteuid(65534 if user == 0 else user)
        try:
            with pytest.raises(DataError, match="raw/closed: may not be read; give this user the right to"):
                _tables.files(Path(temporary) / "raw")
        finally:
            os.seteuid(user)
            closed.chmod(0o700)


def test_named_columns_give_label_split_and_id(tmp_path: Path) -> None:
    rows = [{"body": "x", "kind": 1, "part": "dev", "key": "k1"}, {"body": "y", "kind": 2, "part": "test", "key": "k2"}]
    source = write_jsonl(tmp_path / "raw.jsonl", rows)
    columns = {"text_column": "body", "label_column": "kind", "split_column": "part", "id_column": "key"}

    records = read(source, **columns).records()

    assert records[["id", "label", "split"]].to_numpy().tolist() == [["k1", "1", "val"], ["k2", "2", "test"]]


def test_a_top_folder_named_after_a_split_gives_it(tmp_path: Path) -> None:
    for name in ("train/a.txt", "test/b.txt", "c.txt"):
        (tmp_path / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "raw" / name).write_text(name)

    records = read(tmp_path / "raw").records()

    assert dict(zip(records["id"], records["split"].fillna("-"), strict=True)) == {
        "c.txt": "-",
        "test/b.txt": "test",
        "train/a.txt": "train",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "caf\xe9"}', "not_utf8"),
        (b'{"text": "\\ud800"}', "not_utf8"),
        (b'{"text": ""}', "empty"),
        (b'{"text": " \\n "}', "empty"),
        (b'{"text": "a\\u0000b"}', "nul"),
        (b'{"text": 5}', "no_text"),
        (b'{"txt": "a"}', "no_text"),
        (b'{"text": "a"', "not_json"),
        (b"[1]", "not_json"),
        (b'{"text": "' + b"[" * 100 + b'"}', ""),
        (b"[" * 100_000, "not_json"),
        (b'{"text": "' + b"a" * 300_000 + b'"}', "line_too_long"),
        (b'{"text": "a", "part": "holdout"}', "unknown_split"),
        (b'{"text": "a", "key": "first"}', "duplicate_id"),
    ],
)
def test_a_bad_line_is_set_aside_with_its_reason_and_the_rest_is_read(tmp_path: Path, line: bytes, reason: str) -> None:
    source = tmp_path / "raw.jsonl"
    source.write_bytes(b'{"text": "good", "key": "first"}\n' + line + b'\n\n{"text": "also good"}\n')
    duplicate = reason == "duplicate_id"
    split_column = "part" if reason == "unknown_split" else ""

    line_ = read(source, max_bytes=200_000, split_column=split_column, id_column="key" if duplicate else "")

    if duplicate:
        assert line_.rejected() == {"first": "duplicate_id", "raw.jsonl#4": "no_id"}
    else:
        assert line_.rejected() == ({"raw.jsonl#2": reason} if reason else {})
        assert list(line_.records()["id"])[:: 2 if not reason else 1] == ["raw.jsonl#1", "raw.jsonl#4"]


def test_files_that_are_no_text_are_set_aside(tmp_path: Path) -> None:
    source = tmp_path / "raw"
    source.mkdir()
    (source / "good.txt").write_text("good")
    (source / "latin.txt").write_bytes("café".encode("latin-1"))
    (source / "empty.txt").write_bytes(b"")
    (source / "pic.png").write_bytes(b"\x89PNG")
    (source / "zip.txt").write_bytes(gzip.compress(b"x" * 100))
    (source / "big.txt").write_bytes(b"x" * 2000)
    (source / "bom.txt").write_bytes(b"\xef\xbb\xbfwith a mark")

    line = read(source, max_bytes=1000)

    assert line.rejected() == {
        "big.txt": "too_large",
        "empty.txt": "empty",
        "latin.txt": "not_utf8",
        "pic.png": "unknown_format",
        "zip.txt": "not_utf8",
    }
    assert list(line.records()["content"]) == ["with a mark", "good"]
    assert line.report("ingest")["rejected"] == {
        "total": 5,
        "empty": 1,
        "not_utf8": 2,
        "too_large": 1,
        "unknown_format": 1,
    }


def test_csv_rows_of_another_width_are_set_aside(tmp_path: Path) -> None:
    source = tmp_path / "raw.csv"
    source.write_bytes(b"id,text\n1,good\n2\n3,bad,cells\n4,caf\xe9\n5,fine\n")

    line = read(source)

    assert line.rejected() == {"raw.csv#3": "bad_row", "raw.csv#4": "bad_row", "raw.csv#5": "not_utf8"}
    assert list(line.records()["content"]) == ["good", "fine"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "raw.csv",
            b"id,body\n1,x\n",
            "no column 'text' among 'id', 'body'; name the right one with ingest.text_column",
        ),
        ("raw.csv", b'text\n"never closed\n', "raw.csv: the row at line 2 can't be read as CSV"),
        ("raw.parquet", b"PAR1 not", "raw.parquet: can't be read as Parquet"),
        ("raw/x.pdf", b"%PDF", "nothing|1 of 1 records"),
        ("raw/.hidden", b"x", "the folder holds no file"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_with_words(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

    with pytest.raises(DataError, match=words):
        read(tmp_path / name.split("/")[0])
    assert not (tmp_path / "out/artifacts/datasets/data/records").exists()


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder; put the data there"):
        read(tmp_path / "nowhere")


def test_above_the_limit_the_error_lists_reasons_counts_and_examples(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "raw.jsonl", [{"text": "a"}, {"text": ""}, {"text": ""}, {"no": 1}])

    with pytest.raises(DataError) as caught:
        Line(tmp_path, "text", source, ingest={"max_rejected": 0.5}).ingest()

    assert "3 of 4 records (75.0%) are rejected, ingest.max_rejected allows 50.0%" in str(caught.value)
    assert "empty: 2, such as raw.jsonl#2 (0 characters of white space); raw.jsonl#3" in str(caught.value)
    assert "no_text: 1, such as raw.jsonl#4 (needs a string, got NoneType)" in str(caught.value)


def test_a_long_file_is_cut_at_paragraphs_and_nothing_is_lost(tmp_path: Path) -> None:
    source = tmp_path / "play.txt"
    source.write_text("".join(f"Speaker {i}:\nline one of {i}\nline two\n\n" for i in range(200)))

    records = read(source, chunk=300).records()

    assert "".join(records["content"]) == source.read_text()
    assert all(content.endswith("\n\n") for content in records["content"])
    assert records["characters"].max() <= 300
    lines = source.read_text().split("\n")
    for name, content in zip(records["id"], records["content"], strict=True):
        assert content.startswith(lines[int(name.split("#")[1]) - 1])


def test_tables_stay_small_however_long_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_tables, "TABLE_BYTES", 1000)
    source = write_jsonl(tmp_path / "raw.jsonl", [{"text": "x" * 100}] * 95)

    tables = list(text.read(source, text.Ingest()))

    assert [len(records) for records, _ in tables] == [10] * 9 + [5]


def test_canonical_text() -> None:
    raw = "\ufeffCafe\u0301 \r\n\tindented\x07 \x1b[0m\t\n\n\nend\u00a0 \n\n"

    assert text.canonical(raw) == "Café\n\tindented [0m\n\n\nend"
    assert text.canonical(text.canonical(raw)) == text.canonical(raw)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\r\x85", *"\v\f\x1c\x1d\x1e\x1f\x85\u2028\u2029"])
def test_every_line_end_is_one_and_joins_no_words(end: str) -> None:
    """Slides end lines by VT, mainframes by NEL; where these were removed, the words around them became one."""
    assert text.canonical(f"one{end}two{end}{end}three {end}") == "one\ntwo\n\nthree"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_canonical_text_keeps_its_words(raw: str) -> None:
    """Whatever Python takes for white space stays some, and what goes is no part of a word."""
    clean = text.canonical(raw)

    assert text.canonical(clean) == clean
    gone = dict.fromkeys(
        [*range(9), *range(0x0E, 0x1C), *range(0x7F, 0x85), *range(0x86, 0xA0), 0xFEFF, 0xFFFE, 0xFFFF]
    )
    assert clean.split() == unicodedata.normalize("NFC", raw.translate(gone)).split()


def test_short_long_and_blank_documents_are_dropped_and_shown(tmp_path: Path) -> None:
    source = write_jsonl(
        tmp_path / "raw.jsonl", [{"text": t} for t in ("ok then", "x", "y" * 50, "\x01\x02", "<b>fine")]
    )
    config = {"min_characters": 2, "max_characters": 20, "max_dropped": 0.9}

    line = Line(tmp_path, "text", source, preprocess=config).ingest().preprocess()

    assert line.rejected("clean") == {"raw.jsonl#2": "too_short", "raw.jsonl#3": "too_long", "raw.jsonl#4": "blank"}
    assert list(line.clean()["content"]) == ["ok then", "<b>fine"]
    assert line.report("preprocess")["dropped"] == {"total": 3, "blank": 1, "too_long": 1, "too_short": 1}
    page = (line.paths.reports / "preprocess.html").read_text()
    assert "50 characters, at most 20" in page and "raw.jsonl#3" in page

    config["max_dropped"] = 0.5
    with pytest.raises(DataError, match=r"3 of 5 records \(60.0%\) are dropped, preprocess.max_dropped allows 50.0%"):
        Line(tmp_path, "text", source, preprocess=config).preprocess()


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"caf\xe9.txt.gz", b"caf\xe9.zip"])
def test_a_source_whose_name_is_no_utf8_is_read_or_refused_by_name(tmp_path: Path, name: bytes) -> None:
    source = tmp_path / os.fsdecode(name)
    source.write_bytes(b"a document")

    if name.endswith(b".txt"):
        assert list(read(source).records()["id"]) == ["caf\\xe9.txt"]
        return
    with pytest.raises(DataError) as caught:
        read(source)
    assert "caf\\" in str(caught.value) and str(caught.value).encode()


@pytest.mark.parametrize(
    "error", [ValueError("odd"), IndexError("odd"), ZeroDivisionError("odd"), RecursionError("odd")]
)
def test_a_document_that_breaks_cleaning_is_dropped_alone(tmp_path: Path, error: Exception) -> None:
    records = read(write_jsonl(tmp_path / "raw.jsonl", [{"text": "one"}, {"text": "odd"}, {"text": "two"}])).records()

    def clean(content: str, record: object) -> tuple[str, dict[str, object]]:
        if content == "odd":
            raise error
        return content, {}

    kept, dropped = documents.cleaned(records, clean, {})

    assert list(kept["content"]) == ["one", "two"]
    assert dropped.to_numpy().tolist() == [["raw.jsonl#2", "broken", f"{type(error).__name__}: odd"]]
