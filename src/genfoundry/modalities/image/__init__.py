"""Images: a folder of pictures whose sub-folders are labels; models see grids of pixels.

Facts of a picture: width, height, mode and format as read; once clean, width, height and mode of the pixels.
"""

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from genfoundry.config.sections.dedup import Dedup as _Dedup
from genfoundry.config.sections.encode import Encode as _Encode
from genfoundry.config.sections.preprocess import Preprocess as _Preprocess
from genfoundry.config.specs import REJECTED_COLUMNS, DataSpec, GridSpec, Vectors
from genfoundry.core.errors import DataError
from genfoundry.core.pages import picture
from genfoundry.data.similarity import descriptor as _descriptor
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.image import edits as _edits
from genfoundry.modalities.image import files as _picturefiles

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image as Picture

SHOWN = 96
"""Width of a difference on a page, in pixels."""

FACTS = ("width", "height", "mode", "format")

Format = Literal["png", "jpeg", "webp", "bmp", "gif", "tiff"]

EDITS, BENIGN = tuple(_edits.EDITS), _edits.BENIGN
"""Edits of planted copies in turn, and how many of the first leave each pixel in its place and colour."""

UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
"""What Pillow's decoders raise on broken files."""


class Ingest(_picturefiles.Source):
    """How pictures are read."""

    shard_records: int = Field(default=512, ge=0)
    """Pictures in a shard, about, where that comes to less: work on small ones goes by their number; 0 for no bound."""
    formats: tuple[Format, ...] = ("png", "jpeg", "webp", "bmp", "gif", "tiff")
    """Formats that may be decoded; others are set aside."""
    max_pixels: int = Field(default=64 * 10**6, ge=1)
    """Pictures with more pixels are set aside before they are decoded."""


class Preprocess(_Preprocess):
    """How pictures become canonical."""

    height: int = Field(default=0, ge=0)
    """Rows of pixels; 0 keeps the pictures' own, which must then be all the same."""
    width: int = Field(default=0, ge=0)
    """Columns of pixels; 0 keeps the pictures' own, which must then be all the same."""
    mode: Literal["L", "RGB"] = "RGB"
    """Grey or colour; transparent parts become white."""
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


class Dedup(_Dedup):
    """Which pictures count as copies."""

    threshold: float = Field(default=0.0, ge=0, le=1)
    """Least similarity of two aligned pictures; 0 calibrates it on planted copies."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """Least cosine of two descriptors to be compared at all; 0 calibrates it on planted copies."""
    mirror: bool = True
    """Mirrored pictures count as copies, unless the set is full of look-alikes."""


class Encode(_Encode):
    """How pictures become arrays."""


# ------------------------------------------------------------------------------------------------ read
def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of pictures and of what was set aside."""
    tables = _tables.Tables(FACTS)
    seen: set[str] = set()
    for row in _picturefiles.rows(source, config):
        facts = (row.reason, row.detail) if row.reason else _inspect(row.content, config)
        if len(facts) == 2:
            tables.reject(row.id, *facts)
        elif row.id in seen:
            tables.reject(row.id, "duplicate_id", f"again in {config.id_column}")
        else:
            tables.add(row.id, row.label, row.split, row.content, *facts)
            # Paths can't come twice; ids that a column gives can.
            if config.id_column:
                seen.add(row.id)
        if tables.full:
            yield tables.take()
    yield tables.take()


def _inspect(data: bytes, config: Ingest) -> tuple[Any, ...]:
    """(width, height, mode, format), or (reason, detail) if it is no picture we take."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data)) as image:
                kind = str(image.format or "").lower()
                if kind not in config.formats:
                    return "format", f"{kind or 'unknown'}; ingest.formats allows {', '.join(config.formats)}"
                if image.width * image.height > config.max_pixels:
                    return "too_many_pixels", f"{image.width} x {image.height}, at most {config.max_pixels} pixels"
                if getattr(image, "n_frames", 1) > 1:
                    return "animated", f"{image.n_frames} frames"  # type: ignore[attr-defined]
                image.load()
                return image.width, image.height, image.mode, kind
        except Image.UnidentifiedImageError:
            return "not_an_image", f"begins with {data[:8].hex(' ')}"
        except Image.DecompressionBombError as error:
            return "too_many_pixels", str(error)[:200]
        except UNREADABLE as error:
            # Pillow prints addresses of objects, which differ from run to run.
            return "broken", re.sub(r" at 0x[0-9a-f]+", "", str(error))[:200]


# ------------------------------------------------------------------------------------------------ clean
def clean(records: "pd.DataFrame", config: Preprocess) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(pictures as uint8 pixels in rows, columns, channels; what was dropped and why)."""
    import pandas as pd

    rows, dropped = [], []
    # Decoders of JPEG shrink for nothing; twice the size that is asked for leaves the resampling to us.
    side = 2 * max(config.height, config.width) if config.height and config.width else 0
    columns = ("id", "label", "split", "content", "width", "height")
    for name, label, split, content, *size in zip(*(records[c] for c in columns), strict=True):
        image = _open(content, side)
        if reason := _drop(*size, config):
            dropped.append((name, *reason))
            continue
        image = _canonical(image, config)
        if reason := _dull(image, config):
            dropped.append((name, *reason))
            continue
        pixels = image.tobytes()
        rows.append((name, label, split, _tables.sha256(pixels), pixels, image.width, image.height, image.mode))
    kept = pd.DataFrame(rows, columns=["id", "label", "split", "sha256", "content", "width", "height", "mode"])
    kept = kept.astype(dict.fromkeys(("id", "label", "split", "sha256", "mode"), "str"))
    _one_shape(kept)
    return kept, pd.DataFrame(dropped, columns=list(REJECTED_COLUMNS), dtype="str")


def _open(content: bytes, side: int = 0) -> "Picture":
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


def _one_shape(records: "pd.DataFrame") -> None:
    sizes = records.groupby(["height", "width"])["id"].agg(["count", "first"]).sort_values("count", ascending=False)
    if len(sizes) > 1:
        found = zip(sizes.index[:4], sizes["count"], sizes["first"], strict=False)
        listed = "; ".join(f"{h} x {w}: {count} ({name}, ...)" for (h, w), count, name in found)
        raise DataError(f"images differ in height x width: {listed}; set preprocess.height and preprocess.width")


# ------------------------------------------------------------------------------------------------ contract
def expectations() -> list[dict[str, Any]]:
    """What raw pictures must keep: ids unique, sizes and modes that can become pixels."""
    modes = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
    modes += ["I;16", "I;16B", "I;16L", "I", "F"]
    suite: list[tuple[str, str, dict[str, Any]]] = [
        ("critical", "expect_table_row_count_to_be_between", {"min_value": 1}),
        ("critical", "expect_column_values_to_not_be_null", {"column": "id"}),
        ("critical", "expect_column_values_to_be_unique", {"column": "id"}),
        ("critical", "expect_column_values_to_match_regex", {"column": "sha256", "regex": "^[0-9a-f]{64}$"}),
        ("critical", "expect_column_values_to_be_between", {"column": "width", "min_value": 1}),
        ("critical", "expect_column_values_to_be_between", {"column": "height", "min_value": 1}),
        ("critical", "expect_column_values_to_be_in_set", {"column": "mode", "value_set": modes}),
        ("warning", "expect_column_values_to_be_between", {"column": "width", "min_value": 8, "mostly": 0.95}),
        ("warning", "expect_column_values_to_be_unique", {"column": "sha256", "mostly": 0.9}),
    ]
    return [{"type": kind, "kwargs": arguments, "severity": severity} for severity, kind, arguments in suite]


# ------------------------------------------------------------------------------------------------ copies
def pixels(records: "pd.DataFrame") -> np.ndarray:
    """uint8 (N, H, W, C) of clean records.

    Raises:
        DataError: They are not all of one size.
    """
    _one_shape(records)
    if not len(records):
        return np.zeros((0, 1, 1, 1), np.uint8)
    height, width = int(records["height"].iloc[0]), int(records["width"].iloc[0])
    return np.frombuffer(b"".join(records["content"]), np.uint8).reshape(len(records), height, width, -1)


def fingerprints(records: "pd.DataFrame", config: Dedup) -> Vectors:
    """Descriptor and small luminance picture of each picture."""
    return _descriptor.describe(pixels(records))


def perturb(records: "pd.DataFrame", generator: np.random.Generator) -> "pd.DataFrame":
    """Planted copies: row i bears edit ``EDITS[i % len(EDITS)]``."""
    edited = records.copy()
    kinds = list(_edits.EDITS.values())
    edited["content"] = [
        kinds[number % len(kinds)](one, generator).tobytes() for number, one in enumerate(pixels(records))
    ]
    return edited


# ------------------------------------------------------------------------------------------------ arrays
def encode(
    read: "Callable[[str], Iterator[pd.DataFrame]]", counts: Mapping[str, int], config: Encode, folder: Path
) -> tuple[DataSpec, dict[str, Any]]:
    """``<split>.npy``: uint8 (N, C, H, W), row by row in the order of column ``row``."""
    report: dict[str, Any] = {}
    shapes = {}
    for split, count in counts.items():
        array: np.ndarray | None = None
        for table in read(split):
            values = pixels(table).transpose(0, 3, 1, 2)
            shapes[values.shape[1:]] = str(table["id"].iloc[0])
            if len(shapes) > 1:
                listed = "; ".join(f"{shape}: {name}, ..." for shape, name in shapes.items())
                raise DataError(f"images differ in shape: {listed}; set preprocess.height and preprocess.width")
            if array is None:
                target = folder / f"{split}.npy"
                array = np.lib.format.open_memmap(target, "w+", np.uint8, (count, *values.shape[1:]))
            array[table["row"].to_numpy()] = values
        if array is not None:
            array.flush()
        report[split] = {"records": count}
    if not shapes:
        raise DataError("no image is left to encode; look at the reports of preprocess and deduplicate")
    channels, height, width = next(iter(shapes))
    return GridSpec(channels=channels, shape=(height, width)), report


def decode(samples: Sequence[np.ndarray], folder: Path) -> list[bytes]:
    """PNG of each uint8 (C, H, W)."""
    return [png(np.asarray(sample).transpose(1, 2, 0)) for sample in samples]


# ------------------------------------------------------------------------------------------------ pages
def png(levels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W, C)."""
    from PIL import Image

    buffer = io.BytesIO()
    # Small pictures uncompressed: zlib's choices differ between processors, and pages are cached by content.
    level = 0 if levels.size <= 16_384 else 6
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()


def show(record: Mapping[str, Any], width: int = 128) -> str:
    """A picture as HTML, raw or clean."""
    if "format" in record:
        image = _open(record["content"]).convert("RGB")
        image.thumbnail((2 * width, 2 * width))
        levels = np.asarray(image)
    else:
        shape = (int(record["height"]), int(record["width"]), -1)
        levels = np.frombuffer(record["content"], np.uint8).reshape(shape)
    return picture(png(levels), width=width)


def compare(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Two pictures side by side as HTML, then what differs once the first is laid over the second."""
    sides = f"{show(first)} &nbsp; {show(second)}"
    if first["content"] == second["content"] or any("format" in record for record in (first, second)):
        return sides
    return f"{sides} &nbsp; {_difference(_levels(first), _levels(second))}"


def _levels(record: Mapping[str, Any]) -> np.ndarray:
    return np.frombuffer(record["content"], np.uint8).reshape(int(record["height"]), int(record["width"]), -1)


def _difference(first: np.ndarray, second: np.ndarray) -> str:
    """The aligned difference around mid grey, at equal light and contrast; white where only one shows something."""
    from genfoundry.data.similarity import alignment

    one, two = _descriptor.describe(np.stack([first, second])).details
    tried = [alignment.overlaid(one, two, mirrored) for mirrored in (False, True)]
    mirrored = tried[1][1] > tried[0][1]
    laid = tried[mirrored][0]
    seen = ~np.isnan(laid).any(axis=-1)
    if not seen.any():
        return ""
    a, b = laid[seen], two[seen].astype(np.float64)
    gain = b.std() / max(a.std(), 1e-3)
    shown = np.full(two.shape, 255, np.uint8)
    shown[seen] = np.clip(np.round((b - b.mean() - gain * (a - a.mean())) / 2 + 128), 0, 255)
    side = ", mirrored" if mirrored else ""
    return f'{picture(png(shown), width=SHOWN)} <span class="soft">aligned difference{side}</span>'
