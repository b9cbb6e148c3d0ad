"""Levels and colours of pictures: the range of a format, never of a content, and sRGB."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataline import Line, save, smooth
from PIL import Image, ImageCms

from genfoundry.modalities.image import pages, pixels

MODES = ("L", "RGB")


def tiff(picture: Image.Image | np.ndarray, **options: Any) -> bytes:
    picture, buffer = picture if isinstance(picture, Image.Image) else Image.fromarray(picture), io.BytesIO()
    picture.save(buffer, "TIFF", **options)
    return buffer.getvalue()


def halves(left: float, right: float, kind: Any) -> np.ndarray:
    levels = np.full((16, 16), left, kind)
    levels[:, 8:] = right
    return levels


def cleaned(root: Path, files: dict[str, bytes], **preprocess: Any) -> Line:
    (root / "raw").mkdir(parents=True)
    for name, content in files.items():
        (root / "raw" / name).write_bytes(content)
    asked = {"height": 16, "width": 16, "mode": "L", "max_dropped": 1.0, "min_range": 0, **preprocess}
    return Line(root, "image", root / "raw", ingest={"max_rejected": 1.0}, preprocess=asked).ingest().preprocess()


def sides(line: Line) -> dict[str, list[int]]:
    """The levels of both halves of each picture."""
    table = line.clean()
    return dict(zip(table["id"], pixels.levels(table)[:, 0, [0, 15], 0].tolist(), strict=True))


def png16(levels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def test_sixteen_bits_are_scaled_alike_whatever_a_picture_holds(tmp_path: Path) -> None:
    tops = (200, 300, 4000, 30_000, 65_535)

    line = cleaned(tmp_path, {f"{top}.png": png16(halves(0, top, np.uint16)) for top in tops})

    assert sides(line) == {f"{top}.png": [0, round(top / 257)] for top in tops}


def test_floats_go_from_0_to_1_and_what_has_no_range_is_dropped(tmp_path: Path) -> None:
    files = {
        "half.tiff": tiff(halves(0, 0.5, np.float32)),
        "full.tiff": tiff(halves(0.25, 1, np.float32)),
        "levels.tiff": tiff(halves(0, 200, np.float32)),
        "below.tiff": tiff(halves(-0.5, 1, np.float32)),
        "nan.tiff": tiff(halves(np.nan, 0.5, np.float32)),
        "infinite.tiff": tiff(halves(0, np.inf, np.float32)),
        "whole.tiff": tiff(halves(0, 60_000, np.int32)),
    }

    line = cleaned(tmp_path, files)

    assert sides(line) == {"half.tiff": [0, 128], "full.tiff": [64, 255]}
    assert line.rejected("clean") == {
        "below.tiff": "out_of_range",
        "infinite.tiff": "not_finite",
        "levels.tiff": "out_of_range",
        "nan.tiff": "not_finite",
        "whole.tiff": "unknown_range",
    }


def test_a_stated_white_scales_what_is_deeper_than_eight_bits(tmp_path: Path) -> None:
    files = {
        "whole.tiff": tiff(halves(0, 2000, np.int32)),
        "float.tiff": tiff(halves(0, 4000, np.float32)),
        "deep.png": png16(halves(1000, 4000, np.uint16)),
        "over.png": png16(halves(0, 4100, np.uint16)),
        "eight.png": pixels.png(halves(0, 77, np.uint8)[..., None]),
    }

    line = cleaned(tmp_path, files, white=4000)

    assert sides(line) == {
        "whole.tiff": [0, 128],
        "float.tiff": [0, 255],
        "deep.png": [64, 255],
        "eight.png": [0, 77],
    }
    assert line.rejected("clean") == {"over.png": "out_of_range"}


def test_deep_grey_may_be_turned_see_through_or_stored_white_first(tmp_path: Path) -> None:
    turned, tag = Image.fromarray(np.rot90(halves(0, 65_535, np.uint16)).copy()), Image.Exif()
    tag[0x0112] = 6
    buffers = io.BytesIO(), io.BytesIO()
    turned.save(buffers[0], "PNG", exif=tag)
    Image.fromarray(halves(300, 30_000, np.uint16)).save(buffers[1], "PNG", transparency=300)
    files = {
        "turned.png": buffers[0].getvalue(),
        "clear.png": buffers[1].getvalue(),
        "white_is_zero.tiff": tiff(halves(0, 30_000, np.uint16), tiffinfo={262: 0}),
    }

    line = cleaned(tmp_path, files)

    assert sides(line) == {"turned.png": [0, 255], "clear.png": [255, 117], "white_is_zero.tiff": [255, 138]}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_grey_or_colour(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(halves(0, 255, np.uint8))
    files = {f"{kind}.tiff": tiff(grey.convert("RGB").convert(kind)) for kind in ("1", "CMYK", "YCbCr", "P", "LA")}
    lab = np.stack([halves(0, 255, np.uint8), *[np.full((16, 16), 0, np.uint8)] * 2], -1)
    files["LAB.tiff"] = tiff(Image.frombytes("LAB", (16, 16), lab.tobytes()))

    line = cleaned(tmp_path, files, mode=mode)

    assert line.rejected("clean") == {} and line.rejected() == {}
    assert set(line.clean()["mode"]) == {mode} and len(sides(line)) == 6
    for name, (left, right) in sides(line).items():
        assert left <= 1 and right >= 254, name


def test_profiles_become_srgb_or_the_picture_is_dropped(tmp_path: Path) -> None:
    wide = wide_profile()
    picture = Image.new("RGB", (16, 16), (200, 60, 60))
    buffers = {name: io.BytesIO() for name in ("plain", "srgb", "wide", "broken", "wide grey")}
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = {"plain": None, "srgb": srgb, "wide": wide, "broken": b"no profile", "wide grey": wide}
    for name, buffer in buffers.items():
        (picture.convert("L") if "grey" in name else picture).save(buffer, "PNG", icc_profile=profiles[name])
    files = {f"{name}.png": buffer.getvalue() for name, buffer in buffers.items()}

    line = cleaned(tmp_path / "convert", files, mode="RGB")
    ignored = cleaned(tmp_path / "ignore", files, mode="RGB", profiles="ignore")

    table = line.clean()
    first = dict(zip(table["id"], pixels.levels(table)[:, 0, 0].tolist(), strict=True))
    assert first["plain.png"] == first["srgb.png"] == [200, 60, 60]
    assert first["wide.png"][0] > 210 and first["wide.png"][1] < 55, "a wider gamut is more colourful in sRGB"
    assert len(set(first["wide grey.png"])) == 1
    assert line.rejected("clean") == {"broken.png": "profile"}
    assert not ignored.rejected("clean")
    seen = {tuple(one) for one in pixels.levels(ignored.clean())[:, 0, 0].tolist()}
    assert seen == {(200, 60, 60), (102, 102, 102)}


def wide_profile() -> bytes:
    """sRGB's profile with the primaries of Display P3 in place of its own (adapted to D50, as profiles state them)."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    primaries = {
        b"rXYZ": (0.515102, 0.241182, -0.001050),
        b"gXYZ": (0.291965, 0.692236, 0.041882),
        b"bXYZ": (0.157153, 0.066582, 0.784378),
    }
    for number in range(int.from_bytes(data[128:132], "big")):
        entry = data[132 + 12 * number : 144 + 12 * number]
        if values := primaries.get(bytes(entry[:4])):
            start = int.from_bytes(entry[4:8], "big") + 8
            data[start : start + 12] = b"".join(round(v * 65536).to_bytes(4, "big", signed=True) for v in values)
    return bytes(data)


def test_a_picture_that_pillow_cant_convert_ends_no_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An orientation that can't be read: Pillow raises while it turns the picture, after ingest decoded it."""
    save(tmp_path / "raw/good.png", smooth(np.random.default_rng(0)))
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG", exif=b"Exif\0\0no tiff header")
    (tmp_path / "raw/odd.png").write_bytes(buffer.getvalue())

    line = Line(tmp_path, "image", tmp_path / "raw", preprocess={"height": 8, "width": 8}).ingest().preprocess()

    assert list(line.clean()["id"]) == ["good.png"] and line.rejected("clean") == {"odd.png": "broken"}
    assert "can't be shown" in pages.show({"format": "png", "content": buffer.getvalue()})
