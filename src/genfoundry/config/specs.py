"""What data are made of: the two data specs, record tables, fingerprints and scores.

Every modality becomes one of two specs, so that a model family sees only these:
``TokenSpec`` (text, code) and ``GridSpec`` (audio 1-d, images 2-d, video 3-d).
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from genfoundry.core.parts import KEY_PATTERN

Key = Annotated[str, Field(pattern=KEY_PATTERN, max_length=64)]
"""A name that may stand in a shell command and in a path."""

SPLITS = ("train", "val", "test")
"""Duties: train learns; val stops early and picks checkpoints; test is read by evaluation alone."""

EVALUATION_SPLITS = ("test", "val")
"""Splits that keep their record when a near copy stands in another split, first one first."""


class Section(BaseModel):
    """A block of params.yaml: frozen, unknown keys refused, attribute docstrings kept for docs/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class GridSpec(Section):
    """Numbers on a regular grid: C channels over ``shape`` axes, stored as uint8 and scaled to ``range``."""

    kind: Literal["grid"] = "grid"
    channels: int = Field(ge=1)
    shape: tuple[int, ...]
    """Lengths of the axes: (H, W) for images, (T,) for audio, (T, H, W) for video."""
    range: tuple[float, float] = (-1.0, 1.0)
    """Values of the darkest and the brightest stored level, as the model sees them."""
    labels: tuple[str, ...] = ()
    """Class names in the order of their numbers; empty without labels."""


class TokenSpec(Section):
    """Documents as token numbers below ``vocab_size``; ``boundary`` stands before each document."""

    kind: Literal["token"] = "token"
    vocab_size: int = Field(ge=2)
    boundary: int = 0
    """Token that starts every document and ends the one before it."""
    labels: tuple[str, ...] = ()


DataSpec = GridSpec | TokenSpec
_DATA_SPEC: TypeAdapter[DataSpec] = TypeAdapter(Annotated[DataSpec, Field(discriminator="kind")])


def parse_spec(values: Mapping[str, Any]) -> DataSpec:
    """The data spec in a parsed ``spec.json``."""
    return _DATA_SPEC.validate_python(dict(values))


RECORD_COLUMNS = ("id", "label", "split", "sha256", "content")
"""Columns of every record table; a modality adds its facts (width, characters, ...) as further columns.

id: path in the source, ``#line`` for line files. label, split: string or null. sha256: hex digest of
the content. content: bytes (as read, or uint8 pixels once clean) or str.
"""

REJECTED_COLUMNS = ("id", "reason", "detail")
"""Columns of ``rejected.parquet``: what was set aside, under which reason, and what exactly was wrong."""


def tops(ids: Iterable[str]) -> list[str]:
    """The file or top folder of the source that each id comes from."""
    return [one.split("#", 1)[0].split("/", 1)[0] for one in ids]


def record_hashes(digests: Iterable[str]) -> np.ndarray:
    """uint64: the first 8 bytes of each sha256 in hex, by which arrays and models name records."""
    return np.array([int(digest[:16], 16) for digest in digests], np.uint64)


class Sets(NamedTuple):
    """N sets of 64-bit hashes, for similarity by Jaccard index; row i is ``hashes[ptr[i]:ptr[i+1]]``, sorted."""

    hashes: np.ndarray
    """uint64 (M,)."""
    ptr: np.ndarray
    """int64 (N+1,)."""


class Vectors(NamedTuple):
    """N unit vectors to search by cosine, and small pictures on which each hit is verified."""

    vectors: np.ndarray
    """float32 (N, D), unit norm, or zero where nothing can be compared."""
    details: np.ndarray
    """uint8 (N, H, W, C); of size 0 where the cosine alone decides."""


@dataclass(frozen=True)
class Score:
    """A number with its uncertainty: value, count of independent units, standard error (NaN if unknown)."""

    value: float
    count: int
    se: float = math.nan
    extra: Mapping[str, float] = field(default_factory=dict)
    """Further numbers that belong to the score, by name."""
    influence: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    """First-order change of the value by each independent unit, by what a unit is (``sample``, ``test``): float64 (N,),
    mean 0. The squares sum to ``se`` squared, and the difference of two models' influences to that of their difference.
    """

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval by the normal law."""
        return self.value - 1.96 * self.se, self.value + 1.96 * self.se
