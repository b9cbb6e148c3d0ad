"""Clean pictures: eight bits, one mode, one size; blank, flat, dark and bright ones are dropped, and what no range of
levels is known of.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from genfoundry.config.sections.preprocess import Preprocess as _Preprocess
from genfoundry.config.specs import RECORD_COLUMNS, REJECTED_COLUMNS
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.image.pixels import UNREADABLE, Unusable, failure, one_shape, opened
from genfoundry.modalities.image.source import FACTS

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture


class Preprocess(_Preprocess):
    """How pictures are cleaned."""

    height: int = Field(default=0, ge=0)
    """Rows of pixels; 0 keeps the pictures' own, which must then be all the same."""
    width: int = Field(default=0, ge=0)
    """Columns of pixels; 0 keeps the pictures' own, which must then be all the same."""
    mode: Literal["L", "RGB"] = "RGB"
    """Grey or colour; transparent parts become white."""
    white: float = Field(default=0.0, ge=0)
    """Level that becomes white where a channel has more than eight bits; black is 0. With 0 white is the largest number
    of the file's bits (16-bit: 65535), 1 of floating-point numbers, and integers of 32 bits are dropped. Pictures with
    levels outside are dropped too, and those whose 16 bits can't be read (CMYK, premultiplied alpha) if it is set.
    """
    profiles: Literal["convert", "ignore"] = "convert"
    """Colours with an ICC profile become sRGB, and pictures whose profile can't be applied are dropped; or profiles are
    ignored.
    """
    fit: Literal["crop", "stretch"] = "crop"
    """To another aspect: cut the longer side around the middle, or stretch."""
    max_aspect: float = Field(default=4.0, ge=1)
    """Pictures with a longer side above this many times the shorter one are dropped."""
    min_side: int = Field(default=1, ge=1)
    """Pictures with a side of fewer pixels are dropped."""
    min_range: int = Field(default=1, ge=0, le=255)
    """Pictures whose brightest and darkest level differ by less are dropped as blank; 0 keeps them."""
    min_contrast: float = Field(default=0.0, ge=0, le=127.5)
    """Pictures whose luminance has a smaller standard deviation, in levels, are dropped as flat; 0 keeps them."""
    min_brightness: float = Field(default=0.0, ge=0, le=255)
    """Pictures with a 99 % quantile of luminance below this level are dropped as too dark; 0 keeps them."""
    max_brightness: float = Field(default=255.0, ge=0, le=255)
    """Pictures with a 5 % quantile of luminance above this level are dropped as too bright; 255 keeps them."""


def clean(records: "pd.DataFrame", config: Preprocess) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(pictures as uint8 pixels in rows, columns, channels; what was dropped and why)."""
    import pandas as pd

    rows, dropped = [], []
    # JPEG decoders downscale at no cost; decode at twice the wanted size and resample from there.
    side = 2 * max(config.height, config.width) if config.height and config.width else 0
    columns = ("id", "label", "split", "content", "width", "height")
    others = [name for name in records.columns if name not in (*RECORD_COLUMNS, *FACTS)]
    places = []
    for place, (name, label, split, content, *size) in enumerate(zip(*(records[c] for c in columns), strict=True)):
        image = _usable(content, *size, side, config)
        if isinstance(image, tuple):
            dropped.append((name, *image))
            continue
        pixels = image.tobytes()
        places.append(place)
        rows.append((name, label, split, _tables.sha256(pixels), pixels, image.width, image.height, image.mode))
    kept = pd.DataFrame(rows, columns=["id", "label", "split", "sha256", "content", "width", "height", "mode"])
    kept = kept.astype(dict.fromkeys(("id", "label", "split", "sha256", "mode"), "str"))
    for column in others:
        kept[column] = records[column].iloc[places].to_numpy()
    one_shape(kept)
    return kept, pd.DataFrame(dropped, columns=list(REJECTED_COLUMNS), dtype="str")


def _usable(content: bytes, width: int, height: int, side: int, config: Preprocess) -> "Picture | tuple[str, str]":
    """The canonical picture, or (reason, detail) why there is none."""
    if reason := _drop(width, height, config):
        return reason
    try:
        image = _canonical(opened(content, side, config.white, config.profiles == "convert"), config)
        return _dull(image, config) or image
    except Unusable as error:
        return error.reason, error.detail
    except UNREADABLE as error:
        return "broken", f"{type(error).__name__}: {failure(error)}"


def _drop(width: int, height: int, config: Preprocess) -> tuple[str, str] | None:
    short, long = sorted((width, height))
    if short < config.min_side:
        return "too_small", f"{width} x {height}, needs {config.min_side} on each side"
    if long > config.max_aspect * short:
        return "aspect", f"{width} x {height}, at most {config.max_aspect:g} to 1"
    return None


def _canonical(image: "Picture", config: Preprocess) -> "Picture":
    """The mode and size of the config."""
    from PIL import Image, ImageOps

    size = (config.width or image.width, config.height or image.height)
    image = image.convert(config.mode)
    if image.size == size:
        return image
    if config.fit == "crop":
        return ImageOps.fit(image, size, Image.Resampling.LANCZOS)
    return image.resize(size, Image.Resampling.LANCZOS)


def _dull(image: "Picture", config: Preprocess) -> tuple[str, str] | None:
    """Blank, flat, too dark or too bright; the quantiles follow CleanVision's tests for dark and light images."""
    levels = np.asarray(image)
    low, high = int(levels.min()), int(levels.max())
    if high - low < config.min_range:
        return "blank", f"all levels between {low} and {high}"
    if not config.min_contrast and not config.min_brightness and config.max_brightness >= 255:
        return None
    grey = _descriptor.luminance(levels.reshape(1, image.height, image.width, -1))
    contrast, dark, bright = round(float(grey.std()), 3), *np.round(np.quantile(grey, [0.05, 0.99]), 3)
    if contrast < config.min_contrast:
        return "flat", f"contrast {contrast:g}, at least {config.min_contrast:g} (preprocess.min_contrast)"
    if bright < config.min_brightness:
        return "too_dark", f"99 % below {bright:g}, at least {config.min_brightness:g} (preprocess.min_brightness)"
    if dark > config.max_brightness:
        return "too_bright", f"95 % above {dark:g}, at most {config.max_brightness:g} (preprocess.max_brightness)"
    return None
