"""Conditions that samples are drawn for (labels, texts, numbers): named fields of records.

A spec gives the type of each condition; records, batches and requests hold its values by name. Arrays of all kinds
have one row a record, so that they are cut, sent and shuffled as the records are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from genfoundry.config.blocks import Section
from genfoundry.core.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = 16
"""Number of example texts that a spec keeps, used as default conditions."""


class _Words(Section):
    """Base of what is asked for in words."""

    def encode(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        raise NotImplementedError

    def of_records(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        """Encoded values of records, whose column may hold numbers: (N, ...)."""
        return self.encode(name, [str(value) for value in values])


class Classes(_Words):
    """A class out of a fixed list of names."""

    kind: Literal["classes"] = "classes"
    names: tuple[str, ...]
    """In the order of their numbers."""

    def encode(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        """Numbers of the names: int64 (N,).

        Raises:
            ConfigError: A value is none of the names.
        """
        import numpy as np

        place = {one: number for number, one in enumerate(self.names)}
        for value in values:
            if value not in place:
                raise ConfigError(f"{name} is {value!r}: the model knows {', '.join(self.names)}")
        return np.array([place[value] for value in values], np.int64)

    def means(self, other: "Condition") -> bool:
        """Whether encoded values say the same to a model as those of the other."""
        return self == other

    def in_turn(self, count: int) -> list[Any]:
        """Values to draw by where nobody asks for others."""
        return [self.names[number % len(self.names)] for number in range(count)]


class Text(_Words):
    """A text, as its UTF-8 bytes."""

    kind: Literal["text"] = "text"
    length: int = Field(ge=1)
    """Bytes that are kept of it; what is longer is cut."""
    examples: tuple[str, ...] = ()
    """Some texts of the training records."""

    def encode(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        """UTF-8 bytes plus 1, padded with zeros: int64 (N, length), in [0, 256].

        Raises:
            ConfigError: A value is no text.
        """
        import numpy as np

        rows = np.zeros((len(values), self.length), np.int64)
        for row, value in zip(rows, values, strict=True):
            if not isinstance(value, str):
                raise ConfigError(f"{name} is {value!r}; needs a text")
            found = np.frombuffer(value.encode()[: self.length], np.uint8)
            row[: len(found)] = found.astype(np.int64) + 1
        return rows

    def means(self, other: "Condition") -> bool:
        """Whether encoded values say the same to a model as those of the other."""
        return isinstance(other, Text) and self.length == other.length

    def in_turn(self, count: int) -> list[Any]:
        """Values to draw by where nobody asks for others."""
        texts = self.examples or ("",)
        return [texts[number % len(texts)] for number in range(count)]


class Number(Section):
    """A number."""

    kind: Literal["number"] = "number"
    low: float
    """Smallest of the training records."""
    high: float
    """Largest of them."""

    def encode(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        """The numbers: float32 (N,).

        Raises:
            ConfigError: A value is no finite number.
        """
        import numpy as np

        for value in values:
            if (
                isinstance(value, bool | np.bool_)
                or not isinstance(value, int | float | np.number)
                or not np.isfinite(value)
            ):
                raise ConfigError(f"{name} is {value!r}; needs a finite number")
        return np.array([float(value) for value in values], np.float32)

    def of_records(self, name: str, values: Sequence[Any]) -> "np.ndarray":
        """Encoded values of records, whose column may hold numbers in words: float32 (N,).

        Raises:
            ConfigError: A value is no finite number.
        """
        return self.encode(name, [_number(value) for value in values])

    def means(self, other: "Condition") -> bool:
        """Whether encoded values say the same to a model as those of the other."""
        return isinstance(other, Number)

    def in_turn(self, count: int) -> list[Any]:
        """Default values: eleven evenly over the range, repeated."""
        return [self.low + (self.high - self.low) * (number % 11) / 10 for number in range(count)]


def _number(value: Any) -> Any:
    """A number in words as a number; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


Condition = Annotated[Classes | Text | Number, Field(discriminator="kind")]


class Wanted(Section):
    """A column of the records that becomes a condition."""

    kind: Literal["classes", "text", "number"]
    """classes: one of the values in training; text: a caption; number: scaled to the range in training."""
    length: int = Field(default=64, ge=1)
    """Bytes that are kept of a text."""


def found(wanted: Wanted, name: str, training: Sequence[Any]) -> Classes | Text | Number:
    """The condition type of a column, inferred from its values in the training records."""
    if wanted.kind == "classes":
        return Classes(names=tuple(sorted({str(value) for value in training})))
    if wanted.kind == "text":
        texts = sorted({str(value) for value in training})
        return Text(length=wanted.length, examples=tuple(texts[:: max(len(texts) // EXAMPLES, 1)][:EXAMPLES]))
    low_high = Number(low=0, high=0).of_records(name, training)
    return Number(low=float(low_high.min()), high=float(low_high.max()))
