"""Types shared by all stages: the two data specs, record tables, fingerprints and scores.

Every modality becomes one of two specs, so that a model family sees only these:
``TokenSpec`` (text, code) and ``GridSpec`` (audio 1-d, images 2-d, video 3-d).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

from genfoundry.config.blocks import Key as Key
from genfoundry.config.blocks import Section as Section
from genfoundry.config.conditions import Classes, Condition
from genfoundry.core.io import read_json, write_json

if TYPE_CHECKING:
    # numpy reads its instruction set when it is loaded, so core/pin.py must run first.
    import numpy as np

SPLITS = ("train", "val", "test")
"""train: fits weights; val: early stopping and checkpoint selection; test: read by evaluation alone."""

EVALUATION_SPLITS = ("test", "val")
"""Splits in the order in which they keep a record whose near-duplicate is in another split."""


Storage = Literal["uint8", "int16", "float16"]

AXES = {1: ("time",), 2: ("height", "width"), 3: ("time", "height", "width")}
"""Names of the axes of a grid that names none, by their number."""


LATER = ("modality", "axes", "rates", "storage", "conditions")
"""Fields of a spec that stand in ``spec.json`` only where they differ from their defaults."""


def _usual_axes(count: int) -> tuple[str, ...]:
    return AXES.get(count, tuple(f"axis{number}" for number in range(count)))


class _Spec(Section):
    """Base of both specs: fields added later are left out of the JSON where they hold their defaults.

    So ``spec.json`` of pictures and texts keeps its bytes, and one that an older version wrote means what it meant.
    """

    labels: tuple[str, ...] = ()
    """Class names in the order of their numbers, the condition ``label``; empty without labels."""
    conditions: dict[Key, Condition] = Field(default={})
    """Further conditions by name."""

    @property
    def asked(self) -> dict[str, Condition]:
        """All conditions by name: ``label``, if there are labels, and ``conditions``."""
        return ({"label": Classes(names=self.labels)} if self.labels else {}) | self.conditions

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        usual = {name: field.default for name, field in type(self).model_fields.items() if name in LATER}
        if "axes" in usual:
            usual["axes"] = _usual_axes(len(self.shape))  # type: ignore[attr-defined]
        return {
            name: value
            for name, value in handler(self).items()
            if name not in usual or getattr(self, name) != usual[name]
        }


class GridSpec(_Spec):
    """Numbers on a regular grid: C channels over ``shape`` axes, kept as ``storage`` and scaled to ``range``."""

    kind: Literal["grid"] = "grid"
    modality: Key = "image"
    """Whose ``media`` module says how a sample looks, sounds, is kept and asked for."""
    channels: int = Field(ge=1)
    shape: tuple[int, ...]
    """Lengths of the axes: (H, W) for images, (T,) for audio, (T, H, W) for video."""
    axes: tuple[str, ...] = ()
    """Name of each axis; by default ``AXES``."""
    rates: dict[str, float] = Field(default={})
    """Hz of the axes that are sampled in time, by name: ``{time: 16000}``."""
    storage: Storage = "uint8"
    """Type of the stored levels."""
    range: tuple[float, float] = (-1.0, 1.0)
    """Values of the lowest and the highest stored level, as the model sees them."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, values: Any) -> Any:
        """Fill in the usual names of the axes."""
        if isinstance(values, Mapping) and not values.get("axes"):
            return {**values, "axes": _usual_axes(len(values.get("shape", ())))}
        return values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(self.axes) != len(self.shape) or len(set(self.axes)) != len(self.axes):
            raise ValueError(f"axes are {self.axes} for shape {self.shape}; name each axis once")
        if wrong := [name for name, rate in self.rates.items() if name not in self.axes or not rate > 0]:
            raise ValueError(
                f"rates are {self.rates} for axes {self.axes}; {wrong[0]} needs to be an axis and above 0 Hz"
            )
        return self

    @property
    def dtype(self) -> "np.dtype[Any]":
        """Type of the arrays that hold stored levels."""
        import numpy as np

        return np.dtype(self.storage)

    @property
    def levels(self) -> tuple[float, float]:
        """The stored levels that stand for the two ends of ``range``.

        uint8: 0 and 255. int16: -32767 and 32767, so that 0 is the middle (silence). float16: the values themselves.
        """
        return {"uint8": (0.0, 255.0), "int16": (-32767.0, 32767.0), "float16": self.range}[self.storage]


class TokenSpec(_Spec):
    """Documents as token numbers below ``vocab_size``; ``boundary`` stands before each document."""

    kind: Literal["token"] = "token"
    modality: Key = "text"
    """Whose ``media`` module says how a sample looks, is kept and asked for."""
    vocab_size: int = Field(ge=2)
    boundary: int = 0
    """Token that starts every document and ends the one before it."""


DataSpec = GridSpec | TokenSpec
_DATA_SPEC: TypeAdapter[DataSpec] = TypeAdapter(Annotated[DataSpec, Field(discriminator="kind")])


SPEC = "spec.json"
"""File of a data spec, in ``arrays/`` and in each model folder."""


def parse_spec(values: Mapping[str, Any]) -> DataSpec:
    """The data spec in a parsed ``spec.json``."""
    return _DATA_SPEC.validate_python(dict(values))


def read_spec(folder: Path) -> DataSpec:
    """The data spec of arrays or of a model."""
    return parse_spec(read_json(folder / SPEC))


def write_spec(folder: Path, spec: DataSpec) -> None:
    """Publish ``spec.json`` in a folder."""
    write_json(folder / SPEC, spec.model_dump(mode="json"))


def condition_file(name: str, split: str) -> str:
    """The array of a condition beside those of a split: one row a record."""
    return f"{split}_labels.npy" if name == "label" else f"{split}_condition_{name}.npy"


RECORD_COLUMNS = ("id", "label", "split", "sha256", "content")
"""Columns of every record table; a modality adds its facts (width, characters, ...) as further columns.

id: path in the source, ``#line`` for line files. label, split: string or null. sha256: hex digest of
the content. content: bytes (as read, or uint8 pixels once clean) or str.
"""

FILE = "file"
"""Column of the file that a record comes from, in tables of records whose ids are of a column of the user's."""

REJECTED_COLUMNS = ("id", "reason", "detail")
"""Columns of ``rejected.parquet``: id of the rejected record, reason, and what exactly was wrong."""


def tops(ids: Iterable[str]) -> list[str]:
    """The file or top folder of the source that each id comes from."""
    return [file_of(one).split("/", 1)[0] for one in ids]


def file_of(id: str) -> str:
    """The file that an id of no column comes from: the id without ``#line``; a folder may be called ``C# notes``."""
    return re.sub(r"#\d+$", "", id)


def record_hashes(digests: Iterable[str]) -> "np.ndarray":
    """uint64: the first 8 bytes of each sha256 in hex, by which arrays and models name records."""
    import numpy as np

    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


class Sets(NamedTuple):
    """N sets of 64-bit hashes, for similarity by Jaccard index; row i is ``hashes[ptr[i]:ptr[i+1]]``, sorted."""

    hashes: "np.ndarray"
    """uint64 (M,)."""
    ptr: "np.ndarray"
    """int64 (N+1,)."""


class Vectors(NamedTuple):
    """N unit vectors to search by cosine, and small pictures on which each hit is verified."""

    vectors: "np.ndarray"
    """float32 (N, D), unit norm, or zero where nothing can be compared."""
    details: "np.ndarray"
    """uint8 (N, H, W, C); of size 0 where the cosine alone decides."""


@dataclass(frozen=True)
class Score:
    """A number with its uncertainty: value, count of independent units, standard error (NaN if unknown)."""

    value: float
    count: int
    se: float = math.nan
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further numbers that belong to the score, by name."""
    influence: Mapping[str, "np.ndarray"] = field(default_factory=dict, compare=False, repr=False)
    """First-order change of the value by each independent unit, by what a unit is (``sample``, ``test``): float64 (N,),
    mean 0. The squares sum to ``se`` squared, and the difference of two models' influences to that of their difference.
    """

    bias: float = 0.0
    """Estimated part of the value that goes as samples grow, as far as it is known."""

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval by the normal law, around the value less its bias."""
        centre = self.value - self.bias
        return centre - 1.96 * self.se, centre + 1.96 * self.se
