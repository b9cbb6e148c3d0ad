"""Colours, and grey with alpha, of 16 bits a channel, of which Pillow keeps the high byte alone."""

import io
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

_OTHER = ";16B" if sys.byteorder == "little" else ";16L"

_LOW = {
    **{
        f"{mode};16{order}": f"{mode}{low}"
        for mode in ("RGB", "RGBX", "RGBA")
        for order, low in (("B", ";16L"), ("L", ";16B"), ("N", _OTHER))
    },
    "LA;16B": "RGBA",
}
"""By the raw mode of a picture another of the same size: the other byte order, whose high bytes are the low ones, or
each byte as a channel.
"""


def raw_mode(image: "Picture") -> str:
    """How the channels lie in a file that was opened, but not loaded; empty where Pillow does not say."""
    tile = getattr(image, "tile", None)
    args: Any = tile[0].args if tile else ""
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def levels(content: bytes, image: "Picture", raw: str) -> np.ndarray | None:
    """uint16 (H, W, C) of a picture, upright, with alpha as the last of 2 or 4 channels; None of a raw mode that can't
    be read with 16 bits.

    Args:
        content: The file.
        image: The same, loaded and upright.
        raw: Its raw mode.
    """
    from PIL import Image, ImageOps

    if raw not in _LOW:
        return None
    second: Any = Image.open(io.BytesIO(content))
    # Pillow's decoders take the raw mode from the tile (Pillow's handbook, "Writing your own image plugin").
    second.tile = [
        tile._replace(args=(_LOW[raw], *tile.args[1:]) if isinstance(tile.args, tuple) else _LOW[raw])
        for tile in second.tile
    ]
    low = np.asarray(ImageOps.exif_transpose(second)).astype(np.uint16)
    if raw == "LA;16B":
        return low[..., 0::2] << 8 | low[..., 1::2]
    return np.asarray(image).astype(np.uint16) << 8 | low
