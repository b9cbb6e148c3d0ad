"""Read pictures: allowed formats, size limits, facts from the files; data contract of raw pictures."""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from genfoundry.config.specs import FILE, RECORD_COLUMNS
from genfoundry.core.errors import ConfigError
from genfoundry.modalities.common import tables as _tables
from genfoundry.modalities.image import files as _picturefiles
from genfoundry.modalities.image import scans as _scans
from genfoundry.modalities.image.pixels import UNREADABLE, failure

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("width", "height", "mode", "format")
"""Width, height, mode and format as read; once clean, width, height and mode of the pixels."""

Format = Literal["png", "jpeg", "webp", "bmp", "gif", "tiff"]


class Ingest(_picturefiles.Source):
    """How pictures are read."""

    shard_records: int = Field(default=512, ge=0)
    """Approximate maximum of pictures per shard; whichever of shard and shard_records is reached first ends it (0: no
    limit).
    """
    formats: tuple[Format, ...] = ("png", "jpeg", "webp", "bmp", "gif", "tiff")
    """Formats that may be decoded; others are rejected."""
    max_pixels: int = Field(default=64 * 10**6, ge=1)
    """Pictures with more pixels are rejected before they are decoded."""
    damaged: Literal["reject", "keep"] = "reject"
    """JPEGs that decode with a warning of libjpeg (cut, overwritten or padded data) or without all scans: rejected as
    broken, or kept as far as they decode. Formats without checksums (BMP, plain TIFF, WebP) can't be checked.
    """


def read(source: Path | _tables.Part, config: Ingest) -> "Iterator[tuple[pd.DataFrame, pd.DataFrame]]":
    """Tables of pictures and of rejected ones."""
    file = [FILE] if config.id_column else []
    if taken := sorted({*RECORD_COLUMNS, *FACTS, *file} & {*config.fact_columns}):
        raise ConfigError(
            f"ingest.fact_columns: {', '.join(taken)} is a column of every picture; rename it in the source"
        )
    tables, none = _tables.Tables((*FACTS, *config.fact_columns), file), (None,) * len(config.fact_columns)
    seen: set[str] = set()
    for row in _picturefiles.rows(source, config):
        facts = (row.reason, row.detail) if row.reason else _inspect(row.content, config)
        if len(facts) == 2:
            tables.reject(row.id, *facts)
        elif row.id in seen:
            tables.reject(row.id, "duplicate_id", f"again in {config.id_column}")
        else:
            tables.kinds.note(row.file, row.raw, row.raw, config.missing)
            place = [row.file] if file else []
            tables.add(row.id, row.label, row.split, row.content, *facts, *(row.facts or none), *place)
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
                # Phones and cameras write several pictures into a JPEG (CIPA DC-007), the photograph first.
                kind = "jpeg" if image.format == "MPO" else str(image.format or "").lower()
                if kind not in config.formats:
                    return "format", f"{kind or 'unknown'}; ingest.formats allows {', '.join(config.formats)}"
                if image.width * image.height > config.max_pixels:
                    return "too_many_pixels", f"{image.width} x {image.height}, at most {config.max_pixels} pixels"
                if kind != "jpeg" and getattr(image, "n_frames", 1) > 1:
                    return "animated", f"{image.n_frames} frames"  # type: ignore[attr-defined]
                image.load()
                if kind == "jpeg" and config.damaged == "reject" and (warning := _warning(data)):
                    return "broken", warning
                return image.width, image.height, image.mode, kind
        except Image.UnidentifiedImageError:
            return "not_an_image", f"begins with {data[:8].hex(' ')}"
        except Image.DecompressionBombError as error:
            return "too_many_pixels", str(error)[:200]
        except UNREADABLE as error:
            return "broken", failure(error)


def _warning(data: bytes) -> str:
    """What libjpeg warns of while it reads a JPEG to its end, which Pillow hides, or what its scans lack; empty for a
    good one.
    """
    import simplejpeg

    fixed, lack = _scans.checked(data)
    try:
        simplejpeg.decode_jpeg_header(fixed, strict=False)
    except ValueError:
        return lack  # of a kind that TurboJPEG doesn't know: what Pillow says holds
    try:
        # An eighth of the size: every byte is decoded, few pixels are computed.
        simplejpeg.decode_jpeg(fixed, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        return str(error)
    return lack


def expectations() -> list[dict[str, Any]]:
    """Expectations of raw pictures: ids unique, sizes and modes that can become pixels."""
    modes = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
    modes += ["I;16", "I;16B", "I;16L", "I", "F"]
    return _tables.suite(
        ("critical", "expect_column_values_to_be_between", {"column": "width", "min_value": 1}),
        ("critical", "expect_column_values_to_be_between", {"column": "height", "min_value": 1}),
        ("critical", "expect_column_values_to_be_in_set", {"column": "mode", "value_set": modes}),
        ("warning", "expect_column_values_to_be_between", {"column": "width", "min_value": 8, "mostly": 0.95}),
    )
