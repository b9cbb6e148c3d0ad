"""Stream text records from plain files, JSON lines, CSV and Parquet, without holding a whole file.

Each reader yields ``Row``s; a row whose ``reason`` is set could not be read and is rejected by the caller. All but
Parquet are read as a stream, so that they may be compressed or lie in an archive.
"""

import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

from pydantic import Field

from genfoundry.core.errors import DataError
from genfoundry.modalities.common.archives import Files, Found
from genfoundry.modalities.common.splitcells import SplitCells
from genfoundry.modalities.common.values import MISSING, Odd, class_names, rows_of
from genfoundry.modalities.common.values import named as with_names


class Ingest(Files):
    """How text is read: .txt, .md, .jsonl, .csv, .tsv and .parquet, also compressed (.gz, .bz2, .xz, .zst) and, all but
    Parquet, inside .zip and .tar archives.
    """

    FOLDERS = "places"
    TABLES = (".jsonl", ".csv", ".tsv", ".parquet", ".txt")

    text_column: str = "text"
    """Column (CSV, Parquet) or key (JSONL) that holds the document."""
    label_column: str = ""
    """Column of the label; numbers become the names that a Parquet file lists for them. Empty for none."""
    split_column: str = ""
    """Column of a given split (train, val or test, or another name of one, see split_names); empty for none."""
    id_column: str = ""
    """Column of a unique id; the file is kept as ``file``. Empty takes the path in the source with ``#line``."""
    fact_columns: tuple[str, ...] = ()
    """Further columns to keep with each document, in their own words: a topic or a score, for example, of which
    ``encode.conditions`` makes conditions.
    """
    license_column: str = ""
    """Column of the licence, kept as ``license``; empty for none."""
    source_column: str = ""
    """Column that says where a record comes from, kept as ``source``; empty takes the file or top folder."""
    time_column: str = ""
    """Column of a time, kept as ``time`` in its own words (a Parquet time in ISO 8601); empty for none."""
    group_column: str = ""
    """Column of what belongs together (author, book), kept as ``group``; empty for none."""
    missing: tuple[str, ...] = MISSING
    """Texts that stand for no value, besides empty ones, in the columns named above but the text's."""
    quoting: bool | None = None
    """Whether ``"`` around a cell quotes it, so that it may hold delimiters and line ends. By default it does in CSV
    (RFC 4180) and does not in TSV (IANA), where a cell that seems quoted over several lines is an error; ``false``
    takes it as it stands, ``true`` is for TSV that pandas or a spreadsheet wrote.
    """
    chunk: int = Field(default=0, ge=0)
    """Characters at which a plain file is cut, at a paragraph or line end; 0 makes each file one document."""
    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Longest line, cell or plain file; a longer one is rejected."""
    max_row_group: int = Field(default=2**29, ge=1)
    """Largest row group of a Parquet file, in unpacked bytes of the columns that are read: one is held in memory."""


KEYS = 20
"""Keys of a JSON object that an error lists."""


class Row(NamedTuple):
    """One record as it stands in a file, or why there is none."""

    id: str
    values: dict[str, Any]
    """By the column names of the config: the text, and label, split and id where named."""
    reason: str = ""
    detail: str = ""


def named(config: Ingest) -> list[str]:
    """The columns that the config names, the text first."""
    optional = (
        config.label_column,
        config.split_column,
        config.id_column,
        config.license_column,
        config.source_column,
        config.time_column,
        config.group_column,
        *config.fact_columns,
    )
    return list(dict.fromkeys([config.text_column, *filter(None, optional)]))


def plain(found: Found, config: Ingest) -> Iterator[Row]:
    """A file as one document, or cut into passages of about ``config.chunk`` characters at line ends."""
    with found.open() as file:
        if config.chunk:
            yield from _passages(found.name, file, config)
        else:
            row = whole(found.name, file, config.max_bytes, config.text_column)
            yield row._replace(detail=f"{row.detail}; ingest.chunk cuts it") if row.reason == "too_large" else row


def whole(name: str, file: BinaryIO, limit: int, column: str = "text") -> Row:
    """A file as one row with its text in ``column``, or why it is rejected."""
    try:
        data = file.read(limit + 1)
    except DataError as error:
        return Row(name, {}, "damaged", str(error))
    if len(data) > limit:
        return Row(name, {}, "too_large", f"more than {limit} bytes (ingest.max_bytes)")
    return _decoded(name, data, lambda text: {column: text})


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


def _passages(name: str, file: BinaryIO, config: Ingest) -> Iterator[Row]:
    """Whole lines up to about ``config.chunk`` characters; rather a shorter passage that ends at a blank line."""
    held: list[str] = []
    first, length = 1, 0
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


def json_lines(found: Found, config: Ingest) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over.

    Raises:
        DataError: None of the objects has a key that the config names.
    """
    absent, keys, objects = set(named(config)), dict[str, None](), 0
    for row in _objects(found, config):
        if absent and not row.reason:
            absent, objects = absent - row.values.keys(), objects + 1
            if len(keys) < KEYS:
                keys |= dict.fromkeys(itertools.islice(row.values, KEYS))
        yield row
    if absent and objects:
        _missing(found.name, list(keys), [column for column in named(config) if column in absent])


def _objects(found: Found, config: Ingest) -> Iterator[Row]:
    with found.open() as file:
        for number, line in _lines(file, config.max_bytes):
            place = f"{found.name}#{number}"
            if line is None:
                yield Row(place, {}, "line_too_long", f"more than {config.max_bytes} bytes")
            elif line.strip():
                yield _object(place, line)


class _Doubled(dict[str, Any]):
    """A JSON object with a key twice; Python takes the last one."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else _Doubled(Counter(name for name, _ in pairs))


def lacking(found: Found, config: Ingest, lines: int = 100) -> tuple[bool, str]:
    """Named keys that none of the first JSON lines has: (whether ingest fails, words), empty words for none.

    Ingest fails without what records need, and where no line of a file has the key: here of one read to its end.
    """
    first = list(itertools.islice(_objects(found, config), lines))
    rows = [row.values for row in first if not row.reason]
    keys = list(dict.fromkeys(key for values in rows for key in values))
    absent = [column for column in named(config) if column not in keys]
    if not rows or not absent:
        return False, ""
    needed = len(first) < lines or bool({config.text_column, config.id_column} & {*absent})
    which, have = ", ".join(map(repr, absent)), ", ".join(map(repr, keys[:20])) or "none"
    return needed, f"{found.name}: none of its first {len(rows)} lines has {which}; their keys are {have}"


_JSON = json.JSONDecoder(object_pairs_hook=_pairs)


def _object(place: str, line: bytes) -> Row:
    try:
        value = _JSON.decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return Row(place, {}, "not_utf8", f"byte {error.start} of the line is {line[error.start]:#04x}")
    except RecursionError:
        return Row(place, {}, "not_json", "nested too deep")
    except ValueError as error:
        return Row(place, {}, "not_json", str(error)[:200])
    if not isinstance(value, dict):
        return Row(place, {}, "not_json", f"needs an object, got {type(value).__name__}")
    if isinstance(value, _Doubled):
        return Row(place, {}, "duplicate_key", f"has more than one {max(value, key=lambda key: value[key])!r}")
    return Row(place, value)


def columns(name: str, found: list[str], wanted: list[str]) -> None:
    """Refuse a table that has one name for two columns, or lacks a column that the config names."""
    if twice := [column for column, count in Counter(found).items() if column and count > 1]:
        raise DataError(f"{name}: has more than one column {', '.join(map(repr, twice[:20]))}; rename all but one")
    if absent := [column for column in wanted if column not in found]:
        _missing(name, found, absent)


def _missing(name: str, found: list[str], absent: list[str]) -> None:
    remedy = (
        "name the right one with ingest.text_column, label_column, split_column or id_column (or license_column, "
        "source_column, time_column, group_column)"
    )
    if "\0" in "".join(found):
        remedy = "it is UTF-16, as a spreadsheet writes it: save it as UTF-8"
    elif len(found) == 1 and (separator := next((one for one in ";\t|" if one in found[0]), "")):
        remedy = f"its cells are separated by {separator!r}: save it with commas as .csv, or with tabs as .tsv"
    elif f'"{absent[0]}"' in found:
        remedy += "; its cells are quoted: set ingest.quoting to true"
    names = ", ".join(map(repr, found[:KEYS])) or "none"
    raise DataError(f"{name}: has no column {', '.join(map(repr, absent))} among {names}; {remedy}")


def delimited(found: Found, config: Ingest) -> Iterator[Row]:
    """CSV (or TSV) with a header; a row is numbered by the line it starts on."""
    csv.field_size_limit(config.max_bytes)
    tabs = found.ending == ".tsv"
    quoting = csv.QUOTE_MINIMAL if config.quoting or (config.quoting is None and not tabs) else csv.QUOTE_NONE
    watch = SplitCells(found.name) if config.quoting is None and tabs else None
    with io.TextIOWrapper(found.open(), encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = _short(file, config.max_bytes)
        reader = csv.reader(lines, delimiter="\t" if tabs else ",", strict=True, quoting=quoting)
        before = 0
        try:
            header = next(reader, [])
            columns(found.name, header, named(config))
            before = reader.line_num
            for cells in reader:
                place, before = f"{found.name}#{before + 1}", reader.line_num
                if watch:
                    watch.row(before, cells, len(header))
                if cells and len(cells) != len(header):
                    yield Row(place, {}, "bad_row", f"{len(cells)} cells under {len(header)} columns")
                elif cells:
                    yield Row(place, dict(zip(header, cells, strict=True)))
        except csv.Error as error:
            raise DataError(
                f"{found.name}: the row at line {before + 1} can't be read as CSV ({error}); mend its quotes, or raise "
                f"ingest.max_bytes (now {config.max_bytes})"
            ) from None
    if watch:
        watch.check()


def _short(file: io.TextIOWrapper, limit: int) -> Iterator[str]:
    """Lines; one that the csv module would gather into memory for ever is an error."""
    while line := file.readline(limit + 1):
        if len(line) > limit:
            raise csv.Error(f"a line of more than {limit} characters")
        yield line


def parquet(found: Found, config: Ingest) -> Iterator[Row]:
    """Parquet rows, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = found.name
    if found.path is None:
        yield Row(name, {}, "not_a_stream", "Parquet is read from its end; unpack the archive")
        return
    try:
        with pq.ParquetFile(found.path) as file:
            wanted, classes = named(config), class_names(file.schema_arrow)
            columns(name, file.schema_arrow.names, wanted)
            _row_groups(name, file, wanted, config.max_row_group)
            number = 0
            for batch in file.iter_batches(batch_size=256, columns=wanted):
                for values in rows_of(batch):
                    number += 1
                    try:
                        yield Row(f"{name}#{number}", with_names(values, classes))
                    except Odd as error:
                        yield Row(f"{name}#{number}", {}, *error.args)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{name}: can't be read as Parquet ({str(error)[:200]}); write the file again") from None


def _row_groups(name: str, file: Any, wanted: list[str], limit: int) -> None:
    """Refuse a row group that would not fit: its columns are unpacked as a whole."""
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        columns = [group.column(index) for index in range(group.num_columns)]
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted)
        if size > limit:
            raise DataError(
                f"{name}: row group {number} holds {size} bytes, at most {limit}; write it with smaller row groups "
                "(row_group_size), or raise ingest.max_row_group"
            )


UNTYPED = (".csv", ".tsv")
"""Endings of files whose cells have no types."""

READERS: dict[str, Callable[[Found, Ingest], Iterator[Row]]] = {
    ".txt": plain,
    ".md": plain,
    ".jsonl": json_lines,
    ".csv": delimited,
    ".tsv": delimited,
    ".parquet": parquet,
}
