"""Load the ``media`` module of a spec's modality by name."""

import importlib
from pathlib import Path

import numpy as np

from genfoundry.config.specs import SPEC, DataSpec, GridSpec, TokenSpec, read_spec
from genfoundry.core import parts
from genfoundry.core.errors import DataError
from genfoundry.modalities.common.media import GRIDS, TEXTS, Media


def media_of(spec: DataSpec) -> Media:
    """The ``media.Media`` of a spec's modality: how samples are shown, stored and requested.

    Raises:
        ConfigError: There is no such modality.
    """
    parts.known("modalities", spec.modality)
    made: Media = importlib.import_module(f"genfoundry.modalities.{spec.modality}.media").Media(spec)
    return made


def media_of_samples(samples: Path, model: Path) -> Media:
    """The same for published samples: by their model's spec, or, where the model is gone, by what they are.

    Raises:
        DataError: There are no samples.
        ConfigError: There is no such modality.
    """
    if (model / SPEC).is_file():
        return media_of(read_spec(model))
    if (samples / GRIDS).is_file():
        levels = np.load(samples / GRIDS, mmap_mode="r", allow_pickle=False)
        if levels.dtype == np.uint8 and levels.ndim == 4:
            return media_of(GridSpec(channels=levels.shape[1], shape=levels.shape[2:]))
        raise DataError(f"{samples}: {levels.dtype} {levels.shape} without {model / SPEC}; bring the model back")
    if (samples / TEXTS).is_file():
        return media_of(TokenSpec(vocab_size=2))
    raise DataError(f"{samples}: neither {GRIDS} nor {TEXTS}; run dvc repro")
