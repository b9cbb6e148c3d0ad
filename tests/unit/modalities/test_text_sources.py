"""Sources of text: archives, compressed files, further columns, limits, and memory that does not grow with them."""

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from dataline import Line, write_jsonl

from genfoundry.core.errors import DataError

ROWS = [{"text": "first"}, {"text": "second"}]


def read(source: Path, **config: object) -> Line:
    return Line(source.parent / "out", "text", source, ingest={"max_rejected": 1.0, **config}).ingest()


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_archives_and_compressed_files_stand_beside_plain_ones(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    packed(raw / "a.zip", {"test/x.md": b"held out", "y.csv": b"text\nrow\n", "z.png": b"x", "../up.txt": b"up"})
    (raw / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS)))
    (raw / "c.txt.gz").write_bytes(gzip.compress(b"plain"))
    (raw / "d.tsv.gz").write_bytes(gzip.compress(b"id\ttext\n1\ttabbed\n"))
    with tarfile.open(raw / "e.tar.gz", "w:gz") as archive:
        for name in ("p/q.txt", "p/r.jsonl"):
            data = b"in a tar" if name.endswith("txt") else lines(ROWS[:1])
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

    done = read(raw)

    assert done.records().set_index("id")["content"].to_dict() == {
        "a.zip/test/x.md": "held out",
        "a.zip/y.csv#2": "row",
        "b.jsonl.gz#1": "first",
        "b.jsonl.gz#2": "second",
        "c.txt.gz": "plain",
        "d.tsv.gz#2": "tabbed",
        "e.tar.gz/p/q.txt": "in a tar",
        "e.tar.gz/p/r.jsonl#1": "first",
    }
    assert done.records().set_index("id")["split"].dropna().to_dict() == {"a.zip/test/x.md": "test"}
    assert done.rejected() == {"a.zip/z.png": "unknown_format", "a.zip/../up.txt": "unsafe_name"}


def test_further_columns_are_kept_through_the_line(tmp_path: Path) -> None:
    rows = [
        {"text": "one\n", "lic": "MIT", "from": "web", "when": "2024-05-01", "who": 7},
        {"text": "two", "lic": None, "from": "", "who": "x"},
    ]
    columns = {"license_column": "lic", "source_column": "from", "time_column": "when", "group_column": "who"}

    done = read(write_jsonl(tmp_path / "raw.jsonl", rows), **columns).preprocess()

    for table in (done.records(), done.clean()):
        found = table[["license", "source", "time", "group"]].astype(object)
        assert found.where(found.notna(), None).to_numpy().tolist() == [
            ["MIT", "web", "2024-05-01", "7"],
            [None, None, None, "x"],
        ]
    assert list(done.clean()["content"]) == ["one", "two"]


def test_a_time_of_parquet_is_written_in_iso_8601(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a"], "when": [datetime(2024, 5, 1, 12, tzinfo=UTC)]})
    table.to_parquet(tmp_path / "raw.parquet")

    assert list(read(tmp_path / "raw.parquet", time_column="when").records()["time"]) == ["2024-05-01T12:00:00+00:00"]


def test_a_named_column_that_is_missing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_text("text,lic\nx,MIT\n")

    with pytest.raises(DataError, match=r"has no column 'licence'.*license_column"):
        read(tmp_path / "raw.csv", license_column="licence")


def test_a_plain_file_cut_short_is_set_aside_and_lines_cut_short_stop_the_stage(tmp_path: Path) -> None:
    """Of a document one knows that it is damaged; of a file of lines nobody knows how many are missing."""
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "good.txt").write_text("good")
    (raw / "cut.txt.gz").write_bytes(gzip.compress(bytes(range(32, 120)) * 50)[:-10])
    assert read(raw).rejected() == {"cut.txt.gz": "damaged"}

    (raw / "cut.jsonl.gz").write_bytes(gzip.compress(lines(ROWS))[:-10])
    with pytest.raises(DataError, match=r"cut\.jsonl\.gz: damaged or cut short"):
        read(raw)


def test_a_bomb_is_set_aside_or_refused(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "good.txt").write_text("good")
    (raw / "blank.txt.gz").write_bytes(gzip.compress(b" " * 40 * 2**20))
    assert read(raw, max_bytes=2**20).rejected() == {"blank.txt.gz": "too_large"}

    (raw / "rows.jsonl.gz").write_bytes(gzip.compress(lines([{"text": "x" * 10_000}]) * 4000))
    with pytest.raises(DataError, match=r"rows\.jsonl\.gz: more than 200 times its size comes out of it"):
        read(raw)


def test_a_csv_line_without_end_is_no_memory_hole(tmp_path: Path) -> None:
    (tmp_path / "raw.csv").write_bytes(b"text\n" + b"x" * 5000 + b"\n")

    with pytest.raises(DataError, match="a line of more than 1000 characters"):
        read(tmp_path / "raw.csv", max_bytes=1000)


def test_a_row_group_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    table = pd.DataFrame({"text": [f"{number} " * 100 for number in range(1000)], "other": ["y" * 1000] * 1000})
    table.to_parquet(tmp_path / "raw.parquet", row_group_size=500)

    assert len(read(tmp_path / "raw.parquet", max_row_group=300_000).records()) == 1000
    with pytest.raises(DataError, match=r"row group 0 holds \d+ bytes, at most 1000; write it with smaller"):
        read(tmp_path / "raw.parquet", max_row_group=1000)


def test_parquet_in_an_archive_is_set_aside(tmp_path: Path) -> None:
    pd.DataFrame({"text": ["a"]}).to_parquet(tmp_path / "a.parquet")
    packed(tmp_path / "raw.zip", {"a.parquet": (tmp_path / "a.parquet").read_bytes(), "b.txt": b"b"})

    assert read(tmp_path / "raw.zip").rejected() == {"raw.zip/a.parquet": "not_a_stream"}


PEAK = """
import re, sys
from pathlib import Path
from genfoundry.modalities import text
from genfoundry.modalities.common import tables
import pandas, pyarrow.parquet
tables.TABLE_BYTES = 2**20
count = 0
# The words repeat, so they pack better than real text.
for records, rejected in text.read(Path(sys.argv[1]), text.Ingest(max_ratio=1e6)):
    count += len(text.clean(records, text.Preprocess(mask=("email",)))[0])
# Not getrusage: its peak is handed down from the process that started this one.
print(count, int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def write(path: Path, count: int) -> None:
    """A source of that many texts of 1.5 kB each, of the kind that its name says."""
    words = " ".join(f"word{number * 7919 % 10007}" for number in range(170))
    texts = (f"{number} {words}" for number in range(count))
    files = 4
    if path.suffix == ".parquet":
        pd.DataFrame({"text": list(texts)}).to_parquet(path, row_group_size=500)
    elif path.suffix == ".csv":
        path.write_text("text\n" + "".join(f"{text}\n" for text in texts))
    else:
        parts = {f"{n}.jsonl": lines([{"text": next(texts)} for _ in range(count // files)]) for n in range(files)}
        if path.suffix == ".zip":
            packed(path, parts)
            return
        with tarfile.open(path, "w:gz", compresslevel=1) as archive:
            for name, data in parts.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the peak of a process is read from Linux's /proc")
@pytest.mark.parametrize("kind", ["tar.gz", "zip", "parquet", "csv"])
def test_memory_does_not_grow_with_the_source(tmp_path: Path, kind: str) -> None:
    """30 MB take what 3 MB take, where a table holds 1 MB."""
    peaks = []
    for count in (2000, 20_000):
        path = tmp_path / f"{count}.{kind}"
        write(path, count)
        done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
        found, peak = map(int, done.stdout.split())
        assert found == count
        peaks.append(peak)

    assert peaks[1] - peaks[0] < 16, f"{peaks} MiB"
