"""Pixels of a picture: from the bytes of a file, from clean records, and as PNG."""

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from genfoundry.core.errors import DataError

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture


def opened(content: bytes, side: int = 0) -> "Picture":
    """The picture upright, with eight bits a channel, transparency over white; of JPEG ``side`` pixels may do."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image: Picture = Image.open(io.BytesIO(content))
        if side:
            image.draft(None, (side, side))  # type: ignore[no-untyped-call]
        image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        return _eight_bits(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image


def _eight_bits(image: "Picture") -> "Picture":
    """Grey of 16 or more bits scaled to 8: Pillow's own conversion cuts everything above 255 to white."""
    from PIL import Image

    levels = np.asarray(image).astype(np.float64)
    top = 65535.0 if image.mode != "F" and levels.max(initial=0) > 255 else 255.0
    return Image.fromarray(np.clip(levels * 255 / top + 0.5, 0, 255).astype(np.uint8))


def one_shape(records: "pd.DataFrame") -> None:
    sizes = records.groupby(["height", "width"])["id"].agg(["count", "first"]).sort_values("count", ascending=False)
    if len(sizes) > 1:
        found = zip(sizes.index[:4], sizes["count"], sizes["first"], strict=False)
        listed = "; ".join(f"{h} x {w}: {count} ({name}, ...)" for (h, w), count, name in found)
        raise DataError(f"images differ in height x width: {listed}; set preprocess.height and preprocess.width")


def levels(records: "pd.DataFrame") -> np.ndarray:
    """uint8 (N, H, W, C) of clean records.

    Raises:
        DataError: They are not all of one size.
    """
    one_shape(records)
    if not len(records):
        return np.zeros((0, 1, 1, 1), np.uint8)
    height, width = int(records["height"].iloc[0]), int(records["width"].iloc[0])
    return np.frombuffer(b"".join(records["content"]), np.uint8).reshape(len(records), height, width, -1)


def png(levels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W, C)."""
    from PIL import Image

    buffer = io.BytesIO()
    # Small pictures uncompressed: zlib's choices differ between processors, and pages are cached by content.
    level = 0 if levels.size <= 16_384 else 6
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
