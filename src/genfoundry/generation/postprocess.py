"""Samples as a person sees them: picture grids and decoded texts."""

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from genfoundry.core.io import MANIFEST, canonical_json

CELL = 48
"""Least pixels of a picture's side in a grid: small pictures are enlarged by whole factors."""


def grid_png(path: Path, levels_NCHW: np.ndarray, columns: int = 0) -> None:
    """Write pictures side by side with a thin gap: uint8 (N, C, H, W) with 1 or 3 channels."""
    from PIL import Image

    count, channels, height, width = levels_NCHW.shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = max(math.ceil(CELL / max(height, width)), 1)
    rows, gap = math.ceil(count / columns), 2
    cell_h, cell_w = height * scale + gap, width * scale + gap
    sheet = np.full((rows * cell_h + gap, columns * cell_w + gap, channels), 255, np.uint8)
    for number, picture in enumerate(levels_NCHW):
        top, left = number // columns * cell_h + gap, number % columns * cell_w + gap
        big = picture.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        sheet[top : top + height * scale, left : left + width * scale] = big
    Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet[:, :, :3]).save(path, "PNG")


def write_progress(folder: Path, step: int, samples: Tensor | list[str]) -> None:
    """Add ``samples-<step>.png`` or ``.txt`` to a folder: the same requests at each step."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(samples, Tensor):
        grid_png(folder / f"samples-{step:07d}.png", samples.numpy())
        return
    text = "\n\n--------\n\n".join(samples) + "\n"
    (folder / f"samples-{step:07d}.txt").write_text(text, encoding="utf-8", newline="\n")


def write_sample_report(folder: Path, samples: Tensor | list[str], shown: int) -> None:
    """The first samples for people: ``grid.png``, or ``samples.json`` with ``texts``."""
    if isinstance(samples, Tensor):
        grid_png(folder / "grid.png", samples[:shown].numpy())
    else:
        (folder / "samples.json").write_bytes(canonical_json({"texts": samples[:shown]}))
    assert not (folder / MANIFEST).exists()
