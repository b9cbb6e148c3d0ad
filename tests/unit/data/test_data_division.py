"""Division by time, by group and by place: who goes where, what is refused, and what moves when data grow."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dataline import Line, smooth, words, write_jsonl

from genfoundry.config import params as settings
from genfoundry.config.sections.split import Split
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import publish_folder, read_table, write_table
from genfoundry.data.preprocess.splitting import GAP, Plan, plan, splits_of
from genfoundry.modalities.image.pixels import png


def records(folder: Path, table: pd.DataFrame, shards: int = 1) -> Path:
    """A folder of records with these columns; ids and empty splits are added."""
    table = table.assign(**{"id": table.get("id", pd.Series([f"r{n:03d}" for n in range(len(table))]))})
    if "split" not in table:
        table["split"] = pd.Series([None] * len(table), dtype="str")
    with publish_folder(folder) as partial:
        for number, part in enumerate(np.array_split(np.arange(len(table)), shards)):
            write_table(partial / f"part-{number:05d}.parquet", table.iloc[part].reset_index(drop=True))
    return folder


def places(folder: Path, **split: object) -> list[int]:
    found = plan(folder, settings.parse(Split, split, "split"), "datasets.x").places
    return [int(value) for shard in found if shard is not None for value in shard]


def test_the_newest_records_test_and_the_ones_before_them_validate(tmp_path: Path) -> None:
    days = [f"2024-01-{day:02d}T10:00:00Z" for day in range(1, 21)]
    order = np.random.default_rng(0).permutation(20)
    table = pd.DataFrame({"time": [days[n] for n in order]})

    found = places(records(tmp_path / "r", table, shards=3), by="time", val=0.2, test=0.1)

    assert [found[list(order).index(n)] for n in range(20)] == [0] * 14 + [1] * 4 + [2] * 2


def test_numbers_and_offsets_are_times_too(tmp_path: Path) -> None:
    years = records(tmp_path / "a", pd.DataFrame({"time": ["2019", "999", "2021", "2020"]}))
    zones = pd.DataFrame({"time": ["2024-01-01T12:00:00+00:00", "2024-01-01T12:30:00+01:00"]})

    assert places(years, by="time", val=0.25, test=0.25) == [0, 0, 2, 1]
    assert places(records(tmp_path / "b", zones), by="time", val=0.0, test=0.5) == [2, 0]


def test_records_of_one_time_stay_together_on_the_older_side(tmp_path: Path) -> None:
    table = pd.DataFrame({"time": [1, 1, 2, 2, 3, 3, 4, 4, 4, 5]})

    assert places(records(tmp_path / "r", table), by="time", val=0.0, test=0.2) == [0] * 9 + [2]


def test_a_tie_that_leaves_a_split_without_its_share_is_an_error(tmp_path: Path) -> None:
    folder = records(tmp_path / "r", pd.DataFrame({"time": [1] * 8 + [2] * 12}))

    with pytest.raises(DataError, match=r"12 records have the same time where split test would begin.*0 of 20"):
        places(folder, by="time", val=0.0, test=0.3)


def test_named_borders_don_t_move_when_data_grow(tmp_path: Path) -> None:
    config = {"by": "time", "val_from": "2024-02-01", "test_from": "2024-03-01"}
    times = ["2024-01-31T23:59:59", "2024-02-01", "2024-02-29", "2024-03-01"]
    before = places(records(tmp_path / "a", pd.DataFrame({"time": times})), **config)
    after = places(records(tmp_path / "b", pd.DataFrame({"time": [*times, "2025-01-01", "2025-06-01"]})), **config)

    assert before == [0, 1, 1, 2] and after[:4] == before and after[4:] == [2, 2]


@pytest.mark.parametrize(
    ("time", "words"),
    [
        (["2024-01-01", None, "2024-01-03"], "1 of 3 records have no time, such as r001"),
        (["2024-01-01", "2024-01-02", "soon"], r"1 times are neither numbers nor ISO 8601, such as r002 \(soon\)"),
    ],
)
def test_missing_and_unreadable_times_are_named(tmp_path: Path, time: list[object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        places(records(tmp_path / "r", pd.DataFrame({"time": pd.Series(time, dtype="str")})), by="time")


@pytest.mark.parametrize("by", ["time", "group"])
def test_a_missing_column_is_refused_with_the_setting_that_names_it(tmp_path: Path, by: str) -> None:
    with pytest.raises(DataError, match=rf"split.by is {by}, but records have no column '{by}'.*ingest.{by}_column"):
        places(records(tmp_path / "r", pd.DataFrame({"other": [1]})), by=by)


def test_a_border_must_be_of_the_column_s_kind(tmp_path: Path) -> None:
    folder = records(tmp_path / "r", pd.DataFrame({"time": [1.5, 2.5]}))

    with pytest.raises(ConfigError, match=r"split.test_from' is '2024-01-01'; needs a number"):
        places(folder, by="time", val_from="2", test_from="2024-01-01")


def test_given_splits_stay_and_take_no_share(tmp_path: Path) -> None:
    table = pd.DataFrame({"time": range(10), "split": ["train"] * 8 + ["test"] * 2})
    folder = records(tmp_path / "r", table)
    config = settings.parse(Split, {"by": "time", "val": 0.25, "test": 0.1}, "split")
    divided = plan(folder, config, "x")
    clean = table.assign(id=[f"r{n:03d}" for n in range(10)])

    assert splits_of(clean, clean, config, divided, 0) == ["train"] * 6 + ["val"] * 2 + ["test"] * 2


def test_the_end_of_each_source_tests_in_the_order_of_the_source(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [*(f"a.txt#{n}" for n in range(10)), *(f"b.txt#{n}" for n in range(20)), "c.txt"]})

    found = places(records(tmp_path / "r", table, shards=4), by="contiguous", val=0.1, test=0.2)

    assert found == [0] * 7 + [1] + [2] * 2 + [0] * 14 + [1] * 2 + [2] * 4 + [0]


def test_the_source_of_a_record_is_its_file_whatever_the_names(tmp_path: Path) -> None:
    """Folders may be called `C# notes`; ids of a column say nothing of the file; some records alone have a source."""
    sharp = pd.DataFrame({"id": [f"C# {name}.txt#{n}" for name in "ab" for n in range(10)]})
    named = pd.DataFrame({"id": [f"key#{n}" for n in range(20)], "file": ["a.jsonl"] * 10 + ["b#.jsonl"] * 10})
    given = named.assign(source=pd.Series(["one"] * 5 + ["two"] * 5 + [None] * 10, dtype="str"))

    found = [places(records(tmp_path / str(n), table), by="contiguous", val=0.0, test=0.2) for n, table in
             enumerate((sharp, named, given))]  # fmt: skip

    assert found[0] == found[1] == ([0] * 8 + [2] * 2) * 2
    assert found[2] == ([0] * 4 + [2]) * 2 + [0] * 8 + [2] * 2


@pytest.mark.parametrize("by_column", [False, True])
def test_records_of_a_file_are_divided_by_their_places_with_ids_of_a_column_too(
    tmp_path: Path, by_column: bool
) -> None:
    generator = np.random.default_rng(0)
    for name in ("C# notes/a", "C# notes/b"):
        rows = [{"text": words(generator, 30), "key": f"{name[-1]}#{n}#"} for n in range(10)]
        write_jsonl(tmp_path / f"raw/{name}.jsonl", rows)
    ingest = {"id_column": "key"} if by_column else {}
    split = {"by": "contiguous", "val": 0.1, "test": 0.2}
    line = Line(tmp_path, "text", tmp_path / "raw", ingest=ingest, split=split, encode={"vocab_size": 300}).run()

    assert line.clean()["split"].tolist() == (["train"] * 7 + ["val"] + ["test"] * 2) * 2
    index = read_table(line.paths.index / "test.parquet")
    assert set(index["source"]) == {"C# notes"}


def test_pictures_of_a_table_know_their_file(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name in "ab":
        contents = [png(smooth(generator, 8)) for _ in range(10)]
        table = pa.table({"image": contents, "key": [f"{name}{n}" for n in range(10)]})
        (tmp_path / "raw").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / f"raw/{name}.parquet")
    split = {"by": "contiguous", "val": 0.1, "test": 0.2}
    line = Line(tmp_path, "image", tmp_path / "raw", ingest={"id_column": "key"}, split=split).ingest().preprocess()

    assert line.clean()["split"].tolist() == (["train"] * 7 + ["val"] + ["test"] * 2) * 2
    with pytest.raises(ConfigError, match="file is a column of every picture"):
        Line(tmp_path, "image", tmp_path / "raw", ingest={"id_column": "key", "fact_columns": ["file"]}).ingest()


def test_a_gap_is_left_before_each_border(tmp_path: Path) -> None:
    table = pd.DataFrame({"id": [f"a.txt#{n}" for n in range(10)]})

    found = places(records(tmp_path / "r", table), by="contiguous", val=0.2, test=0.2, gap=1)

    assert found == [0] * 5 + [GAP, 1, GAP, 2, 2]


def test_a_record_in_the_gap_is_dropped_and_listed(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    generator = np.random.default_rng(0)
    (tmp_path / "raw/book.txt").write_text("\n\n".join(words(generator, 30) for _ in range(40)))
    line = Line(
        tmp_path,
        "text",
        tmp_path / "raw",
        ingest={"chunk": 400},
        split={"by": "contiguous", "val": 0.2, "test": 0.2, "gap": 2},
    )
    line.ingest().preprocess()

    gone = [name for name, reason in line.rejected("clean").items() if reason == "gap"]
    splits = line.clean()["split"].tolist()
    assert len(gone) == 4 and len(splits) == len(line.records()) - 4
    assert splits == sorted(splits, key=["train", "val", "test"].index) and set(splits) == {"train", "val", "test"}


def test_a_group_is_in_one_split_and_stays_there(tmp_path: Path) -> None:
    config = settings.parse(Split, {"by": "group", "val": 0.2, "test": 0.2}, "split")
    table = pd.DataFrame({"id": [f"r{n}" for n in range(600)], "group": [f"g{n % 200}" for n in range(600)]})
    clean = table.assign(split=pd.Series([None] * 600, dtype="str"), sha256=[f"{n:064x}" for n in range(600)])

    splits = pd.Series(splits_of(table, clean, config, Plan(frozenset(), [None]), 0))

    assert (splits.groupby(table["group"]).nunique() == 1).all()
    assert 20 <= splits[:200].value_counts()["test"] <= 60
    assert splits_of(table[:90], clean[:90], config, Plan(frozenset(), [None]), 0) == splits[:90].tolist()


def test_a_group_that_given_splits_tear_apart_breaks_the_contract(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    rows = [{"text": words(generator, 30), "split": s} for s in ("train", "val", "test") * 3]
    line = Line(
        tmp_path,
        "text",
        write_jsonl(tmp_path / "raw.jsonl", rows),
        ingest={"split_column": "split"},
        split={"by": "group"},
    ).ingest()
    table = line.records().assign(group=["one", "two", "three", "one", "two", "three", "one", "two", "one"])
    with publish_folder(line.paths.records) as folder:
        write_table(folder / "part-00000.parquet", table)
    line.preprocess().deduplicate()

    with pytest.raises(DataError, match=r"groups are in one split .*: observed 1 groups .*: one"):
        line.split()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gap": 1}, "gap belongs to by: contiguous"),
        ({"test_from": "2024"}, "belong to by: time"),
        ({"by": "time", "test_from": "2024"}, "come together"),
        ({"val": 0.5, "test": 0.6}, "leave nothing to train on"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        settings.parse(Split, values, "datasets.x.split")
