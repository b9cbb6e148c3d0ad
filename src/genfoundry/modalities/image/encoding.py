"""How pictures become arrays."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.sections.encode import Encode as _Encode
from genfoundry.config.specs import DataSpec, GridSpec
from genfoundry.modalities.common import grids as _grids
from genfoundry.modalities.image.pixels import levels

if TYPE_CHECKING:
    import pandas as pd


class Encode(_Encode):
    """How pictures become arrays."""


def encode(
    read: "Callable[[str], Iterator[pd.DataFrame]]", counts: Mapping[str, int], config: Encode, folder: Path
) -> tuple[DataSpec, dict[str, Any]]:
    """``<split>.npy``: uint8 (N, C, H, W), row by row in the order of column ``row``."""
    (channels, *shape), report = _grids.write_arrays(
        read,
        counts,
        folder,
        lambda table: levels(table).transpose(0, 3, 1, 2),
        "images",
        "set preprocess.height and preprocess.width",
    )
    return GridSpec(channels=channels, shape=tuple(shape)), report
