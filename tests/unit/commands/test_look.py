"""`genfoundry check` on raw data: what it names before a stage runs, and how long it looks."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dataline import save, smooth, write_jsonl
from miniature import document

from genfoundry.commands import look as looks
from genfoundry.config import params as settings

PICTURE = smooth(np.random.default_rng(0), 8)

BLOCK = """
format: 1
project: tiny
execution: {{}}
bases: {{scratch: {{}}}}
datasets:
  mine: {{modality: {modality}, source: data/mine, ingest: {ingest}, validation: {{}}, preprocess: {{}}, dedup: {{}},
    split: {{}}, encode: {{}}, reference: {{}}}}
models: {{}}
"""


def look(root: Path, modality: str, **ingest: object) -> tuple[list[str], list[str]]:
    (root / "params.yaml").write_text(BLOCK.format(modality=modality, ingest=json.dumps(ingest)))
    return looks.look(root, settings.load(root))


def text_of(number: int) -> str:
    return document(np.random.default_rng(number))


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        save(root / "data/mine" / name, PICTURE)
    return root / "data/mine"


def test_sound_data_leave_no_line(tmp_path: Path) -> None:
    folder = pictures(tmp_path, *(f"Train/cat/{n}.png" for n in range(30)), "Test/dog/1.jpg")
    (folder / "Train/.DS_Store").write_bytes(b"\0")
    assert look(tmp_path, "image") == ([], [])

    for file in sorted(folder.rglob("*.*")):
        file.unlink()
    write_jsonl(folder / "Train/a.jsonl", [{"text": text_of(1), "key": "a"}])
    (folder / "Test/b.txt").write_text(text_of(2))
    assert look(tmp_path, "text") == ([], [])


def test_links_and_folders_that_look_like_splits_are_faults(tmp_path: Path) -> None:
    folder = pictures(tmp_path, "train/1.png", "test/2.png")
    (folder / "cat").symlink_to(folder / "train")
    ((linked,), _) = look(tmp_path, "image")
    (folder / "cat").unlink()
    pictures(tmp_path, "holdout/3.png")
    ((alike,), _) = look(tmp_path, "image")

    assert linked.startswith("datasets.mine: data/mine: ") and "cat (a link to a folder" in linked
    assert "'train' and 'holdout' stand side by side" in alike
    assert look(tmp_path, "image", split_names={"holdout": "none"}) == ([], [])

    folder.rename(tmp_path / "far")
    folder.symlink_to(tmp_path / "far")
    (_, (note,)) = look(tmp_path, "image", split_names={"holdout": "none"})
    assert "data/mine: a link to a folder, whose files DVC does not version" in note


def test_keys_that_json_lines_have_not_are_named(tmp_path: Path) -> None:
    rows = [{"body": text_of(n), "id": n, "kind": "a"} for n in range(9)]
    write_jsonl(tmp_path / "data/mine/a.jsonl", [*rows, {"body": text_of(9), "lang": "en"}])

    ((fault,), notes) = look(tmp_path, "text")
    assert "a.jsonl: none of its first 10 lines has 'text'; their keys are 'body', 'id', 'kind', 'lang'" in fault
    assert notes == []
    assert look(tmp_path, "text", text_column="body", id_column="id", label_column="lang") == ([], [])
    ((fault,), notes) = look(tmp_path, "text", text_column="body", label_column="kinds")
    assert "has 'kinds'" in fault and notes == []

    # Of a long file only the beginning is looked at.
    write_jsonl(tmp_path / "data/mine/a.jsonl", [*rows * 12, {"body": text_of(9), "kinds": "b"}])
    (faults, (note,)) = look(tmp_path, "text", text_column="body", label_column="kinds")
    assert faults == [] and "has 'kinds'" in note


def test_keys_of_every_file_of_json_lines_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(30):
        key = "splt" if number == 17 else "split"
        write_jsonl(tmp_path / f"data/mine/{number:02d}.jsonl", [{"text": text_of(number), key: "test"}])

    ((fault,), notes) = look(tmp_path, "text", split_column="split")
    assert "17.jsonl: none of its first 1 lines has 'split'" in fault and notes == []

    (faults, _) = look(tmp_path, "text", split_column="splt")
    assert len(faults) == looks.TRIES + 1 and "26 more files in .jsonl lack keys" in faults[-1]

    moments = iter((0.0, 0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr(looks.time, "monotonic", lambda: next(moments, 9.0))
    (faults, notes) = look(tmp_path, "text", split_column="split")
    assert faults == [] and any("of 30 files in .jsonl were not tried in 5 s" in note for note in notes)


def test_files_that_nothing_reads_are_named_and_a_fault_once_they_are_too_many(tmp_path: Path) -> None:
    folder = pictures(tmp_path, *(f"cat/{n:02d}.png" for n in range(39)))
    (folder / "cat/00.png").write_bytes(b"broken")
    (folder / "notes.txt").write_text("no picture")
    (faults, (note,)) = look(tmp_path, "image")
    assert faults == [] and "1 files end in .txt and give no record, such as notes.txt: not_an_image" in note

    for number in range(2):
        (folder / f"{number}.xml").write_text("<x/>")
    ((fault,), notes) = look(tmp_path, "image")
    assert "3 of 42 files give no record, ingest.max_rejected allows 5.0%" in fault and ".xml" in fault and notes == []
    assert look(tmp_path, "image", max_rejected=0.2)[0] == []

    ((fault,), _) = look(tmp_path, "code")
    assert "no file gives a record: 39 files end in .png" in fault and "no_code" in fault
    for number in range(5):
        (folder / f"{number}.py").write_text("x = 1\n")
    assert look(tmp_path, "code") == ([], [])


def test_what_a_reader_refuses_is_a_fault(tmp_path: Path) -> None:
    folder = tmp_path / "data/mine"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("body,kind\nx,y\n")
    (folder / "b.zip").write_bytes(b"PK cut short")

    faults, _ = look(tmp_path, "text")

    assert any("a.csv: has no column 'text'" in fault for fault in faults)
    assert any("b.zip: can't be read as zip" in fault for fault in faults)


def test_an_archive_is_looked_into_unless_it_would_take_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "1.png").rename(tmp_path / "raw")
    (tmp_path / "data/mine").mkdir()
    with zipfile.ZipFile(tmp_path / "data/mine/a.zip", "w") as archive:
        for name in ("train/1.png", "eval/2.png"):
            archive.write(tmp_path / "raw/1.png", name)
    ((fault,), _) = look(tmp_path, "image")
    assert "a.zip: 'train' and 'eval' stand side by side" in fault

    monkeypatch.setattr(looks, "LONGEST", 10)
    (tmp_path / "data/mine/a.zip").rename(tmp_path / "data/mine/a.tar")
    faults, (note,) = look(tmp_path, "image")
    assert faults == [] and "a.tar is too long to be looked into" in note


def test_the_look_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pictures(tmp_path, "a/1.png")
    monkeypatch.setattr(looks, "SECONDS", 0.0)
    (folder / "b").symlink_to(folder / "a")

    assert look(tmp_path, "image") == (
        [],
        ["datasets.mine: data/mine: has more files than can be listed in 0 s; ingest looks at the others"],
    )
