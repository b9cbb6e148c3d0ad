"""Pixels of a picture: from the bytes of a file, from clean records, and as PNG.

Depth goes by the file's format, never by its content, so that pictures of one set stay comparable. Colours with an ICC
profile become sRGB (ICC.1:2022; littleCMS, perceptual intent); without a profile they are taken as sRGB.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.modalities.image import deep as _deep

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture
    from PIL.ImageCms import ImageCmsTransform

UNREADABLE = (
    *(OSError, EOFError, struct.error, zlib.error, SyntaxError),
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, MemoryError),
)
"""What Pillow and NumPy raise on broken, hostile and unsupported files (fuzzers have met each of them in Pillow)."""

BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF, and the value of the second that turns black and white."""

PLANES, SEPARATE, SAMPLE_FORMAT, SIGNED = 284, 2, 339, 2
"""Further tags of TIFF, each with a value: channels one after the other, and integers below 0."""

DEEP_GREY = ("I;16", "I;16B", "I;16L", "I", "F")
"""Modes of Pillow with more than eight bits."""

SAME = 2
"""Levels by which a profile may move a colour and still count as sRGB, whose pixels stay as they are."""


class Unusable(ValueError):
    """A picture that can be decoded, but not be brought to eight bits and sRGB."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def failure(error: BaseException) -> str:
    """What an error says, without addresses of objects, which differ from run to run."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(error))[:200]


def opened(content: bytes, side: int = 0, white: float = 0.0, profiles: bool = True) -> "Picture":
    """The picture upright, with eight bits a channel in sRGB, transparency over white, in a mode that converts to L and
    RGB.

    Args:
        content: A file.
        side: Pixels that may do for a JPEG's longer side; 0 for all.
        white: Level that becomes white where a channel has more than eight bits; 0 for the format's own.
        profiles: Whether embedded ICC profiles are applied.

    Raises:
        Unusable: No range is known for its levels, or they leave it; its profile can't be applied.
        Exception: One of ``UNREADABLE``, from Pillow.
    """
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        image: Picture = Image.open(io.BytesIO(content))
        if side:
            image.draft(None, (side, side))  # type: ignore[no-untyped-call]
        raw = _deep.raw_mode(image)  # which loading forgets
        image.load()
    profile, tags = image.info.get("icc_profile") if profiles else None, getattr(image, "tag_v2", {})
    _readable(image, tags)
    image = ImageOps.exif_transpose(image)
    if image.mode in DEEP_GREY:
        image = _eight_bits(image, white, tags)
    elif ";16" in raw:
        image = _eight_bit_colours(content, image, raw, white)
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if image.mode == "LAB":
        return _from_lab(image)
    if image.mode in ("YCbCr", "HSV", "P"):
        image = image.convert("RGB")
    return _standard(image, profile) if profile else image


def _readable(image: "Picture", tags: Mapping[int, Any]) -> None:
    """Refuse TIFFs whose levels Pillow mistakes."""
    if SIGNED in tags.get(SAMPLE_FORMAT, ()) and image.mode != "I":
        raise Unusable("signed", "signed integers of eight bits, where -5 is read as 251; save them without sign")
    bits = tags.get(BITS_PER_SAMPLE, ())
    if len(bits) > 1 and max(bits) > 8 and tags.get(PLANES) == SEPARATE:
        detail = f"channels of {max(bits)} bits, each stored apart (TIFF's PlanarConfiguration 2)"
        raise Unusable("depth", f"{detail}, can't be read; save them pixel by pixel or with eight bits")


def _eight_bit_colours(content: bytes, image: "Picture", raw: str, white: float) -> "Picture":
    """Colours of 16 bits scaled to 8 as grey levels are; alpha goes by the whole range."""
    from PIL import Image

    levels = _deep.levels(content, image, raw)
    if levels is None:
        if white:
            detail = f"channels of 16 bits ({raw}) are read with 8, so that white can't be {white:g}"
            raise Unusable("depth", f"{detail}; save it as RGB or RGBA, or leave preprocess.white 0")
        return image
    colours, top = levels[..., : -1 if levels.shape[-1] in (2, 4) else None], white or 65535.0
    if levels.shape[-1] in (2, 4):
        colours = np.where(levels[..., -1:], colours, 0)  # what can't be seen has no level
    found = int(colours.max(initial=0))
    if found * (255 / top) > 255.5:
        detail = f"levels up to {found}, black is 0 and white {top:g}; name another white (preprocess.white)"
        raise Unusable("out_of_range", detail)
    eight = _table(top)[colours]
    if (clear := image.info.get("transparency")) is not None:
        eight[(levels == clear).all(-1)] = 255
    if levels.shape[-1] in (2, 4):
        eight = np.concatenate([eight, _table(65535.0)[levels[..., -1:]]], -1)
    return Image.fromarray(eight)


def _table(top: float) -> np.ndarray:
    """uint8 (65536,): level of eight bits of each of 16."""
    return np.clip(np.arange(2**16) * (255 / top) + 0.5, 0, 255).astype(np.uint8)


def _eight_bits(image: "Picture", white: float, tags: Mapping[int, Any]) -> "Picture":
    """Levels of 12, 16 or more bits scaled to 8: Pillow's own conversion cuts everything above 255 to white."""
    from PIL import Image

    levels = np.asarray(image).astype(np.float64)
    top = white or _top(image.mode, tags)
    if not top:
        detail = "integers of 32 bits, whose range is unknown; name the level of white (preprocess.white)"
        raise Unusable("unknown_range", detail)
    scaled = levels * (255 / top)
    if not np.isfinite(levels).all():
        raise Unusable("not_finite", f"{(~np.isfinite(levels)).sum()} pixels are NaN or infinite")
    if scaled.min(initial=0) < -0.5 or scaled.max(initial=0) > 255.5:
        found = f"levels from {levels.min():g} to {levels.max():g}"
        raise Unusable("out_of_range", f"{found}, black is 0 and white {top:g}; name another white (preprocess.white)")
    grey = np.clip(scaled + 0.5, 0, 255).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey = 255 - grey
    if image.info.get("transparency") is not None:
        grey[levels == image.info["transparency"]] = 255
    return Image.fromarray(grey)


def _top(mode: str, tags: Mapping[int, Any]) -> float:
    """The level of white that a format states; 0 if it states none."""
    if mode == "F":
        return 1.0
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    return 0.0 if mode == "I" else float(2**bits - 1)


def _from_lab(image: "Picture") -> "Picture":
    from PIL import ImageCms

    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image


def _standard(image: "Picture", profile: bytes) -> "Picture":
    """In sRGB."""
    from PIL import ImageCms

    try:
        if image.mode in ("1", "I", "F") or (image.mode == "L" and _space(profile) == "RGB"):
            image = image.convert("RGB")
        transform = _to_srgb(profile, image.mode)
        return image if transform is None else ImageCms.applyTransform(image, transform) or image
    except (ImageCms.PyCMSError, *UNREADABLE) as error:
        detail = f"ICC profile does not fit a picture of mode {image.mode} ({str(error)[:80]}); it can be ignored"
        raise Unusable("profile", f"{detail} (preprocess.profiles: ignore)") from None


def _space(profile: bytes) -> str:
    """Colour space of a profile, as its header says: RGB, GRAY, CMYK."""
    return profile[16:20].decode("latin-1").strip()


@lru_cache(maxsize=32)
def _to_srgb(profile: bytes, mode: str) -> "ImageCmsTransform | None":
    """From a profile to sRGB; None where that moves no colour by more than ``SAME`` levels."""
    from PIL import Image, ImageCms

    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    if mode == "CMYK":
        return transform
    grid = np.arange(0, 256, 15, dtype=np.uint8)
    levels = np.stack(np.meshgrid(grid, grid, grid), -1).reshape(1, -1, 3) if mode == "RGB" else grid[None]
    moved = np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform)).astype(int)
    return None if np.abs(moved - (levels if mode == "RGB" else levels[..., None])).max() <= SAME else transform


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
