"""JPEGs that are half broken, and those with several pictures."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataline import Line, smooth
from PIL import Image


def drawn(side: int) -> Image.Image:
    return Image.fromarray(smooth(np.random.default_rng(5), side))


def jpeg(side: int = 96, **options: Any) -> bytes:
    buffer = io.BytesIO()
    drawn(side).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def damaged(good: bytes) -> dict[str, bytes]:
    """Ways of losing data, each of which ends like a JPEG."""
    start = good.rindex(b"\xff\xda") + 14
    half, third, size = start + (len(good) - start) // 2, (len(good) - start) // 3, len(good)
    noise = (
        np.random.default_rng(6).integers(0, 255, size - half - 2).astype(np.uint8).tobytes().replace(b"\xff", b"\xfe")
    )
    return {
        "zero tail": good[:half] + bytes(size - half - 2) + b"\xff\xd9",
        "zero middle": good[: start + third] + bytes(third) + good[start + 2 * third :],
        "garbage tail": good[:half] + noise + b"\xff\xd9",
        "cut": good[:half] + b"\xff\xd9",
        "cut near the end": good[: size - 40] + b"\xff\xd9",
        "no end": good[:-2],
    }


def ingested(root: Path, files: dict[str, bytes], **ingest: Any) -> Line:
    (root / "raw").mkdir(parents=True)
    for name, content in files.items():
        (root / "raw" / f"{name}.jpg").write_bytes(content)
    return Line(root, "image", root / "raw", ingest={"max_rejected": 1.0, **ingest}).ingest()


@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "quality": 95}], ids=str
)
def test_a_jpeg_that_lost_data_is_broken(tmp_path: Path, options: dict[str, Any]) -> None:
    good = jpeg(**options)
    files = damaged(good)
    hidden = [name for name, content in files.items() if decodes(content)]

    line = ingested(tmp_path, {"good": good, **files})

    assert line.rejected() == {f"{name}.jpg": "broken" for name in sorted(files)}
    assert list(line.records()["id"]) == ["good.jpg"]
    assert len(hidden) >= 3, "of most of these Pillow says nothing"


def unset(content: bytes) -> bytes:
    """With the parameters of its scans 0, as some encoders of sequential JPEGs leave them."""
    scan = content.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(content[scan + 2 : scan + 4])
    return content[: end - 3] + bytes(3) + content[end:]


def test_a_harmless_warning_hides_none_that_follows(tmp_path: Path) -> None:
    """libjpeg's first warning alone is known."""
    good = jpeg()
    files = damaged(good)

    line = ingested(tmp_path, {"good": unset(good), **{name: unset(content) for name, content in files.items()}})

    assert list(line.records()["id"]) == ["good.jpg"]
    assert line.rejected() == {f"{name}.jpg": "broken" for name in sorted(files)}


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_progressive_jpeg_without_all_scans_is_broken(tmp_path: Path, mode: str) -> None:
    """libjpeg takes it without a warning: coarse coefficients of some components are all there is."""
    buffer = io.BytesIO()
    drawn(64).convert(mode).save(buffer, "JPEG", progressive=True)
    good = buffer.getvalue()
    # Each scan begins with its tables, or with itself.
    starts = [found.start() for found in re.finditer(rb"\xff[\xc4\xda]", good)]
    first = good.index(b"\xff\xda")
    files = {f"cut {place}": good[:place] + b"\xff\xd9" for place in starts if place > first}

    line = ingested(tmp_path, {"good": good, **files})

    assert list(line.records()["id"]) == ["good.jpg"] and len(files) >= 5
    assert set(line.rejected().values()) == {"broken"} and len(line.rejected()) == len(files)


def test_a_sequential_jpeg_without_the_scan_of_a_component_is_broken(tmp_path: Path) -> None:
    """Three scans of a component each; grey pictures of one size make them, header and tables being the same."""
    grey = Image.fromarray(smooth(np.random.default_rng(5), 64)[..., 0])
    buffer = io.BytesIO()
    grey.save(buffer, "JPEG")
    content = buffer.getvalue()
    frame, scan = content.index(b"\xff\xc0"), content.index(b"\xff\xda")
    header = content[frame : frame + 9] + b"\x03" + b"".join(bytes([one, 0x11, 0]) for one in (1, 2, 3))
    header = header[:2] + (17).to_bytes(2) + header[4:]
    tables = content[frame + 13 : scan]
    scans = [b"\xff\xda\0\x08\1" + bytes([one]) + content[scan + 6 : -2] for one in (1, 2, 3)]
    files = {
        str(count): content[:frame] + header + tables + b"".join(scans[:count]) + b"\xff\xd9" for count in (1, 2, 3)
    }

    line = ingested(tmp_path, files)

    assert list(line.records()["id"]) == ["3.jpg"] and line.rejected() == {"1.jpg": "broken", "2.jpg": "broken"}


def decodes(content: bytes) -> bool:
    try:
        Image.open(io.BytesIO(content)).load()
    except OSError:
        return False
    return True


def test_damaged_jpegs_may_be_kept_as_far_as_they_decode(tmp_path: Path) -> None:
    line = ingested(tmp_path, {"cut": damaged(jpeg())["cut"]}, damaged="keep")

    assert list(line.records()["id"]) == ["cut.jpg"]


def test_good_jpegs_of_every_kind_are_taken(tmp_path: Path) -> None:
    """Odd sizes, grey, CMYK, what phones append, and the odd parameters of some encoders."""
    buffers = {name: io.BytesIO() for name in ("grey", "cmyk", "one pixel")}
    picture = drawn(61)
    for mode, buffer in zip(("L", "CMYK"), buffers.values(), strict=False):
        picture.convert(mode).save(buffer, "JPEG")
    picture.resize((1, 1)).save(buffers["one pixel"], "JPEG")
    good = jpeg(33)
    scan = good.index(b"\xff\xda")
    files = {name: buffer.getvalue() for name, buffer in buffers.items()}
    files["appended"] = good + b"MotionPhoto_Data" * 9
    files["odd scan"] = good[: scan + 12] + b"\0" + good[scan + 13 :]

    line = ingested(tmp_path, files)

    assert line.rejected() == {} and len(line.records()) == 5


def test_of_several_pictures_in_a_jpeg_the_first_counts(tmp_path: Path) -> None:
    first, second = (drawn(side) for side in (32, 16))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    assert Image.open(buffer).format == "MPO"
    content = buffer.getvalue()
    end = re.search(rb"\xff\xd9\xff\xd8", content)
    assert end

    line = ingested(tmp_path, {"phone": content, "broken": content[: end.start() - 60] + content[end.start() :]})

    assert line.records()[["id", "width", "height", "format"]].to_numpy().tolist() == [["phone.jpg", 32, 32, "jpeg"]]
    assert line.rejected() == {"broken.jpg": "broken"}
    asked = {"height": 32, "width": 32}
    clean = (
        Line(tmp_path, "image", tmp_path / "raw", ingest={"max_rejected": 1.0}, preprocess=asked).preprocess().clean()
    )
    shown = np.frombuffer(clean["content"].iloc[0], np.uint8).reshape(32, 32, 3)
    assert np.abs(shown.astype(int) - np.asarray(first)).mean() < 12
