import os
from pathlib import Path

import pandas as pd
import pytest
from dataline import write_shards

from genfoundry.core import io
from genfoundry.core.errors import DataError, DiskError


def test_a_folder_is_published_whole_with_its_manifest(tmp_path: Path) -> None:
    with io.publish_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
        assert not (tmp_path / "out").exists()

    manifest = io.read_json(tmp_path / "out/manifest.json")
    assert manifest["files"] == {"a.txt": {"bytes": 1, "sha256": io.file_digest(tmp_path / "out/a.txt")}}
    assert io.verify_folder(tmp_path / "out") == io.folder_digest(tmp_path / "out")


def test_a_failing_block_leaves_the_old_result_and_no_partial(tmp_path: Path) -> None:
    with io.publish_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), io.publish_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("new")
        raise RuntimeError

    assert (tmp_path / "out/a.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_leftovers_of_a_dead_process_are_removed(tmp_path: Path) -> None:
    left = tmp_path / ".out.999999999.partial"
    left.mkdir()

    with io.publish_folder(tmp_path / "out"):
        pass

    assert not left.exists()


@pytest.mark.parametrize("harm", ["change", "remove", "add"])
def test_a_harmed_folder_is_named(tmp_path: Path, harm: str) -> None:
    with io.publish_folder(tmp_path / "out") as folder:
        (folder / "a.txt").write_text("a")
    file = tmp_path / "out" / ("b.txt" if harm == "add" else "a.txt")
    if harm == "remove":
        file.unlink()
    else:
        file.write_text("b")

    with pytest.raises(DataError, match=rf"{file.name} (is missing|was added|was changed)"):
        io.verify_folder(tmp_path / "out")


def test_an_unfinished_folder_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="never finished"):
        io.folder_digest(tmp_path)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="free some space"), io.publish_file(tmp_path / "a"):
        raise OSError(28, "No space left on device")


def test_tables_repeat_byte_for_byte_and_null_columns_keep_their_type(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": ["a", "b"], "label": [None, None], "content": [b"x", b"y"]})
    for name in ("one", "two"):
        io.write_table(tmp_path / name, table)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    import pyarrow.parquet as pq

    assert str(pq.read_schema(tmp_path / "one").field("label").type) == "string"


def test_records_go_into_shards_and_come_back_in_order(tmp_path: Path) -> None:
    tables = [pd.DataFrame({"id": [str(i)], "sha256": ["f" * 64], "content": [b"x" * 10]}) for i in range(7)]
    with io.publish_folder(tmp_path / "out") as folder:
        assert write_shards(folder, tables, 25 / 2**20) == 7

    assert len(list((tmp_path / "out").glob("part-*"))) == 2  # no border by content: each holds twice the asked size
    assert io.read_all_records(tmp_path / "out")["id"].tolist() == list("0123456")


def test_a_column_that_is_not_there_is_said_and_shards_may_differ_in_others(tmp_path: Path) -> None:
    with io.publish_folder(tmp_path / "out") as folder:
        io.write_table(folder / "part-00000.parquet", pd.DataFrame({"id": ["a"], "size": [1]}))
        io.write_table(folder / "part-00001.parquet", pd.DataFrame({"id": ["b"], "size": [0.5], "note": ["x"]}))

    with pytest.raises(DataError, match=r"part-00000\.parquet: no column nope"):
        io.read_table(tmp_path / "out/part-00000.parquet", ["id", "nope"])
    with pytest.raises(DataError, match=r"part-00000\.parquet: no column note"):
        io.read_all_records(tmp_path / "out", ["id", "note"])
    table = io.read_all_records(tmp_path / "out")
    assert table["size"].tolist() == [1.0, 0.5] and table["note"].isna().tolist() == [True, False]
    assert list(io.pick_records(tmp_path / "out", {"b"})) == ["b"] and io.pick_records(tmp_path / "out", set()) == {}


def test_pycache_does_not_move_a_digest(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a")
    before = io.tree_digest(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__/a.pyc").write_bytes(os.urandom(8))

    assert io.tree_digest(tmp_path) == before


def test_a_name_that_is_no_utf8_can_be_hashed_reported_and_said(tmp_path: Path) -> None:
    """Python holds its bytes as surrogates, which ended every stage that read the folder."""
    name = os.fsdecode(b"caf\xe9.txt")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_text("a")
    before = io.tree_digest(tmp_path / "source")
    (tmp_path / "source" / name).write_text("b")

    assert io.tree_digest(tmp_path / "source") != before
    io.write_json(tmp_path / "report.json", {name: 1})
    assert io.read_json(tmp_path / "report.json") == {name: 1}
    io.write_text(tmp_path / "page.html", name)
    assert (tmp_path / "page.html").read_text() == str(DataError(name)) == "caf\\udce9.txt"
