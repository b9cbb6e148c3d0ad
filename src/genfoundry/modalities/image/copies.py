"""Near-duplicate pictures: descriptors to search by, synthetic duplicates to calibrate on."""

from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from genfoundry.config.sections.dedup import Dedup as _Dedup
from genfoundry.config.specs import Vectors
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.modalities.image import edits as _edits
from genfoundry.modalities.image.pixels import levels

if TYPE_CHECKING:
    import pandas as pd

EDITS, BENIGN = tuple(_edits.EDITS), _edits.BENIGN
"""Edits of synthetic duplicates in turn, and how many of the first leave each pixel in its place and colour."""

WEAK = tuple(_edits.WEAK)
"""Edits of synthetic duplicates that recall is measured on, and no threshold made of."""


class Dedup(_Dedup):
    """Which pictures count as near-duplicates."""

    threshold: float = Field(default=0.0, ge=0, le=1)
    """Least similarity of two aligned pictures; 0 calibrates it on synthetic duplicates (0.85 or more)."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Least cosine of two descriptors to be compared at all; 0 calibrates it on synthetic duplicates."""
    mirror: bool = True
    """Mirrored pictures count as copies, unless the set is full of look-alikes."""


def fingerprints(records: "pd.DataFrame", config: Dedup) -> Vectors:
    """Descriptor and small luminance picture of each picture."""
    return _descriptor.describe(levels(records))


def perturb(records: "pd.DataFrame", generator: np.random.Generator) -> "pd.DataFrame":
    """Synthetic duplicates: row i has edit ``EDITS[i % len(EDITS)]``."""
    return _edited(records, generator, list(_edits.EDITS.values()))


def distort(records: "pd.DataFrame", generator: np.random.Generator) -> "pd.DataFrame":
    """Synthetic duplicates of the other kinds: row i has edit ``WEAK[i % len(WEAK)]``."""
    return _edited(records, generator, list(_edits.WEAK.values()))


def _edited(records: "pd.DataFrame", generator: np.random.Generator, kinds: list[_edits.Edit]) -> "pd.DataFrame":
    edited = records.copy()
    edited["content"] = [
        kinds[number % len(kinds)](one, generator).tobytes() for number, one in enumerate(levels(records))
    ]
    return edited
