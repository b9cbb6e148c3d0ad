"""Levels and colours of pictures: the range of a format, never of a content, and sRGB."""

import io
import struct
import zlib
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


def deep_png(levels: np.ndarray, *more: bytes) -> bytes:
    """PNG of 16 bits of (H, W, C) with 2, 3 or 4 channels, which Pillow does not write; each row as its difference from
    the pixel before (filter Sub).
    """
    height, width, channels = levels.shape
    rows = np.ascontiguousarray(levels.astype(">u2")).view(np.uint8).reshape(height, width, -1)
    rows = np.diff(rows, axis=1, prepend=np.zeros_like(rows[:, :1])).reshape(height, -1)
    rows = np.concatenate([np.ones((height, 1), np.uint8), rows], 1)
    header = struct.pack(">IIBBBBB", width, height, 16, {2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    parts = [b"IHDR" + header, *more, b"IDAT" + zlib.compress(rows.tobytes()), b"IEND"]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def plain_tiff(
    levels: np.ndarray, photometric: int, separate: bool = False, extra: int | None = None, packed: bool = False
) -> bytes:
    """TIFF of (H, W, C) in the byte order and with the type of its levels, in one strip."""
    order = ">" if levels.dtype.byteorder == ">" else "<"
    (height, width, channels), bits = levels.shape, 8 * levels.dtype.itemsize
    data = (levels.transpose(2, 0, 1) if separate else levels).tobytes()
    data, strips = zlib.compress(data) if packed else data, channels if separate else 1
    form = {"u": 1, "i": 2}[levels.dtype.kind]
    tags: list[tuple[int, str, list[int]]] = [
        *[(256, "I", [width]), (257, "I", [height]), (258, "H", [bits] * channels), (259, "H", [8 if packed else 1])],
        *[(262, "H", [photometric]), (273, "I", [8 + n * len(data) // strips for n in range(strips)])],
        *[(277, "H", [channels]), (278, "I", [height]), (279, "I", [len(data) // strips] * strips)],
        *[(284, "H", [2 if separate else 1]), *([(338, "H", [extra])] if extra is not None else [])],
        (339, "H", [form] * channels),
    ]
    start = 8 + len(data)
    entries, tail, behind = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack(f"{order}I", behind + len(tail))
        tail += packed if len(packed) > 4 else b""
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + tail


def colours(left: int, right: int, channels: int = 3, kind: Any = np.uint16) -> np.ndarray:
    return np.repeat(halves(left, right, kind)[..., None], channels, -1)


def with_alpha(levels: np.ndarray, alpha: int = 65_535) -> np.ndarray:
    levels[..., -1] = alpha
    return levels


DEEP = {
    "rgb.png": lambda left, right: deep_png(colours(left, right)),
    "rgba.png": lambda left, right: deep_png(with_alpha(colours(left, right, 4))),
    "la.png": lambda left, right: deep_png(with_alpha(colours(left, right, 2))),
    "little.tiff": lambda left, right: plain_tiff(colours(left, right, 3, "<u2"), 2),
    "big.tiff": lambda left, right: plain_tiff(colours(left, right, 3, ">u2"), 2),
    "packed.tiff": lambda left, right: plain_tiff(colours(left, right, 3, ">u2"), 2, packed=True),
    "rgba.tiff": lambda left, right: plain_tiff(with_alpha(colours(left, right, 4, "<u2")), 2, extra=2),
    "padded.tiff": lambda left, right: plain_tiff(colours(left, right, 4, "<u2"), 2, extra=0),
    "grey.png": lambda left, right: png16(halves(left, right, np.uint16)),
}


@pytest.mark.parametrize("white", [0, 4095])
def test_colours_of_sixteen_bits_go_by_white_as_grey_does(tmp_path: Path, white: int) -> None:
    """Pillow cuts them to eight bits: level 4095 of white 4095 was 15, and 60,000 was 234 instead of out of range."""
    files = {name: make(255, 4095) for name, make in DEEP.items()}
    files |= {f"over {name}": make(0, 60_000) for name, make in DEEP.items()}

    line = cleaned(tmp_path, files, white=white)

    found, top = sides(line), white or 65_535
    assert all(found[name] == [round(255 * level / top) for level in (255, 4095)] for name in DEEP)
    if white:
        assert line.rejected("clean") == {f"over {name}": "out_of_range" for name in sorted(DEEP)}
    else:
        assert {found[f"over {name}"][1] for name in DEEP} == {233}


def test_colours_of_sixteen_bits_may_be_turned_or_see_through(tmp_path: Path) -> None:
    turned, tag = np.rot90(colours(0, 4095)).copy(), Image.Exif()
    tag[0x0112] = 6
    files = {
        "turned.png": deep_png(turned, b"eXIf" + tag.tobytes().removeprefix(b"Exif\0\0")),
        "clear.png": deep_png(colours(300, 2048), b"tRNS" + struct.pack(">HHH", 300, 300, 300)),
        "hidden.png": deep_png(with_alpha(colours(60_000, 60_000, 4), 0)),
        "half.png": deep_png(with_alpha(colours(0, 4095, 2), 32_768)),
    }

    line = cleaned(tmp_path, files, white=4095, mode="RGB")

    assert sides(line) == {
        "turned.png": [0, 255],
        "clear.png": [255, 128],
        "hidden.png": [255, 255],
        "half.png": [127, 255],
    }


def test_levels_that_pillow_mistakes_are_dropped(tmp_path: Path) -> None:
    files = {
        "signed.tiff": plain_tiff(colours(-5, 5, 1, np.int8), 1),
        "apart.tiff": plain_tiff(colours(0, 4095), 2, separate=True),
        "ink.tiff": plain_tiff(colours(0, 4095, 4), 5),
        "premultiplied.tiff": plain_tiff(with_alpha(colours(0, 4095, 4)), 2, extra=1),
        "good.png": DEEP["rgb.png"](0, 4095),
    }

    named, unnamed = (cleaned(tmp_path / str(white), files, white=white) for white in (4095, 0))

    assert named.rejected("clean") == {
        "apart.tiff": "depth",
        "ink.tiff": "depth",
        "premultiplied.tiff": "depth",
        "signed.tiff": "signed",
    }
    assert unnamed.rejected("clean") == {"apart.tiff": "depth", "signed.tiff": "signed"}


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
