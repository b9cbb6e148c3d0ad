"""Augmentation of images on the device, differentiable, drawn for each image (Zhao et al. 2020, arXiv:2006.10738).

Flip, translation and crop move pixels along one axis at a time, so that they are one matrix a side, applied once.
Letters: B batch, C channels, H and W pixels, L pixels of either side, K draws.
"""

import torch
from torch import Tensor

from genfoundry.config.sections.augment import Augment
from genfoundry.core.errors import ConfigError

AUGMENT_DRAWS = 11
"""Uniform numbers that an image takes, K: flip 1, translation 3, crop 4, cutout 3."""


def augment(grid_BCHW: Tensor, settings: Augment, uniforms_BK: Tensor, low: float = -1.0, high: float = 1.0) -> Tensor:
    """Images of the same shape and dtype: flipped, translated, cropped, cut out, in this order, each by its own draw.

    Args:
        grid_BCHW: Images, float (B, C, H, W); settings that change nothing take grids of any shape.
        settings: What is drawn, and with which probability.
        uniforms_BK: Numbers in [0, 1), float32 (B, AUGMENT_DRAWS): an image's changes are a function of its own row.
        low: Value of the darkest level, which fills what a translation leaves free.
        high: Value of the brightest level; a cutout takes the middle of both.

    Raises:
        ConfigError: The grid has other axes than (B, C, H, W).
    """
    if not settings.p or not (settings.flip or settings.translate or settings.crop < 1 or settings.cutout):
        return grid_BCHW
    if grid_BCHW.ndim != 4:
        raise ConfigError(
            f"training.augment: changes images of two axes, got a grid of shape {tuple(grid_BCHW.shape[2:])}; remove it"
        )
    # Unbound once: each draw is a column (B, 1), to stand against positions (L,).
    flip, moved, shift_y, shift_x, shrink, zoom, top, left, cut, middle_y, middle_x = uniforms_BK.split(1, dim=1)
    p = settings.p
    flipped = (flip < 0.5 * p) & settings.flip
    scale_B1 = 1 - (shrink < p) * zoom * (1 - settings.crop)
    height, width = grid_BCHW.shape[2:]
    rows_BHH = _resampling(height, scale_B1, top, (moved < p) * _whole(shift_y, settings.translate * height))
    columns_BWW = _resampling(width, scale_B1, left, (moved < p) * _whole(shift_x, settings.translate * width), flipped)
    # Half precision would blur pixels that are only shifted.
    with torch.autocast(grid_BCHW.device.type, enabled=False):
        rows_BHH, columns_BWW = rows_BHH.to(grid_BCHW.dtype), columns_BWW.to(grid_BCHW.dtype)
        inside_BHW = rows_BHH.sum(2)[:, :, None] * columns_BWW.sum(2)[:, None, :]
        moved_BCHW = rows_BHH[:, None] @ grid_BCHW @ columns_BWW.mT[:, None] + low * (1 - inside_BHW)[:, None]
    hole_BHW = (
        _near(height, middle_y, settings.cutout)[:, :, None]
        & _near(width, middle_x, settings.cutout)[:, None, :]
        & (cut < p)[:, :, None]
    )
    return moved_BCHW.masked_fill(hole_BHW[:, None], (low + high) / 2)


def _whole(uniform_B1: Tensor, farthest: float) -> Tensor:
    """Whole numbers from -farthest to farthest, equally likely: float32 (B, 1)."""
    reach = int(farthest + 1e-6)
    return (uniform_B1 * (2 * reach + 1)).floor() - reach


def _resampling(
    length: int, scale_B1: Tensor, place_B1: Tensor, shift_B1: Tensor, flipped_B1: Tensor | None = None
) -> Tensor:
    """Bilinear weights of each input pixel (last axis) in each output pixel: float32 (B, L, L).

    A row sums to less than one where the output lies, in part, outside the input.
    """
    position_L = torch.arange(length, device=scale_B1.device, dtype=torch.float32)
    # Backwards from the output: the place in the crop, before the translation, before the flip.
    crop_BL = place_B1 * (1 - scale_B1) * length + (position_L + 0.5) * scale_B1 - 0.5
    source_BL = crop_BL.clamp(0, length - 1) - shift_B1
    if flipped_B1 is not None:
        source_BL = torch.where(flipped_B1, length - 1 - source_BL, source_BL)
    return (1 - (source_BL[:, :, None] - position_L).abs()).clamp(min=0)


def _near(length: int, middle_B1: Tensor, share: float) -> Tensor:
    """Whether a pixel lies in a stretch of that share of the side, anywhere on it: bool (B, L)."""
    size = round(share * length)
    offset_BL = torch.arange(length, device=middle_B1.device) - (middle_B1 * length).floor() + size // 2
    return (offset_BL >= 0) & (offset_BL < size)
