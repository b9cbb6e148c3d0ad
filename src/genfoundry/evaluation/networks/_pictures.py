"""Shared steps of image networks: which data they take, and how levels become their input.

Letters in tensor names: B batch, C channels, H height, W width.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from genfoundry.config.specs import AXES, DataSpec, GridSpec

TAKES = "images of 1 or 3 channels, stored as uint8"

BATCH = 32

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of each channel over ImageNet, of levels from 0 to 1."""


def takes(spec: DataSpec) -> bool:
    """Whether records are images that these networks can see."""
    if not isinstance(spec, GridSpec):
        return False
    return spec.axes == AXES[2] and spec.channels in (1, 3) and spec.storage == "uint8"


def in_colour(levels_BCHW: Tensor) -> Tensor:
    """Three channels: one is repeated."""
    return levels_BCHW.expand(-1, 3, -1, -1)


def normalised(grid_BCHW: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Levels of 0 to 255 as float32, each channel less its mean and over its deviation."""
    mean_C, deviation_C = (torch.tensor(part)[:, None, None] for part in statistics)
    return (grid_BCHW / 255 - mean_C) / deviation_C


def resized(levels_BCHW: Tensor, side: int) -> Tensor:
    """The whole image to a square by bicubic interpolation with antialias: float32, no crop, nothing rounded or cut.

    Enlarged as much as shrunk, so that 8 x 8 digits are smooth blobs, whose levels may overshoot 0 and 255 by a tenth.
    """
    return F.interpolate(levels_BCHW.float(), (side, side), mode="bicubic", antialias=True)
