"""Text: documents in plain files, JSON lines, CSV or Parquet; models see tokens.

Facts of a document: characters, bytes (UTF-8), lines.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from genfoundry.config.sections.ingest import Ingest as _Ingest
from genfoundry.config.sections.preprocess import Preprocess as _Preprocess
from genfoundry.config.specs import SPLITS
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common import copies as _copies
from genfoundry.modalities.common import documents as _documents
from genfoundry.modalities.common import masking as _masking
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.common import textfiles as _textfiles
from genfoundry.modalities.common import tokens as _tokens
from genfoundry.modalities.text import languages as _languages
from genfoundry.modalities.text import quality as _quality
from genfoundry.modalities.text import repair as _repair

if TYPE_CHECKING:
    import pandas as pd

FACTS = _documents.FACTS


class Ingest(_Ingest, _archives.Limits):
    """How text is read: .txt, .md, .jsonl, .csv, .tsv and .parquet, also compressed (.gz, .bz2, .xz, .zst) and, all but
    Parquet, inside .zip and .tar archives.
    """

    text_column: str = "text"
    """Column (CSV, Parquet) or key (JSONL) that holds the document."""
    label_column: str = ""
    """Column of the label; empty for none."""
    split_column: str = ""
    """Column of a given split (train, val or test; validation, valid and dev count as val); empty for none."""
    id_column: str = ""
    """Column of a unique id; empty takes the path in the source with ``#line``."""
    license_column: str = ""
    """Column of the licence, kept as ``license``; empty for none."""
    source_column: str = ""
    """Column that says where a record comes from, kept as ``source``; empty takes the file or top folder."""
    time_column: str = ""
    """Column of a time, kept as ``time`` in its own words (a Parquet time in ISO 8601); empty for none."""
    group_column: str = ""
    """Column of what belongs together (author, book), kept as ``group``; empty for none."""
    chunk: int = Field(default=0, ge=0)
    """Characters at which a plain file is cut, at a paragraph or line end; 0 makes each file one document."""
    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Longest line, cell or plain file; a longer one is set aside."""
    max_row_group: int = Field(default=2**29, ge=1)
    """Largest row group of a Parquet file, in unpacked bytes of the columns that are read: one is held in memory."""


class Preprocess(_Preprocess):
    """How text becomes canonical."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer documents are dropped; 0 drops none."""
    repair: bool = False
    """Undo text that was decoded as the wrong encoding (``Ã©`` for ``é``), by ftfy (Speer 2019); documents in ASCII are
    passed over. Right for the web; off here, as it also "repairs" what documentation shows on purpose.
    """
    detect_language: bool = False
    """Add the column ``language`` (ISO 639-1; ``und`` for none), by py3langid (Lui and Baldwin 2012)."""
    languages: Annotated[tuple[str, ...], AfterValidator(_languages.checked)] = ()
    """Languages that are kept, such as ``[en, de]``; empty keeps all."""
    min_language: float = Field(default=0.0, ge=0, le=1)
    """Least probability of the language, where ``languages`` names some; FineWeb 0.65 (with another classifier)."""
    quality: _quality.Quality = _quality.Quality()
    """Rules that drop poor documents, each off until it is given a value."""
    mask: tuple[_masking.Kind, ...] = ()
    """Personal data to replace by a placeholder such as ``[EMAIL]``; the column ``masked_email`` counts them."""


Dedup, Encode = _copies.Dedup, _tokens.Encode


# ------------------------------------------------------------------------------------------------ read
def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of documents and of what was set aside."""
    extra = {name: column for name in _EXTRA if (column := getattr(config, f"{name}_column"))}
    tables, seen = _tables.Tables(FACTS, tuple(extra)), set()
    for found in _archives.members(source, config):
        reader = _textfiles.READERS.get(found.ending)
        if found.reason:
            tables.reject(found.name, found.reason, found.detail)
        elif reader is None:
            tables.reject(found.name, "unknown_format", f"needs one of {', '.join(_textfiles.READERS)}")
        else:
            for row in reader(found, config):
                _add(tables, row, found.split, config, seen, extra)
                if tables.full:
                    yield tables.take()
        if tables.full:
            yield tables.take()
    yield tables.take()


_EXTRA = ("license", "source", "time", "group")

_SPLIT_NAMES = {**{split: split for split in SPLITS}, "validation": "val", "valid": "val", "dev": "val"}


def _add(
    tables: _tables.Tables,
    row: _textfiles.Row,
    split: str | None,
    config: Ingest,
    seen: set[str],
    extra: Mapping[str, str],
) -> None:
    if row.reason:
        tables.reject(row.id, row.reason, row.detail)
        return
    text = row.values.get(config.text_column)
    if fault := _documents.fault(text):
        tables.reject(row.id, *fault)
        return
    name, label = row.id, None
    if config.label_column and (value := row.values.get(config.label_column)) not in (None, ""):
        label = str(value)
    if config.split_column and (value := row.values.get(config.split_column)) not in (None, ""):
        split = _SPLIT_NAMES.get(str(value).lower())
        if split is None:
            detail = f"{config.split_column} is {str(value)[:40]!r}; needs {', '.join(SPLITS)}"
            tables.reject(row.id, "unknown_split", detail)
            return
    if config.id_column:
        value = row.values.get(config.id_column)
        name = "" if value is None else str(value)
        if not name or _documents.SURROGATE.search(name):
            tables.reject(row.id, "no_id", f"{config.id_column} is {str(value)[:40]!r}")
            return
    if name in seen:
        tables.reject(name, "duplicate_id", f"again at {row.id}")
        return
    if config.id_column:
        seen.add(name)
    more = [_text(row.values.get(column)) for column in extra.values()]
    tables.add(name, label, split, text, *_documents.facts(text), *more)


def _text(value: Any) -> str | None:
    """A cell as text: a time in ISO 8601, nothing as null; what is no UTF-8 is escaped."""
    if value is None or value == "":
        return None
    shown = value.isoformat() if isinstance(value, date | datetime) else str(value)
    return shown.encode("utf-8", "backslashreplace").decode()


# ------------------------------------------------------------------------------------------------ clean
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufeff\ufffe\uffff]")
_TRAILING = re.compile(r"[ \t\u00a0]+(?=\n|\Z)")


def canonical(text: str) -> str:
    """NFC with ``\\n`` line ends, no control characters, no white space at line ends, no blank line at the ends."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\u2028", "\n")
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    return _TRAILING.sub("", text).strip("\n")


def clean(records: "pd.DataFrame", config: Preprocess) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(canonical documents, what was dropped and why)."""
    return _documents.cleaned(records, partial(_cleaned, config=config), _columns(config))


def _columns(config: Preprocess) -> dict[str, str]:
    languages = {"language": "str"} if config.detect_language or config.languages else {}
    return {**languages, **_masking.columns(config.mask)}


def _cleaned(text: str, record: Mapping[str, Any], config: Preprocess) -> tuple[str, dict[str, Any]]:
    """The cheap rules first: what they drop need not be looked at closer."""
    if config.repair and not text.isascii():
        text = _repair.mojibake(text)
    text = canonical(text)
    if reason := _drop(text, config) or _quality.fault(text, config.quality):
        raise _documents.Dropped(*reason)
    extra: dict[str, Any] = {}
    if config.detect_language or config.languages:
        extra["language"], probability = _languages.detect(text)
        if config.languages and extra["language"] not in config.languages:
            raise _documents.Dropped("other_language", f"{extra['language']}, needs {', '.join(config.languages)}")
        if config.languages and probability < config.min_language:
            detail = f"{extra['language']} at {probability:.2f}, at least {config.min_language:g}"
            raise _documents.Dropped("unsure_language", detail)
    if config.mask:
        text, counts = _masking.masked(text, config.mask)
        extra.update(counts)
    return text, extra


def _drop(text: str, config: Preprocess) -> tuple[str, str] | None:
    if not text.strip():
        return "blank", "nothing is left but white space"
    if len(text) < config.min_characters:
        return "too_short", f"{len(text)} characters, needs {config.min_characters}"
    if config.max_characters and len(text) > config.max_characters:
        return "too_long", f"{len(text)} characters, at most {config.max_characters}"
    return None


# ------------------------------------------------------------------------------------------------ contract
def expectations() -> list[dict[str, Any]]:
    """What raw text must keep: ids unique, every document with something in it."""
    suite: list[tuple[str, str, dict[str, Any]]] = [
        ("critical", "expect_table_row_count_to_be_between", {"min_value": 1}),
        ("critical", "expect_column_values_to_not_be_null", {"column": "id"}),
        ("critical", "expect_column_values_to_be_unique", {"column": "id"}),
        ("critical", "expect_column_values_to_match_regex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
        ("critical", "expect_column_values_to_be_between", {"column": "characters", "min_value": 1}),
        ("warning", "expect_column_median_to_be_between", {"column": "characters", "min_value": 20}),
        ("warning", "expect_column_values_to_be_unique", {"column": "sha256", "mostly": 0.9}),
    ]
    return [{"type": kind, "kwargs": arguments, "severity": severity} for severity, kind, arguments in suite]


# ------------------------------------------------------------------------------------------------ shared with code
fingerprints, perturb = _copies.fingerprints, _copies.perturb
encode, decode, show, compare = _documents.encode, _documents.decode, _documents.show, _documents.compare
