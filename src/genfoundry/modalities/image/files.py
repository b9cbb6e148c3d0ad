"""Read pictures from single files, archives and Parquet, each with its label and split."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from genfoundry.config.specs import SPLITS
from genfoundry.core.errors import DataError
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common import values as _values
from genfoundry.modalities.common.layout import split_named
from genfoundry.modalities.common.tables import Part

ROWS = 64
"""Parquet rows held at once: pictures are large."""


class Source(_archives.Files):
    """Where pictures are: files in folders and in .zip and .tar archives, and Parquet with bytes."""

    TABLES = (".parquet",)

    image_column: str = "image"
    """Parquet column of the picture: bytes, or a struct with ``bytes`` (and ``path``) as Hugging Face writes it."""
    label_column: str = ""
    """Parquet column of the label; numbers become the names that the file lists for them. Empty for none."""
    split_column: str = ""
    """Parquet column of a given split (train, val or test, or another name of one, see split_names)."""
    id_column: str = ""
    """Parquet column of a unique id; the file is kept as ``file``. Empty takes the path in the source with ``#row``."""
    fact_columns: tuple[str, ...] = ()
    """Further Parquet columns to keep with each picture, texts or numbers: captions, for example, of which
    ``encode.conditions`` makes conditions.
    """
    missing: tuple[str, ...] = _values.MISSING
    """Texts that stand for no value, besides empty ones, in the columns of label, split and id."""
    max_bytes: int = Field(default=256 * 2**20, ge=1)
    """Larger files are rejected unread."""
    max_row_group: int = Field(default=2**30, ge=1)
    """Largest row group of a Parquet file, in unpacked bytes of the columns that are read: one is held in memory."""


class Row(NamedTuple):
    """The bytes of one picture, or why it is rejected."""

    id: str
    label: str | None
    split: str | None
    content: bytes
    reason: str = ""
    detail: str = ""
    facts: tuple[Any, ...] = ()
    """Values of ``fact_columns``; none of a file that is no table."""
    file: str = ""
    """Path in the source of the file that holds it."""
    raw: Mapping[str, Any] = {}
    """Label, split, id and facts of a table as they stand there, by column."""


def rows(source: Path | Part, config: Source) -> Iterator[Row]:
    """Every picture of a source, in a fixed order.

    Raises:
        DataError: The source is missing or empty; an archive or a Parquet file is damaged or exceeds a limit.
    """
    for found in _archives.members(source, config):
        if found.reason:
            yield Row(found.name, None, found.split, b"", found.reason, found.detail)
        elif found.ending == ".parquet":
            yield from _parquet(found, config)
        else:
            yield _file(found, config)


def _file(found: _archives.Found, config: Source) -> Row:
    with found.open() as stream:
        content = stream.read(config.max_bytes + 1)
    return _limited(Row(found.name, found.label, found.split, content, file=found.name), config)


def _limited(row: Row, config: Source) -> Row:
    if not row.content:
        return row._replace(reason="empty", detail="no bytes")
    if len(row.content) > config.max_bytes:
        detail = f"more than {config.max_bytes} bytes (ingest.max_bytes)"
        return row._replace(content=b"", reason="too_large", detail=detail)
    return row


def _parquet(found: _archives.Found, config: Source) -> Iterator[Row]:
    """Rows of a Parquet file, numbered from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if found.path is None:
        detail = "Parquet is read from its end; unpack the archive"
        yield Row(found.name, None, found.split, b"", "not_a_stream", detail)
        return
    wanted = [config.image_column, config.label_column, config.split_column, config.id_column, *config.fact_columns]
    wanted = [name for name in wanted if name]
    try:
        with pq.ParquetFile(found.path) as file:
            _checked(found.name, file, wanted, config)
            names, number = _values.class_names(file.schema_arrow), 0
            for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
                for values in _values.rows_of(batch):
                    number += 1
                    yield _limited_row(found, number, values, names, config)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{found.name}: can't be read as Parquet ({str(error)[:200]}); write the file again") from None


def _checked(name: str, file: Any, wanted: list[str], config: Source) -> None:
    """Refuse a file without the columns, or with a row group that would not fit."""
    columns = file.schema_arrow.names
    if twice := [column for column in wanted if columns.count(column) > 1]:
        raise DataError(f"{name}: has more than one column {', '.join(twice)}; rename all but one")
    if missing := [column for column in wanted if column not in columns]:
        raise DataError(
            f"{name}: no column {', '.join(missing)}; it has {', '.join(columns[:20])}; mend the columns of ingest"
        )
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        parts = [group.column(index) for index in range(group.num_columns)]
        size = sum(part.total_uncompressed_size for part in parts if part.path_in_schema.split(".")[0] in wanted)
        if size > config.max_row_group:
            raise DataError(
                f"{name}: row group {number} holds {size} bytes, at most {config.max_row_group}; write it with "
                "smaller row groups (row_group_size), or raise ingest.max_row_group"
            )


def _limited_row(
    found: _archives.Found,
    number: int,
    values: "Mapping[str, Any] | _values.Odd",
    names: Mapping[str, list[str]],
    config: Source,
) -> Row:
    place, columns = f"{found.name}#{number}", (config.id_column, config.label_column, config.split_column)
    try:
        row = _values.named(values, names)
        name, label, given = _values.canonicals(row, columns, config.missing)
    except _values.Odd as error:
        return Row(place, None, None, b"", *error.args)
    if config.id_column and not name:
        return Row(place, None, None, b"", "no_id", f"{config.id_column} is empty")
    name = name or place
    split = split_named(given, config.split_names) if given else found.split
    if given and split is None:
        detail = f"{config.split_column} is {given[:40]!r}; needs {', '.join(SPLITS)}"
        return Row(name, label, None, b"", "unknown_split", detail)
    split = None if split == "none" else split
    content = row[config.image_column]
    content = content.get("bytes") if isinstance(content, dict) else content
    if content is not None and not isinstance(content, bytes):
        return Row(name, label, split, b"", "not_bytes", f"{config.image_column} holds {type(content).__name__}")
    facts = tuple(row[column] for column in config.fact_columns)
    raw = {column: row[column] for column in (*columns, *config.fact_columns) if column}
    return _limited(Row(name, label, split, content or b"", facts=facts, file=found.name, raw=raw), config)
