"""Shared steps of text and code: facts and faults of a document, cleaning, encoding, display."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genfoundry.config.specs import RECORD_COLUMNS, REJECTED_COLUMNS, DataSpec, TokenSpec
from genfoundry.core.pages import escape
from genfoundry.modalities.common import streams as _streams
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.common import tokens as _tokens
from genfoundry.modalities.common import values as _values
from genfoundry.modalities.common.tokens import Encode

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("characters", "bytes", "lines")
"""Facts of every document."""


def facts(text: str) -> tuple[int, int, int]:
    """Characters, bytes as UTF-8, lines."""
    size = len(text) if text.isascii() else len(text.encode())
    return len(text), size, text.count("\n") + (not text.endswith("\n"))


def fault(text: Any) -> tuple[str, str] | None:
    """(reason, detail) if a value can't be a document."""
    if not isinstance(text, str):
        return "no_text", f"needs a string, got {type(text).__name__}"
    if not text.strip():
        return "empty", f"{len(text)} characters of white space"
    if "\0" in text:
        return "nul", f"character {text.index(chr(0))} is NUL: a binary file?"
    if found := _values.SURROGATE.search(text):
        return "not_utf8", _values.not_utf8(found)
    return None


def misfit(text: str, least: int, most: int) -> tuple[str, str] | None:
    """(reason, detail) if a clean document is blank, or has fewer than ``least`` or more than ``most`` (0: any)
    characters.
    """
    if not text.strip():
        return "blank", "nothing is left but white space"
    if len(text) < least:
        return "too_short", f"{len(text)} characters, needs {least}"
    if most and len(text) > most:
        return "too_long", f"{len(text)} characters, at most {most}"
    return None


class Dropped(Exception):
    """A record dropped in preprocess: reason, detail."""


BROKEN = (ValueError, LookupError, ArithmeticError, RecursionError)
"""What cleaning may raise on one odd document: of a stage with a million others it drops this one."""


def cleaned(
    records: "pd.DataFrame",
    clean: Callable[[str, Mapping[str, Any]], tuple[str, Mapping[str, Any]]],
    columns: Mapping[str, str],
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(canonical records, what was dropped and why).

    Args:
        records: Raw documents.
        clean: Canonical text and further columns of a raw text and its record, or Dropped.
        columns: The further columns and what pandas shall hold them as.

    Columns that the records have beyond the contract's are kept, unless ``columns`` or ``FACTS`` computes them again.
    """
    import pandas as pd

    chosen, texts, more, dropped = [], [], [], []
    others = [name for name in records.columns if name not in (*RECORD_COLUMNS, *FACTS, *columns)]
    names = ["id", "content", *others]
    for number, values in enumerate(zip(*(records[name] for name in names), strict=True)):
        row = dict(zip(names, values, strict=True))
        try:
            text, extra = clean(row["content"], row)
        except Dropped as error:
            dropped.append((row["id"], *error.args))
            continue
        except BROKEN as error:
            dropped.append((row["id"], "broken", f"{type(error).__name__}: {error}"[:200]))
            continue
        chosen.append(number)
        texts.append(text)
        more.append(extra)
    kept = records[["id", "label", "split", *others]].iloc[chosen].copy()
    kept.insert(3, "sha256", pd.Series([_tables.sha256(text) for text in texts], index=kept.index, dtype="str"))
    kept.insert(4, "content", pd.Series(texts, index=kept.index, dtype="str"))
    values = np.array([facts(text) for text in texts], np.int64).reshape(-1, len(FACTS))
    for position, (column, found) in enumerate(zip(FACTS, values.T, strict=True)):
        kept.insert(5 + position, column, found)
    for column, kind in columns.items():
        kept[column] = pd.Series([extra[column] for extra in more], index=kept.index, dtype=kind)
    return kept, pd.DataFrame(dropped, columns=list(REJECTED_COLUMNS), dtype="str")


# ------------------------------------------------------------------------------------------------ arrays
class Source(Protocol):
    """The records in use, as encoding reads them."""

    sizes: Mapping[str, np.ndarray]
    """int64 (records,) of each split: bytes of content by row."""
    pinned: bytes | None
    """The pinned tokenizer as JSON; None: one is trained."""

    def __call__(self, split: str) -> "Iterator[pd.DataFrame]":
        """Tables of a split, with column ``row``."""

    def each(self, encode: Callable[[Sequence[str], Path], _streams.Encoded], folder: Path) -> "Pieces":
        """All records, encoded shard by shard with what lies in ``tokenizer.json`` of a folder."""


class Pieces(Protocol):
    """Encoded records."""

    def of(self, split: str) -> _streams.Documents:
        """Those of a split."""


def encode(read: Source, counts: Mapping[str, int], config: Encode, folder: Path) -> tuple[DataSpec, dict[str, Any]]:
    """Token streams with their tokenizer; see ``streams``."""
    if read.pinned is None:
        tokenizer = _tokens.train(config, _learnt(read, config))
        tokenizer.save(str(folder / _tokens.FILE))
    else:
        (folder / _tokens.FILE).write_bytes(read.pinned)
        tokenizer = _tokens.load(folder)
    pieces = read.each(_streams.encode_file, folder)
    report: dict[str, Any] = {"vocabulary": tokenizer.get_vocab_size()}
    for split in counts:
        report[split] = _streams.write_stream(tokenizer, pieces.of(split), folder, split)
    return TokenSpec(vocab_size=tokenizer.get_vocab_size(), boundary=_tokens.boundary(tokenizer)), report


def _learnt(read: Source, config: Encode) -> Iterator[str]:
    """The texts that a tokenizer learns on."""
    if config.tokenizer == "bytes":
        return
    rows = len(read.sizes["train"])
    if config.tokenizer == "bpe":
        rows = _streams.sampled(read.sizes["train"], config.sample)
    for table in read("train"):
        yield from table["content"][table["row"] < rows]


# ------------------------------------------------------------------------------------------------ pages
def show(record: Mapping[str, Any], limit: int = 600) -> str:
    """A document's beginning as HTML."""
    text = str(record["content"])
    return f"<pre>{escape(text[:limit])}{' …' * (len(text) > limit)}</pre>"


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What the second document removes from and adds to the first, word by word, as HTML."""
    from genfoundry.modalities.common import worddiff as _worddiff

    return f"<pre>{_worddiff.html(str(first['content']), str(second['content']))}</pre>"
