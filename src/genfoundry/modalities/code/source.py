"""Read a source tree; data contract of raw files."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from genfoundry.modalities.code import sourcecode as _sourcecode
from genfoundry.modalities.common import archives as _archives
from genfoundry.modalities.common import documents as _documents
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.common import textfiles as _textfiles
from genfoundry.modalities.common import values as _values

if TYPE_CHECKING:
    import pandas as pd

FACTS = (*_documents.FACTS, *_sourcecode.SHAPE)


def _known(languages: tuple[str, ...]) -> tuple[str, ...]:
    if wrong := [language for language in languages if language not in _sourcecode.LANGUAGES]:
        raise ValueError(
            f"unknown languages {wrong}; known are {', '.join(_sourcecode.LANGUAGES)}, others by extensions"
        )
    return languages


class Ingest(_archives.Files):
    """How a source tree is read: a folder or a .zip or .tar archive; each file in UTF-8 is one record.

    Folders give splits only where one of them is ``train``: ``test`` alone holds the tests of the code.
    """

    FOLDERS = "program"

    max_rejected: float = Field(default=0.95, ge=0, le=1)
    """Largest share of files that may be rejected; a source tree holds many files that are no code."""
    languages: Annotated[tuple[str, ...], AfterValidator(_known)] = ()
    """Languages that are read, such as ``[python, c++]``; empty reads all that are known by their file names."""
    extensions: dict[str, str] = Field(default_factory=dict)
    """Further endings of file names and their language, such as ``{.nim: nim}``; they are read in any case."""
    max_bytes: int = Field(default=2**20, ge=1)
    """Longest file; a longer one is rejected, as in The Stack (Kocetkov et al. 2022, arXiv:2211.15533)."""
    group_folders: int = Field(default=0, ge=0)
    """Leading folders of a path that name its group (1: the repository's folder), kept as ``group``; 0 for none."""


def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of files and of rejected ones."""
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
    folders = "/".join(found.name.split("/")[:-1][: config.group_folders])
    group = [_values.canonical(folders)] if config.group_folders else []
    facts = (*_documents.facts(text), *_sourcecode.shape(text))
    tables.add(found.name, None, found.split, text, *facts, language, _sourcecode.licence(text), *group)


def expectations() -> list[dict[str, Any]]:
    """Expectations of raw code: ids unique, no file empty."""
    return _tables.suite(
        ("critical", "expect_column_values_to_be_between", {"column": "characters", "min_value": 1}),
        ("warning", "expect_column_median_to_be_between", {"column": "longest_line", "max_value": 400}),
    )
