"""Canonical text of a value that names something (label, group, id, split): one value, one spelling in all readers."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError

SURROGATE = re.compile(r"[\ud800-\udfff]")

EXACT = 2**53
"""From here on a float64 skips integers: two ids may have become one number."""

MISSING = ("nan", "NaN", "NaT", "<NA>", "None", r"\N", "#N/A")
"""What programs write as text for a missing value (NumPy and pandas, Python, dumps of databases, spreadsheets) and few
people call a class. ``NA``, ``NULL`` and ``N/A`` are names too: Namibia, sodium, a surname, an answer.
"""

_MISSING = ("NAType", "NaTType")
"""Types of pandas' missing values, which need no import of pandas this way."""

_WHOLE = re.compile(r"-?\d+\.0+")

_TRUTH = {"True": "true", "False": "false", "TRUE": "true", "FALSE": "false"}
"""Truth values as Python and pandas, spreadsheets and R write them; as JSON and Arrow do."""


class Narrow(float):
    """The shortest number that a float of 16 or 32 bits is nearest to: 0.1 is 0.1, in 64 bits 0.10000000149011612.

    ``exact`` is what ``EXACT`` is for its bits.
    """

    exact: int

    def __new__(cls, value: np.floating[Any]) -> "Narrow":
        """Of a NumPy scalar."""
        self = super().__new__(cls, str(value))
        self.exact = 2 ** (np.finfo(value.dtype).nmant + 1)
        return self


class Odd(Exception):
    """A value that names nothing: reason, detail."""


def canonical(value: Any, missing: Iterable[str] = ()) -> str | None:
    """A value as text in Unicode NFC, without white space around it; None for a missing one (None, blank, NaN, NaT).

    A number that is whole is written as an integer, whether it came as 7, 7.0, a decimal or the text ``7.0``: a single
    gap makes pandas write a column of integers as floats, also where it makes text of them. Truth values are ``true``
    and ``false``, a float is the shortest number of its bits. Bytes are UTF-8. Dates and times are in ISO 8601.

    Args:
        value: As a reader gave it.
        missing: The texts that stand for a missing value.

    Raises:
        Odd: A list or a mapping; text or bytes that are no UTF-8; an infinite number; a float from 2**53 on (2**24 in
            32 bits), whose last digits may be lost.
    """
    if isinstance(value, np.floating) and value.itemsize < 8:
        value = Narrow(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise Odd("not_utf8", f"byte {error.start} is {value[error.start]:#04x}") from None
    if isinstance(value, str):
        return _text(value, missing)
    if isinstance(value, float | Decimal):
        return _number(value)
    if value is None or isinstance(value, bool | int):
        return None if value is None else str(value).lower()
    if isinstance(value, date):
        return None if value != value else value.isoformat()
    if isinstance(value, Mapping | list | tuple | set | np.ndarray):
        raise Odd("no_value", f"needs one value, got a {type(value).__name__}")
    return None if type(value).__name__ in _MISSING else canonical(str(value))


def not_utf8(found: re.Match[str]) -> str:
    """What a surrogate stands for: a byte that is no UTF-8, or a lone half of a pair of JSON."""
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"character {found.start()} is the byte {code - 0xDC00:#04x}, no UTF-8 text; save the file as UTF-8"
    return f"character {found.start()} is no UTF-8 text ({code:#06x})"


def _text(value: str, missing: Iterable[str]) -> str | None:
    if not value.isascii():
        if found := SURROGATE.search(value):
            raise Odd("not_utf8", not_utf8(found))
        value = unicodedata.normalize("NFC", value)
    value = value.strip()
    if value in missing:
        return None
    if value.isascii() and _WHOLE.fullmatch(value):
        # Digit by digit: int() refuses more than 4,300 of them.
        value = value.partition(".")[0]
    return "0" if value == "-0" else _TRUTH.get(value, value) or None


def _number(value: float | Decimal) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise Odd("not_finite", f"{value} is no number that names anything; leave it out, or write it as text")
    if value == int(value):
        exact = getattr(value, "exact", EXACT)
        if isinstance(value, float) and abs(value) >= exact:
            at = f"2**{exact.bit_length() - 1}"
            raise Odd("inexact", f"{value!r} is a float from {at} on, which may have lost digits; write integers")
        return str(int(value))
    # Not Decimal.normalize: it rounds to 28 digits, and Parquet's have up to 76.
    return format(value, "f").rstrip("0") if isinstance(value, Decimal) else str(value)


def canonicals(values: Mapping[str, Any], columns: Iterable[str], missing: Iterable[str] = ()) -> list[str | None]:
    """The canonical value of each column; None where the column is not named or missing.

    Raises:
        Odd: A value names nothing; the detail begins with its column.
    """
    found = []
    for column in columns:
        try:
            found.append(canonical(values.get(column), missing) if column else None)
        except Odd as error:
            raise Odd(error.args[0], f"{column}: {error.args[1]}") from None
    return found


def kind(value: Any) -> str:
    """What a value is, as far as files must agree on it; empty where it is missing."""
    if type(value) is int:
        return "number"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bytes):
        return "text" if value.strip() else ""
    if value is None or type(value).__name__ in _MISSING or value != value:
        return ""
    for name, types in _KINDS.items():
        if isinstance(value, types):
            return name
    return type(value).__name__


_KINDS: dict[str, tuple[type, ...]] = {
    "truth value": (bool,),
    "number": (int, float, Decimal),
    "time": (datetime,),
    "date": (date,),
}


class Kinds:
    """What the values of each column are in each file: a name in one and a number in another can't be compared."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, list[str]]] = {}
        """By column and file: the kinds that occur."""

    def note(self, file: str, values: Mapping[str, Any], columns: Iterable[str], missing: Iterable[str] = ()) -> None:
        """Note the columns of a record; a text that stands for a missing value is of no kind."""
        for column in columns:
            value = values.get(column) if column else None
            if not (isinstance(value, str) and value.strip() in missing) and (one := kind(value)):
                self._add(column, file, one)

    def merge(self, found: Mapping[str, Mapping[str, Iterable[str]]]) -> None:
        """Add what was found elsewhere."""
        for column, files in found.items():
            for file, kinds in files.items():
                for one in kinds:
                    self._add(column, file, one)

    def _add(self, column: str, file: str, one: str) -> None:
        kinds = self.found.setdefault(column, {}).setdefault(file, [])
        if one not in kinds:
            kinds.append(one)

    def check(self, where: str) -> None:
        """Raise DataError where two files have no kind in common."""
        for column, files in self.found.items():
            first, usual = next(iter(files.items()))
            for file, kinds in files.items():
                if not set(kinds) & set(usual):
                    raise DataError(
                        f"{where}: column {column!r} holds {' and '.join(usual)} in {first}, but {' and '.join(kinds)} "
                        f"in {file}; write it with one type in all files"
                    )


def rows_of(batch: Any) -> "list[dict[str, Any] | Odd]":
    """The rows of an Arrow batch, floats of fewer than 64 bits as ``Narrow``; Odd in place of a row with a value that
    Python can't hold, such as bad UTF-8.
    """
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError):
        rows = [_row(batch, number) for number in range(batch.num_rows)]
    narrow = {field.name: _NARROW[str(field.type)] for field in batch.schema if str(field.type) in _NARROW}
    for row in rows if narrow else []:
        for column, of in narrow.items():
            if not isinstance(row, Odd) and row[column] is not None:
                row[column] = Narrow(of(row[column]))
    return rows  # type: ignore[no-any-return]


_NARROW: dict[str, Any] = {"halffloat": np.float16, "float": np.float32}
"""By Arrow's name of a type."""


def _row(batch: Any, number: int) -> dict[str, Any] | Odd:
    found = {}
    for column in batch.schema.names:
        try:
            found[column] = batch.column(column)[number].as_py()
        except (ValueError, OverflowError) as error:
            reason = "not_utf8" if isinstance(error, UnicodeDecodeError) else "no_value"
            return Odd(reason, f"{column}: {error}"[:200])
    return found


def class_names(schema: Any) -> dict[str, list[str]]:
    """Names of the numbered classes of each column, where Hugging Face's metadata of an Arrow schema list them."""
    import json

    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    if not isinstance(features, Mapping):
        return {}
    listed = {column: one.get("names") for column, one in features.items() if isinstance(one, Mapping)}
    return {column: [str(name) for name in names] for column, names in listed.items() if isinstance(names, list)}


def named(values: Mapping[str, Any] | Odd, names: Mapping[str, list[str]]) -> dict[str, Any]:
    """A row with its classes by name: a negative number is no class (Hugging Face writes -1 where none is known).

    Raises:
        Odd: A number beyond the names; or the row is one.
    """
    if isinstance(values, Odd):
        raise values
    found = dict(values)
    for column in names.keys() & values.keys():
        value, listed = values[column], names[column]
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            continue
        if value >= len(listed) or value != int(value):
            raise Odd("unknown_class", f"{column} is {value!r}, but the file lists {len(listed)} names")
        found[column] = listed[int(value)] if value >= 0 else None
    return found
