"""Read pictures from single files, archives and Parquet, each with its label and split."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pydantic import Field

from genfoundry.config.sections.ingest import Ingest as _Ingest
from genfoundry.config.specs import SPLITS
from genfoundry.core.errors import DataError
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common.tables import Part

ROWS = 64
"""Parquet rows held at once: pictures are large."""

_SPLIT_NAMES = {**{split: split for split in SPLITS}, "validation": "val", "valid": "val", "dev": "val"}


class Source(_Ingest, _archives.Limits):
    """Where pictures are: files in folders and in .zip and .tar archives, and Parquet with bytes."""

    image_column: str = "image"
    """Parquet column of the picture: bytes, or a struct with ``bytes`` (and ``path``) as Hugging Face writes it."""
    label_column: str = ""
    """Parquet column of the label; numbers become the names that the file lists for them. Empty for none."""
    split_column: str = ""
    """Parquet column of a given split (train, val or test; validation, valid and dev count as val)."""
    id_column: str = ""
    """Parquet column of a unique id; empty takes the path in the source with ``#row``."""
    fact_columns: tuple[str, ...] = ()
    """Further Parquet columns to keep with each picture, texts or numbers: captions, for example, of which
    ``encode.conditions`` makes conditions.
    """
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
    folders = list(PurePosixPath(found.name).parts[:-1])
    # The archive itself is no label, nor is the folder that names the split.
    folders = [part for part in folders if not _archives.is_archive(part)]
    folders = folders[1:] if found.split and folders[:1] == [found.split] else folders
    label = folders[-1] if folders else None
    with found.open() as stream:
        content = stream.read(config.max_bytes + 1)
    return _limited(Row(found.name, label, found.split, content), config)


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
            names, number = _label_names(file.schema_arrow, config.label_column), 0
            for batch in file.iter_batches(batch_size=ROWS, columns=wanted):
                for values in batch.to_pylist():
                    number += 1
                    yield _limited_row(found, number, values, names, config)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{found.name}: can't be read as Parquet ({str(error)[:200]}); write the file again") from None


def _checked(name: str, file: Any, wanted: list[str], config: Source) -> None:
    """Refuse a file without the columns, or with a row group that would not fit."""
    columns = file.schema_arrow.names
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


def _label_names(schema: Any, column: str) -> list[str]:
    """Names of numbered labels, where Hugging Face's metadata list them."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return [str(name) for name in facts["info"]["features"][column]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


def _limited_row(found: _archives.Found, number: int, values: dict[str, Any], names: list[str], config: Source) -> Row:
    name, split, label = f"{found.name}#{number}", found.split, None
    if config.id_column:
        value = values[config.id_column]
        if value in (None, ""):
            return Row(name, None, split, b"", "no_id", f"{config.id_column} is empty")
        name = str(value)
    if config.label_column and (value := values[config.label_column]) not in (None, ""):
        known = isinstance(value, int) and 0 <= value < len(names)
        label = names[value] if known else str(value)
    if config.split_column and (value := values[config.split_column]) not in (None, ""):
        split = _SPLIT_NAMES.get(str(value).lower())
        if split is None:
            detail = f"{config.split_column} is {str(value)[:40]!r}; needs {', '.join(SPLITS)}"
            return Row(name, label, None, b"", "unknown_split", detail)
    content = values[config.image_column]
    content = content.get("bytes") if isinstance(content, dict) else content
    if content is not None and not isinstance(content, bytes):
        return Row(name, label, split, b"", "not_bytes", f"{config.image_column} holds {type(content).__name__}")
    facts = tuple(values[column] for column in config.fact_columns)
    return _limited(Row(name, label, split, content or b"", facts=facts), config)
