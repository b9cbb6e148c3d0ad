"""Shared steps of reading a source: files in a fixed order, tables of bounded size."""

import hashlib
import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genfoundry.config.specs import RECORD_COLUMNS, REJECTED_COLUMNS
from genfoundry.core.errors import DataError
from genfoundry.modalities.common.values import Kinds, canonical

if TYPE_CHECKING:
    import pandas as pd

    from genfoundry.modalities.common.layout import Layout

ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Name endings of archives."""

COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Name endings of single compressed files."""

TABLE_BYTES = 16 * 2**20
"""Content of one table: small beside the memory, large beside the cost of a table."""

TABLE_ROWS = 20_000
"""Rows of one table, when the records are tiny."""

_BYTES = re.compile(r"[\udc80-\udcff]|\\x[89a-f][0-9a-f]")
"""Bytes of a file name that are no UTF-8, or look like such in an id."""

SHOWN = 5
"""Files that a message names."""


Expectation = tuple[str, str, dict[str, Any]]
"""Severity, type and arguments of an expectation on raw records."""


def suite(*own: Expectation) -> list[dict[str, Any]]:
    """A modality's own expectations with those of every one: records with unique ids, few of them identical."""
    first: list[Expectation] = [
        ("critical", "expect_table_row_count_to_be_between", {"min_value": 1}),
        ("critical", "expect_column_values_to_not_be_null", {"column": "id"}),
        ("critical", "expect_column_values_to_be_unique", {"column": "id"}),
        ("critical", "expect_column_values_to_match_regex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
    ]
    last: Expectation = ("warning", "expect_column_values_to_be_unique", {"column": "sha256", "mostly": 0.9})
    every = [*first, *own, last]
    return [{"type": kind, "kwargs": arguments, "severity": severity} for severity, kind, arguments in every]


class Part(NamedTuple):
    """Some files of a source, under the names that they have in it: read as the whole would be."""

    files: tuple[tuple[str, Path], ...]
    layout: "Layout | None" = None
    """Splits that the folders of the whole source give."""


def files(source: Path | Part, deadline: float = math.inf) -> list[tuple[str, Path]]:
    """(path inside the source in posix form, path) of every file that is not hidden, sorted by the former.

    Args:
        source: File, folder, or some files of one.
        deadline: Moment of ``time.monotonic`` at which to give up.

    Raises:
        TimeoutError: The deadline has passed.
        DataError: The source is missing, holds no file, or something that can't be read: a closed folder, a linked one,
            a broken link.
    """
    if isinstance(source, Part):
        return list(source.files)
    try:
        if source.is_file():
            return [(file_id(source.name), source)]
        if not source.is_dir():
            raise DataError(f"{source}: no such file or folder; put the data there (dvc pull) or mend 'source'")
        found, lost = [], []
        for name, path, fault in sorted(_below(source, "", deadline)):
            lost.append(f"{name} ({fault})") if fault else found.append((name, path))
    except PermissionError as error:
        raise DataError(f"{error.filename}: may not be read; give this user the right to, or take it out") from None
    if lost:
        more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
        raise DataError(
            f"{source}: {'; '.join(lost[:SHOWN])}{more}: can't be read; put files and folders themselves there, or "
            "remove what points elsewhere"
        )
    if not found:
        raise DataError(f"{source}: the folder holds no file; put the data there or mend 'source' in params.yaml")
    return found


def _below(folder: str | Path, inside: str, deadline: float) -> Iterator[tuple[str, Path, str]]:
    """(name, path, why it can't be read) of what is not hidden; links to files are followed, as DVC does."""
    if time.monotonic() > deadline:
        raise TimeoutError(str(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name == "__MACOSX":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{inside}{entry.name}/", deadline)
            else:
                yield file_id(inside + entry.name), Path(entry.path), _fault(entry)


def _fault(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_file():
            return ""
        if entry.is_dir():
            return "a link to a folder, whose files DVC does not version"
        return "a link to nothing" if entry.is_symlink() else "a device, a socket or a pipe"
    except OSError as error:
        return f"a link that leads nowhere: {error.strerror}"


def storable(words: str) -> str:
    """Text as UTF-8; bytes that are none are written as escapes."""
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def file_id(name: str) -> str:
    r"""A file name as UTF-8 text, different for each name: bytes that are none become ``\xf6``.

    A name with such bytes, or with what looks like one, has its own backslashes doubled.
    """
    return storable(name.replace("\\", "\\\\") if _BYTES.search(name) else name)


def ending(name: str) -> str:
    """The ending of an archive's name, the longest that fits; empty for other files."""
    return max((one for one in ARCHIVES if name.lower().endswith(one)), key=len, default="")


def is_archive(name: str) -> bool:
    """Whether a file of that name holds files."""
    return bool(ending(name))


def bare(name: str) -> str:
    """The name without its compression: ``a.jsonl`` of ``a.jsonl.gz``; other names as they are."""
    return name[: name.rindex(".")] if name.lower().endswith(COMPRESSED) and not is_archive(name) else name


def sha256(content: bytes | str) -> str:
    """Hex digest of a content; text counts as UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


class Tables:
    """Gathers records and rejected ones until a table is full."""

    def __init__(self, facts: Sequence[str], texts: Sequence[str] = ()) -> None:
        self.columns = [*RECORD_COLUMNS, *facts, *texts]
        self.texts = ("id", "label", "split", "sha256", *texts)
        self._clear()

    def _clear(self) -> None:
        self.records: list[tuple[Any, ...]] = []
        self.rejected: list[tuple[str, str, str]] = []
        self.kinds = Kinds()
        """What the named columns of the records hold, by file."""
        self.held = 0

    def add(self, id: str, label: str | None, split: str | None, content: bytes | str, *facts: Any) -> None:
        """Add a record with its facts, then its texts; its sha256 is taken here."""
        self.records.append((id, canonical(label), split, sha256(content), content, *facts))
        self.held += len(content)

    def reject(self, id: str, reason: str, detail: str) -> None:
        """Reject a record."""
        self.rejected.append((storable(id), reason, storable(detail)))

    @property
    def full(self) -> bool:
        return self.held >= TABLE_BYTES or len(self.records) + len(self.rejected) >= TABLE_ROWS

    def take(self) -> "tuple[pd.DataFrame, pd.DataFrame]":
        """The gathered rows as tables (records, rejected); then start empty."""
        import pandas as pd

        texts = dict.fromkeys(self.texts, "str")
        tables = (
            pd.DataFrame(self.records, columns=self.columns).astype(texts),
            pd.DataFrame(self.rejected, columns=list(REJECTED_COLUMNS), dtype="str"),
        )
        tables[0].attrs["kinds"] = self.kinds.found
        self._clear()
        return tables
