"""Text: documents in plain files, JSON lines, CSV or Parquet; models see tokens.

Facts of a document: characters, bytes (UTF-8), lines.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from genfoundry import settings
from genfoundry.modalities.shared import tables as _tables
from genfoundry.modalities.shared import textfiles as _textfiles
from genfoundry.pages import escape
from genfoundry.specs import REJECTED_COLUMNS, SPLITS, DataSpec, Sets, TokenSpec

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("characters", "bytes", "lines")

BOUNDARY = "<|boundary|>"
"""Name of token 0 in tokenizer.json; no text is ever encoded to it."""


class Ingest(settings.Ingest):
    """How text is read."""

    text_column: str = "text"
    """Column (CSV, Parquet) or key (JSONL) that holds the document."""
    label_column: str = ""
    """Column of the label; empty for none."""
    split_column: str = ""
    """Column of a given split (train, val or test; validation, valid and dev count as val); empty for none."""
    id_column: str = ""
    """Column of a unique id; empty takes the path in the source with ``#line``."""
    chunk: int = Field(default=0, ge=0)
    """Characters at which a plain file is cut, at a paragraph or line end; 0 makes each file one document."""
    max_bytes: int = Field(default=16 * 2**20, ge=1)
    """Longest line, cell or plain file; a longer one is set aside."""


class Preprocess(settings.Preprocess):
    """How text becomes canonical."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter documents are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer documents are dropped; 0 drops none."""


class Dedup(settings.Dedup):
    """Which texts count as copies."""

    threshold: float = Field(default=0.8, ge=0.3, le=1)
    """Least Jaccard index of two sets of word 5-grams; 0.8 as in SlimPajama and the tools after it."""
    engine: Literal["exact", "minhash"] = "exact"
    """Where candidates come from. exact: the rarest 5-grams of each document, which miss no pair. minhash: bands of
    MinHash (Broder 1997), which may miss some. Both are verified by exact counts.
    """
    bands: int = Field(default=32, ge=1, le=256)
    """Bands of ``minhash``: a pair of similarity J is found with probability 1 - (1 - J^rows)^bands."""
    rows: int = Field(default=4, ge=1, le=32)
    """Permutations in a band of ``minhash``."""
    memory: float = Field(default=4096, gt=0)
    """Megabytes that the search for copies may take; what does not fit lies in a file meanwhile. The result is the
    same.
    """


class Encode(settings.Encode):
    """How text becomes tokens."""

    tokenizer: Literal["bpe", "bytes", "characters"] = "bpe"
    """Byte-level pairs learnt on the training split (Sennrich et al. 2016, arXiv:1508.07909), or UTF-8 bytes, or the
    characters of the training split. All of them give back any text, so bits per byte are right: a character that the
    training split has not costs five tokens for each of its bytes that is unknown too; the report counts these bytes.
    """
    vocab_size: int = Field(default=4096, ge=257)
    """Tokens of the byte pair encoding at most, the boundary and 256 bytes among them."""


# ------------------------------------------------------------------------------------------------ read
def read(source: Path, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of documents and of what was set aside."""
    tables, seen = _tables.Tables(FACTS), set()
    for name, path in _tables.files(source):
        reader = _textfiles.READERS.get(path.suffix.lower())
        if reader is None:
            tables.reject(name, "unknown_format", f"needs one of {', '.join(_textfiles.READERS)}")
            continue
        for row in reader(name, path, config):
            _add(tables, row, _tables.given_split(name), config, seen)
            if tables.full:
                yield tables.take()
    yield tables.take()


_SPLIT_NAMES = {**{split: split for split in SPLITS}, "validation": "val", "valid": "val", "dev": "val"}


def _add(tables: _tables.Tables, row: _textfiles.Row, split: str | None, config: Ingest, seen: set[str]) -> None:
    if row.reason:
        tables.reject(row.id, row.reason, row.detail)
        return
    text = row.values.get(config.text_column)
    if fault := _fault(text):
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
        if not name or _SURROGATE.search(name):
            tables.reject(row.id, "no_id", f"{config.id_column} is {str(value)[:40]!r}")
            return
    if name in seen:
        tables.reject(name, "duplicate_id", f"again at {row.id}")
        return
    if config.id_column:
        seen.add(name)
    tables.add(name, label, split, text, *_facts(text))


_SURROGATE = re.compile(r"[\ud800-\udfff]")


def _fault(text: Any) -> tuple[str, str] | None:
    """(reason, detail) if a value can't be a document."""
    if not isinstance(text, str):
        return "no_text", f"needs a string, got {type(text).__name__}"
    if not text.strip():
        return "empty", f"{len(text)} characters of white space"
    if "\0" in text:
        return "nul", f"character {text.index(chr(0))} is NUL: a binary file?"
    if found := _SURROGATE.search(text):
        return "not_utf8", f"character {found.start()} is no UTF-8 text ({ord(found[0]):#06x})"
    return None


def _facts(text: str) -> tuple[int, int, int]:
    return len(text), len(text.encode()), text.count("\n") + (not text.endswith("\n"))


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
    import pandas as pd

    texts = [canonical(text) for text in records["content"]]
    reasons = [_drop(text, config) for text in texts]
    keep = np.array([reason is None for reason in reasons], bool)
    kept = records[["id", "label", "split"]][keep].copy()
    chosen = [text for text, good in zip(texts, keep, strict=True) if good]
    kept["sha256"] = pd.Series([_tables.sha256(text) for text in chosen], index=kept.index, dtype="str")
    kept["content"] = pd.Series(chosen, index=kept.index, dtype="str")
    facts = np.array([_facts(text) for text in chosen], np.int64).reshape(-1, len(FACTS))
    for column, values in zip(FACTS, facts.T, strict=True):
        kept[column] = values
    dropped = [(name, *reason) for name, reason in zip(records["id"], reasons, strict=True) if reason]
    return kept, pd.DataFrame(dropped, columns=list(REJECTED_COLUMNS), dtype="str")


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


# ------------------------------------------------------------------------------------------------ copies
def fingerprints(records: "pd.DataFrame", config: Dedup) -> Sets:
    """The set of word 5-gram hashes of each document."""
    from genfoundry.modalities.shared import shingles as _shingles

    return _shingles.sets(records["content"])


def perturb(records: "pd.DataFrame", generator: np.random.Generator) -> "pd.DataFrame":
    """Near copies: one word in fifty replaced, dropped or doubled, at least one."""
    edited = records.copy()
    edited["content"] = [_edit(text, generator) for text in records["content"]]
    return edited


def _edit(text: str, generator: np.random.Generator) -> str:
    pieces = re.findall(r"\S+|\s+", text)
    words = [number for number, piece in enumerate(pieces) if not piece.isspace()]
    for number in generator.choice(words, max(1, len(words) // 50), replace=False) if words else ():
        pieces[number] = ("changed", "", f"{pieces[number]} {pieces[number]}")[int(generator.integers(3))]
    return "".join(pieces)


# ------------------------------------------------------------------------------------------------ arrays
def encode(
    read: "Callable[[str], Iterator[pd.DataFrame]]", counts: Mapping[str, int], config: Encode, folder: Path
) -> tuple[DataSpec, dict[str, Any]]:
    """Token streams with their tokenizer; see ``_tokens``."""
    from genfoundry.modalities.shared import tokens as _tokens

    tokenizer = _tokens.train(config, (text for table in read("train") for text in table["content"]))
    tokenizer.save(str(folder / "tokenizer.json"))
    report: dict[str, Any] = {"vocabulary": tokenizer.get_vocab_size()}
    for split, count in counts.items():
        report[split] = _tokens.write_split(tokenizer, read(split), count, folder, split)
    return TokenSpec(vocab_size=tokenizer.get_vocab_size()), report


def decode(samples: Sequence[Sequence[int]], folder: Path) -> list[str]:
    """Text of token sequences, with the tokenizer of a folder of arrays or of a model."""
    from genfoundry.modalities.shared import tokens as _tokens

    return _tokens.load(folder).decode_batch([list(tokens) for tokens in samples], skip_special_tokens=False)


# ------------------------------------------------------------------------------------------------ pages
def show(record: Mapping[str, Any], limit: int = 600) -> str:
    """A document's beginning as HTML."""
    text = str(record["content"])
    return f"<pre>{escape(text[:limit])}{' …' * (len(text) > limit)}</pre>"


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """What the second document removes from and adds to the first, word by word, as HTML."""
    from genfoundry.modalities.shared import worddiff as _worddiff

    return f"<pre>{_worddiff.html(str(first['content']), str(second['content']))}</pre>"
