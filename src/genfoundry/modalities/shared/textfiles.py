"""Records of text out of plain files, JSON lines, CSV and Parquet, one at a time: no file is held whole.

Each reader yields ``Row``s; a row whose ``reason`` is set could not be read and is set aside by the caller.
"""

import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from genfoundry.errors import DataError

if TYPE_CHECKING:
    from genfoundry.modalities.text import Ingest


class Row(NamedTuple):
    """One record as it stands in a file, or why there is none."""

    id: str
    values: dict[str, Any]
    """By the column names of the config: the text, and label, split and id where named."""
    reason: str = ""
    detail: str = ""


def plain(name: str, path: Path, config: "Ingest") -> Iterator[Row]:
    """A file as one document, or cut into passages of about ``config.chunk`` characters at line ends."""
    if config.chunk:
        yield from _passages(name, path, config)
        return
    size = path.stat().st_size
    if size > config.max_bytes:
        yield Row(name, {}, "too_large", f"{size} bytes; set ingest.chunk to cut it, or raise ingest.max_bytes")
        return
    yield _decoded(name, path.read_bytes(), lambda text: {config.text_column: text})


def _decoded(name: str, data: bytes, values: Callable[[str], dict[str, Any]]) -> Row:
    try:
        return Row(name, values(data.decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        return Row(name, {}, "not_utf8", f"byte {error.start} is {data[error.start] if data else 0:#04x}")


def _lines(file: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """(number from 1, line), with None for a line above the limit, which is skipped without being held."""
    for number in itertools.count(1):
        line = file.readline(limit + 1)
        if not line:
            return
        if len(line) <= limit or line.endswith(b"\n"):
            yield number, line
            continue
        while (more := file.readline(limit)) and not more.endswith(b"\n"):
            pass
        yield number, None


def _passages(name: str, path: Path, config: "Ingest") -> Iterator[Row]:
    """Whole lines up to about ``config.chunk`` characters; rather a shorter passage that ends at a blank line."""
    held: list[str] = []
    first, length = 1, 0
    with path.open("rb") as file:
        for number, line in _lines(file, config.max_bytes):
            if line is None:
                yield Row(f"{name}#{number}", {}, "line_too_long", f"more than {config.max_bytes} bytes")
                continue
            row = _decoded(f"{name}#{number}", line, lambda text: {config.text_column: text})
            if row.reason:
                yield row
                continue
            text = row.values[config.text_column]
            if held and length + len(text) > config.chunk:
                cut = _cut(held, length)
                yield Row(f"{name}#{first}", {config.text_column: "".join(held[:cut])})
                held, first = held[cut:], first + cut
                length = sum(map(len, held))
            if not held:
                first = number
            held.append(text)
            length += len(text)
    if held:
        yield Row(f"{name}#{first}", {config.text_column: "".join(held)})


def _cut(lines: list[str], length: int) -> int:
    """How many lines to take: up to the last blank line in the second half, else all."""
    taken = length
    for number in range(len(lines) - 1, 0, -1):
        if taken < length / 2:
            break
        if not lines[number].strip():
            return number + 1
        taken -= len(lines[number])
    return len(lines)


def json_lines(name: str, path: Path, config: "Ingest") -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    with path.open("rb") as file:
        for number, line in _lines(file, config.max_bytes):
            place = f"{name}#{number}"
            if line is None:
                yield Row(place, {}, "line_too_long", f"more than {config.max_bytes} bytes")
            elif line.strip():
                yield _object(place, line)


def _object(place: str, line: bytes) -> Row:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Row(place, {}, "not_utf8", f"byte {error.start} of the line is {line[error.start]:#04x}")
    except RecursionError:
        return Row(place, {}, "not_json", "nested too deep")
    except ValueError as error:
        return Row(place, {}, "not_json", str(error)[:200])
    if not isinstance(value, dict):
        return Row(place, {}, "not_json", f"needs an object, got {type(value).__name__}")
    return Row(place, value)


def _missing(name: str, found: list[str], config: "Ingest") -> None:
    wanted = [config.text_column, config.label_column, config.split_column, config.id_column]
    absent = [column for column in wanted if column and column not in found]
    if absent:
        raise DataError(
            f"{name}: has no column {', '.join(map(repr, absent))} among {', '.join(map(repr, found[:20])) or 'none'}; "
            "name the right one with ingest.text_column, label_column, split_column or id_column"
        )


def delimited(name: str, path: Path, config: "Ingest") -> Iterator[Row]:
    """CSV (or TSV) with a header; a row is numbered by the line it starts on."""
    csv.field_size_limit(config.max_bytes)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        before = 0
        try:
            header = next(reader, [])
            _missing(name, header, config)
            before = reader.line_num
            for cells in reader:
                place, before = f"{name}#{before + 1}", reader.line_num
                if cells and len(cells) != len(header):
                    yield Row(place, {}, "bad_row", f"{len(cells)} cells under {len(header)} columns")
                elif cells:
                    yield Row(place, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(
                f"{name}: the row at line {before + 1} can't be read as CSV ({error}); mend its quotes, or raise "
                f"ingest.max_bytes (now {config.max_bytes})"
            ) from None


def parquet(name: str, path: Path, config: "Ingest") -> Iterator[Row]:
    """Parquet rows, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow.names
            _missing(name, found, config)
            columns = [config.text_column, config.label_column, config.split_column, config.id_column]
            wanted = list(dict.fromkeys(column for column in columns if column))
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(f"{name}#{number}", values)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name}: can't be read as Parquet ({str(error)[:200]}); write the file again") from None


READERS: dict[str, Callable[[str, Path, "Ingest"], Iterator[Row]]] = {
    ".txt": plain,
    ".md": plain,
    ".jsonl": json_lines,
    ".csv": delimited,
    ".tsv": delimited,
    ".parquet": parquet,
}
