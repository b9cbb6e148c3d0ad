"""Images: what is read, what is set aside and why, what becomes canonical."""

import base64
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataline import Line, save, smooth
from PIL import Image

from genfoundry.core.errors import DataError
from genfoundry.modalities import image
from genfoundry.modalities.image import cleaning, pages, pixels
from genfoundry.modalities.image.pixels import png

GENERATOR = np.random.default_rng(0)


def clean(line: Line) -> np.ndarray:
    """uint8 (N, H, W, C) of the clean pictures."""
    return pixels.levels(line.clean())


def test_folders_are_labels_and_a_top_folder_may_be_a_split(tmp_path: Path) -> None:
    for name in ("cat/1.png", "train/dog/2.png", "test/3.png", "deep/er/4.png", "5.png"):
        save(tmp_path / "raw" / name, smooth(GENERATOR, 8))

    records = Line(tmp_path, "image", tmp_path / "raw").ingest().records()

    assert records[["id", "label", "split"]].fillna("-").to_numpy().tolist() == [
        ["5.png", "-", "-"],
        ["cat/1.png", "cat", "-"],
        ["deep/er/4.png", "er", "-"],
        ["test/3.png", "-", "test"],
        ["train/dog/2.png", "dog", "train"],
    ]
    assert set(records["format"]) == {"png"} and set(records["width"]) == {8}


def test_what_is_no_good_picture_is_set_aside_with_its_reason(tmp_path: Path) -> None:
    raw, good = tmp_path / "raw", smooth(GENERATOR, 64)
    save(raw / "good.jpg", good)
    (raw / "zero.png").write_bytes(b"")
    (raw / "words.png").write_text("this is no picture")
    (raw / "notes.txt").write_text("this is no picture")
    (raw / "cut.png").write_bytes(png(good)[:-900])
    (raw / "cut.jpg").write_bytes((raw / "good.jpg").read_bytes()[:600])
    save(raw / "wide.png", np.zeros((20, 600, 3), np.uint8))
    frames = [Image.fromarray(smooth(GENERATOR, 8)) for _ in range(3)]
    frames[0].save(raw / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(good).save(raw / "drawing.ppm")

    line = Line(tmp_path, "image", raw, ingest={"max_rejected": 1.0, "max_pixels": 10_000}).ingest()

    assert line.rejected() == {
        "cut.jpg": "broken",
        "cut.png": "broken",
        "drawing.ppm": "format",
        "moving.gif": "animated",
        "notes.txt": "not_an_image",
        "wide.png": "too_many_pixels",
        "words.png": "not_an_image",
        "zero.png": "empty",
    }
    assert list(line.records()["id"]) == ["good.jpg"]
    assert "0x" not in (line.paths.records / "rejected.parquet").read_bytes().decode("latin-1")


def test_a_file_above_the_limit_is_set_aside_unread(tmp_path: Path) -> None:
    save(tmp_path / "raw/a.png", smooth(GENERATOR, 64))
    save(tmp_path / "raw/b.png", smooth(GENERATOR, 4))

    line = Line(tmp_path, "image", tmp_path / "raw", ingest={"max_rejected": 1.0, "max_bytes": 500}).ingest()

    assert line.rejected() == {"a.png": "too_large"} and list(line.records()["id"]) == ["b.png"]


def test_a_format_may_be_shut_out(tmp_path: Path) -> None:
    save(tmp_path / "raw/a.png", smooth(GENERATOR))
    save(tmp_path / "raw/b.bmp", smooth(GENERATOR))

    line = Line(tmp_path, "image", tmp_path / "raw", ingest={"max_rejected": 1.0, "formats": ["png"]}).ingest()

    assert line.rejected() == {"b.bmp": "format"}


def test_canonical_pixels_are_upright_on_white_and_of_the_asked_size(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:, 8:] = 250
    tag = Image.Exif()
    tag[0x0112] = 6  # to be turned by 90 degrees to the right
    save(raw / "turned.png", np.rot90(upright), exif=tag)
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[:, :8, 3] = 255
    save(raw / "clear.png", clear)
    deep = np.zeros((16, 16), np.uint16)
    deep[:, 8:] = 30_000
    Image.fromarray(deep).save(raw / "deep.png")

    line = Line(tmp_path, "image", raw, preprocess={"height": 16, "width": 16, "mode": "L"}).ingest().preprocess()

    pictures = dict(zip(line.clean()["id"], clean(line)[..., 0], strict=True))
    np.testing.assert_array_equal(pictures["turned.png"][:, [0, 15]], [[0, 250]] * 16)
    np.testing.assert_array_equal(pictures["clear.png"][:, [0, 15]], [[0, 255]] * 16)
    np.testing.assert_array_equal(pictures["deep.png"][:, [0, 15]], [[0, 117]] * 16)


def test_shrinking_averages_instead_of_dropping_pixels(tmp_path: Path) -> None:
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.uint8(255)
    save(tmp_path / "raw/a.png", board.astype(np.uint8))

    config = {"height": 8, "width": 8, "mode": "L", "min_range": 0}
    line = Line(tmp_path, "image", tmp_path / "raw", preprocess=config).ingest().preprocess()

    assert abs(clean(line).astype(int) - 127).max() <= 2


def test_blank_long_and_small_pictures_are_dropped_and_shown(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    save(raw / "good.png", smooth(GENERATOR))
    save(raw / "blank.png", np.full((32, 32, 3), 7, np.uint8))
    save(raw / "long.png", smooth(GENERATOR, 40)[:5])
    save(raw / "small.png", smooth(GENERATOR, 3))

    config = {"height": 8, "width": 8, "max_aspect": 3, "min_side": 4, "max_dropped": 0.8}
    line = Line(tmp_path, "image", raw, preprocess=config).ingest().preprocess()

    assert line.rejected("clean") == {"blank.png": "blank", "long.png": "aspect", "small.png": "too_small"}
    page = (line.paths.reports / "preprocess.html").read_text()
    assert page.count("<img") == 3 and "40 x 5, at most 3 to 1" in page


def test_pictures_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    save(tmp_path / "raw/a.png", smooth(GENERATOR, 8))
    save(tmp_path / "raw/b.png", smooth(GENERATOR, 9))

    with pytest.raises(DataError, match=r"8 x 8: 1 \(a.png, ...\).*set preprocess.height and preprocess.width"):
        Line(tmp_path, "image", tmp_path / "raw").ingest().preprocess()


def parquet(
    path: Path, rows: dict[str, list[object]], metadata: dict[str, object] | None = None, size: int = 100
) -> None:
    table = pa.table(rows)
    if metadata:
        table = table.replace_schema_metadata({"huggingface": json.dumps(metadata)})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def test_archives_are_read_as_folders_are(tmp_path: Path) -> None:
    good = png(smooth(GENERATOR))
    files = {
        "train/cat/1.png": good,
        "test/dog/2.png": good,
        "../out.png": good,
        "words.txt": b"no picture",
        "e.png": b"",
        "root.png": good,
    }
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw/a.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with tarfile.open(tmp_path / "raw/b.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("bird/3.png")
        member.size = len(good)
        archive.addfile(member, io.BytesIO(good))

    line = Line(tmp_path, "image", tmp_path / "raw", ingest={"max_rejected": 1.0}).ingest()

    assert line.records()[["id", "label", "split"]].fillna("-").to_numpy().tolist() == [
        ["a.zip/train/cat/1.png", "cat", "train"],
        ["a.zip/test/dog/2.png", "dog", "test"],
        ["a.zip/root.png", "-", "-"],
        ["b.tar.gz/bird/3.png", "bird", "-"],
    ]
    assert line.rejected() == {
        "a.zip/../out.png": "unsafe_name",
        "a.zip/e.png": "empty",
        "a.zip/words.txt": "not_an_image",
    }


def test_an_archive_with_too_many_entries_fails(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    with zipfile.ZipFile(tmp_path / "raw/a.zip", "w") as archive:
        for number in range(5):
            archive.writestr(f"{number}.png", png(smooth(GENERATOR, 8)))

    with pytest.raises(DataError, match=r"more than 4 entries; raise ingest\.max_entries"):
        Line(tmp_path, "image", tmp_path / "raw", ingest={"max_entries": 4}).ingest()


def test_parquet_as_hugging_face_writes_it(tmp_path: Path) -> None:
    good = png(smooth(GENERATOR))
    rows = {
        "image": [{"bytes": good, "path": "x.png"}, {"bytes": good, "path": None}, {"bytes": None, "path": "y"}],
        "label": [1, 0, 1],
        "part": ["validation", "train", "train"],
        "key": ["a", "b", "c"],
    }
    names = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    parquet(tmp_path / "raw/p.parquet", rows, names)

    config = {"label_column": "label", "split_column": "part", "id_column": "key", "max_rejected": 1.0}
    line = Line(tmp_path, "image", tmp_path / "raw", ingest=config).ingest()

    assert line.records()[["id", "label", "split"]].to_numpy().tolist() == [["a", "dog", "val"], ["b", "cat", "train"]]
    assert line.rejected() == {"c": "empty"}


def test_rows_of_parquet_are_set_aside_one_by_one(tmp_path: Path) -> None:
    good = png(smooth(GENERATOR))
    rows = {"pixels": [good, good, good, b"broken", good], "part": ["train", "holdout", "val", "test", "test"]}
    parquet(tmp_path / "raw/p.parquet", {**rows, "key": ["a", "b", None, "d", "a"]})

    config = {"image_column": "pixels", "split_column": "part", "id_column": "key", "max_rejected": 1.0}
    line = Line(tmp_path, "image", tmp_path / "raw", ingest=config).ingest()

    assert list(line.records()["id"]) == ["a"]
    assert line.rejected() == {"a": "duplicate_id", "b": "unknown_split", "d": "not_an_image", "p.parquet#3": "no_id"}


def test_parquet_without_the_column_or_with_a_huge_row_group_fails(tmp_path: Path) -> None:
    parquet(tmp_path / "raw/p.parquet", {"image": [png(smooth(GENERATOR))]})

    with pytest.raises(DataError, match="no column picture; it has image"):
        Line(tmp_path, "image", tmp_path / "raw", ingest={"image_column": "picture"}).ingest()
    with pytest.raises(DataError, match=r"row group 0 holds .* bytes, at most 50"):
        Line(tmp_path, "image", tmp_path / "raw", ingest={"max_row_group": 50}).ingest()


def test_flat_dark_and_bright_pictures_are_dropped_where_asked(tmp_path: Path) -> None:
    raw, good = tmp_path / "raw", smooth(GENERATOR)
    save(raw / "good.png", good)
    save(raw / "flat.png", 100 + good // 64)
    save(raw / "dark.png", good // 12)
    save(raw / "bright.png", 215 + good // 8)
    limits = {"min_contrast": 2, "min_brightness": 40, "max_brightness": 200, "max_dropped": 0.9}

    kept = Line(tmp_path / "a", "image", raw).ingest().preprocess()
    line = Line(tmp_path / "b", "image", raw, preprocess=limits).ingest().preprocess()

    assert kept.rejected("clean") == {}
    assert line.rejected("clean") == {"bright.png": "too_bright", "dark.png": "too_dark", "flat.png": "flat"}
    assert line.report("preprocess")["dropped"] == {"flat": 1, "too_bright": 1, "too_dark": 1, "total": 3}


def test_a_pair_shows_what_differs_once_aligned() -> None:
    one = smooth(GENERATOR)
    record = {"height": 32, "width": 32, "content": one.tobytes()}
    mirrored = {**record, "content": np.ascontiguousarray(one[:, ::-1]).tobytes()}

    assert image.compare(record, record).count("<img") == 2
    page = image.compare(record, mirrored)
    assert page.count("<img") == 3 and "aligned difference, mirrored" in page
    shown = pages._difference(one, np.ascontiguousarray(one[:, ::-1]))
    levels = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.findall(r"base64,([^\"]+)", shown)[0]))))
    assert abs(levels.astype(int) - 128).max() <= 2


def test_large_jpegs_are_decoded_small_and_look_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw, config = tmp_path / "raw", {"height": 16, "width": 16, "min_side": 200}
    save(raw / "a.jpg", smooth(GENERATOR, 256), quality=95)
    decoded: list[tuple[int, int]] = []
    canonical = cleaning._canonical
    monkeypatch.setattr(cleaning, "_canonical", lambda one, config: decoded.append(one.size) or canonical(one, config))

    small = clean(Line(tmp_path / "small", "image", raw, preprocess=config).ingest().preprocess())
    monkeypatch.setattr(Image.Image, "draft", lambda *_: None)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.draft", lambda *_: None)
    whole = clean(Line(tmp_path / "whole", "image", raw, preprocess=config).ingest().preprocess())

    assert decoded == [(32, 32), (256, 256)]
    assert abs(small.astype(int) - whole).mean() < 2
