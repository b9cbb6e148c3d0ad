"""Code: the files of a source tree, each one document with its language; models see tokens.

Every byte of a file counts in code, so nothing is normalised: tabs, line ends and Unicode forms stay. Facts of a file:
characters, bytes, lines, mean and longest line, share of letters and digits; its language and licence as text.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from genfoundry.config.sections.ingest import Ingest as _Ingest
from genfoundry.config.sections.preprocess import Preprocess as _Preprocess
from genfoundry.modalities.code import sourcecode as _sourcecode
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common import copies as _copies
from genfoundry.modalities.common import documents as _documents
from genfoundry.modalities.common import masking as _masking
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.common import textfiles as _textfiles
from genfoundry.modalities.common import tokens as _tokens

if TYPE_CHECKING:
    import pandas as pd

FACTS = (*_documents.FACTS, "mean_line", "longest_line", "alphanumeric")


def _known(languages: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [language for language in languages if language not in _sourcecode.LANGUAGES]:
        raise ValueError(
            f"unknown languages {wrong}; known are {', '.join(_sourcecode.LANGUAGES)}, others by extensions"
        )
    return languages


class Ingest(_Ingest, _archives.Limits):
    """How a source tree is read: a folder or a .zip or .tar archive; each file in UTF-8 is one record."""

    max_rejected: float = Field(default=0.95, ge=0, le=1)
    """Largest share of files that may be set aside; a source tree holds much that is no code."""
    languages: Annotated[tuple[str, ...], AfterValidator(_known)] = ()
    """Languages that are read, such as ``[python, c++]``; empty reads all that are known by their file names."""
    extensions: dict[str, str] = Field(default_factory=dict)
    """Further endings of file names and their language, such as ``{.nim: nim}``; they are read in any case."""
    max_bytes: int = Field(default=2**20, ge=1)
    """Longest file; a longer one is set aside, as in The Stack (Kocetkov et al. 2022, arXiv:2211.15533)."""
    group_folders: int = Field(default=0, ge=0)
    """Leading folders of a path that name its group (1: the repository's folder), kept as ``group``; 0 for none."""


class Preprocess(_Preprocess):
    """Which files are kept."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter files are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer files are dropped; 0 drops none."""
    drop_vendored: bool = True
    """Drop files below ``vendor``, ``node_modules``, ``third_party`` and the like: copies of other projects."""
    drop_generated: bool = True
    """Drop files that say in a comment, or by their name, that a program wrote them."""
    max_mean_line: float = Field(default=100, ge=0)
    """Greatest mean length of a line; above it stand data or minified code (Chen et al. 2021, arXiv:2107.03374).
    0 allows any.
    """
    max_longest_line: int = Field(default=1000, ge=0)
    """Longest line (the same source); 0 for any."""
    min_alphanumeric: float = Field(default=0.25, ge=0, le=1)
    """Least share of letters and digits, as in The Stack (arXiv:2211.15533)."""
    drop_unparsed: bool = False
    """Drop Python files that this interpreter can't parse; the column ``parses`` says so in any case."""
    strip_licence: bool = False
    """Take away a first comment about licence or copyright; the column ``license`` keeps what it said."""
    mask: tuple[_masking.Kind, ...] = ()
    """Personal data and secrets to replace by a placeholder such as ``[KEY]``; ``masked_key`` counts them."""


Dedup, Encode = _copies.Dedup, _tokens.Encode


# ------------------------------------------------------------------------------------------------ read
def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of files and of what was set aside."""
    texts = ("language", "license", *(["group"] if config.group_folders else []))
    tables = _tables.Tables(FACTS, texts)
    chosen = config.languages or tuple(_sourcecode.LANGUAGES)
    endings = {ending: name for ending, name in _sourcecode.ENDINGS.items() if name in chosen}
    endings |= {ending.lower(): name for ending, name in config.extensions.items()}
    for found in _archives.members(source, config):
        language = endings.get(PurePosixPath(found.name).suffix.lower())
        if found.reason:
            tables.reject(found.name, found.reason, found.detail)
        elif language is None:
            tables.reject(found.name, "no_code", "its ending is of no language that is read (ingest.languages)")
        else:
            _add(tables, found, language, config)
        if tables.full:
            yield tables.take()
    yield tables.take()


def _add(tables: _tables.Tables, found: _archives.Found, language: str, config: Ingest) -> None:
    with found.open() as file:
        row = _textfiles.whole(found.name, file, config.max_bytes)
    text = row.values.get("text")
    fault = (row.reason, row.detail) if row.reason else _documents.fault(text)
    if fault:
        tables.reject(found.name, *fault)
        return
    assert isinstance(text, str)
    group = ["/".join(found.name.split("/")[:-1][: config.group_folders]) or None] if config.group_folders else []
    facts = (*_documents.facts(text), *_sourcecode.shape(text))
    tables.add(found.name, None, found.split, text, *facts, language, _sourcecode.licence(text), *group)


# ------------------------------------------------------------------------------------------------ clean
def clean(records: "pd.DataFrame", config: Preprocess) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(files that are kept, what was dropped and why)."""
    columns = {"mean_line": "float64", "longest_line": "int64", "alphanumeric": "float64", "parses": "boolean"}
    columns |= _masking.columns(config.mask)
    return _documents.cleaned(records, partial(_cleaned, config=config), columns)


def _cleaned(text: str, record: Mapping[str, Any], config: Preprocess) -> tuple[str, dict[str, Any]]:
    name = str(record["id"])
    if reason := _foreign(name, text, config):
        raise _documents.Dropped(*reason)
    parses = _sourcecode.parses(text, PurePosixPath(name).suffix.lower())
    if parses is False and config.drop_unparsed:
        raise _documents.Dropped("unparsed", "Python that this interpreter can't parse")
    counts: dict[str, int] = {}
    if config.strip_licence:
        text = _sourcecode.without_licence(text)
    if config.mask:
        text, counts = _masking.masked(text, config.mask)
    facts = dict(zip(FACTS[len(_documents.FACTS) :], _sourcecode.shape(text), strict=True))
    if reason := _misshapen(text, facts, config):
        raise _documents.Dropped(*reason)
    return text, {**facts, "parses": parses, **counts}


def _foreign(name: str, text: str, config: Preprocess) -> tuple[str, str] | None:
    """(reason, detail) for a file that nobody here wrote."""
    if config.drop_vendored and (folder := _sourcecode.vendored(name)):
        return "vendored", f"lies below {folder}"
    if config.drop_generated and (mark := _sourcecode.generated(name, text)):
        return "generated", mark
    return None


def _misshapen(text: str, facts: Mapping[str, float], config: Preprocess) -> tuple[str, str] | None:
    if not text.strip():
        return "blank", "nothing is left but white space"
    if len(text) < config.min_characters:
        return "too_short", f"{len(text)} characters, needs {config.min_characters}"
    if config.max_characters and len(text) > config.max_characters:
        return "too_long", f"{len(text)} characters, at most {config.max_characters}"
    for rule in ("mean_line", "longest_line"):
        limit = getattr(config, f"max_{rule}")
        if limit and facts[rule] > limit:
            return f"max_{rule}", f"{facts[rule]:g} characters, at most {limit:g}"
    if facts["alphanumeric"] < config.min_alphanumeric:
        return "min_alphanumeric", f"{facts['alphanumeric']:g}, at least {config.min_alphanumeric:g}"
    return None


# ------------------------------------------------------------------------------------------------ contract
def expectations() -> list[dict[str, Any]]:
    """What raw code must keep: ids unique, every file with something in it."""
    suite: list[tuple[str, str, dict[str, Any]]] = [
        ("critical", "expect_table_row_count_to_be_between", {"min_value": 1}),
        ("critical", "expect_column_values_to_not_be_null", {"column": "id"}),
        ("critical", "expect_column_values_to_be_unique", {"column": "id"}),
        ("critical", "expect_column_values_to_match_regex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
        ("critical", "expect_column_values_to_be_between", {"column": "characters", "min_value": 1}),
        ("warning", "expect_column_median_to_be_between", {"column": "longest_line", "max_value": 400}),
        ("warning", "expect_column_values_to_be_unique", {"column": "sha256", "mostly": 0.9}),
    ]
    return [{"type": kind, "kwargs": arguments, "severity": severity} for severity, kind, arguments in suite]


# ------------------------------------------------------------------------------------------------ shared with text
fingerprints, perturb = _copies.fingerprints, _copies.perturb
encode, decode, show, compare = _documents.encode, _documents.decode, _documents.show, _documents.compare
