"""Read text; data contract of raw documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.specs import FILE, RECORD_COLUMNS, SPLITS
from genfoundry.core.errors import ConfigError
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common import documents as _documents
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.common import textfiles as _textfiles
from genfoundry.modalities.common import values as _values
from genfoundry.modalities.common.layout import split_named
from genfoundry.modalities.common.textfiles import Ingest

if TYPE_CHECKING:
    import pandas as pd

FACTS = _documents.FACTS


def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of documents and of rejected ones."""
    extra = {name: column for name in _EXTRA if (column := getattr(config, f"{name}_column"))}
    if taken := sorted({*RECORD_COLUMNS, FILE, *FACTS, *_EXTRA} & {*config.fact_columns}):
        raise ConfigError(
            f"ingest.fact_columns: {', '.join(taken)} is a column of every document; rename it in the source"
        )
    extra |= {name: name for name in config.fact_columns}
    tables, seen = _tables.Tables(FACTS, (*extra, *([FILE] if config.id_column else []))), set()
    columns = (config.id_column, config.label_column, config.split_column, *extra.values())
    for found in _archives.members(source, config):
        reader = _textfiles.READERS.get(found.ending)
        if found.reason:
            tables.reject(found.name, found.reason, found.detail)
        elif reader is None:
            tables.reject(found.name, "unknown_format", f"needs one of {', '.join(_textfiles.READERS)}")
        else:
            for row in reader(found, config):
                _add(tables, row, found, config, seen, columns)
                if tables.full:
                    yield tables.take()
        if tables.full:
            yield tables.take()
    yield tables.take()


_EXTRA = ("license", "source", "time", "group")


def _add(
    tables: _tables.Tables,
    row: _textfiles.Row,
    found: _archives.Found,
    config: Ingest,
    seen: set[str],
    columns: tuple[str, ...],
) -> None:
    if row.reason:
        tables.reject(row.id, row.reason, row.detail)
        return
    text = row.values.get(config.text_column)
    if fault := _documents.fault(text):
        tables.reject(row.id, *fault)
        return
    values = row.values
    if isinstance(several := values.get(config.license_column), list):
        values = {**values, config.license_column: ", ".join(map(str, several))}
    try:
        name, label, given, *more = _values.canonicals(values, columns, config.missing)
    except _values.Odd as error:
        tables.reject(row.id, *error.args)
        return
    split = split_named(given, config.split_names) if given else found.split
    if given and split is None:
        detail = f"{config.split_column} is {given[:40]!r}; needs {', '.join(SPLITS)}"
        tables.reject(row.id, "unknown_split", detail)
        return
    split = None if split == "none" else split
    if config.id_column and not name:
        tables.reject(row.id, "no_id", f"{config.id_column} is {str(row.values.get(config.id_column))[:40]!r}")
        return
    name = name or row.id
    if name in seen:
        tables.reject(name, "duplicate_id", f"again at {row.id}")
        return
    if config.id_column:
        seen.add(name)
    if found.ending not in _textfiles.UNTYPED:
        named = (*columns[:3], config.source_column, config.group_column)
        tables.kinds.note(found.name, row.values, named, config.missing)
    place = [found.name] if config.id_column else []
    tables.add(name, label, split, text, *_documents.facts(text), *more, *place)


def expectations() -> list[dict[str, Any]]:
    """Expectations of raw text: ids unique, no document empty."""
    return _tables.suite(
        ("critical", "expect_column_values_to_be_between", {"column": "characters", "min_value": 1}),
        ("warning", "expect_column_median_to_be_between", {"column": "characters", "min_value": 20}),
    )
