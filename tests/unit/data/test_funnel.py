"""The funnel of a data set, from reports that the stages themselves wrote."""

from pathlib import Path

import numpy as np
import pytest
from dataline import Line, save, smooth

from genfoundry.core.paths import DatasetPaths
from genfoundry.data.funnel import read_funnel, read_splits, reasons, write_report


def test_the_funnel_counts_what_each_stage_left(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    pictures = [smooth(np.random.default_rng(seed)) for seed in range(12)]
    for number, picture in enumerate([*pictures, pictures[0]]):
        save(raw / f"{number:02d}.png", picture)
    save(raw / "blank.png", np.zeros_like(pictures[0]))
    (raw / "empty.png").write_bytes(b"")
    settings = {
        "split": {"test": 0.3, "val": 0.2, "min_records": 1},
        "ingest": {"max_rejected": 0.5},
        "preprocess": {"max_dropped": 0.5},
    }
    line = Line(tmp_path, "image", raw, **settings, dedup={"max_removed": 0.5}).run()

    found = read_funnel(line.paths.reports)

    assert [(step.what, step.left) for step in found.steps] == [
        ("found in the source", 15),
        ("readable", 14),
        ("clean", 13),
        ("different", 12),
        ("in use", 12),
    ]
    assert found.steps[1].why == "rejected: 1 empty" and found.steps[2].why.startswith("dropped: 1 ")
    assert found.steps[3].why.startswith("duplicates: 1 exact ") and found.steps[4].why.endswith(": none")
    assert sum(found.splits.values()) == 12 and found.splits == read_splits(line.paths.reports)
    assert found.missing == ["data/reference.json (stage reference)"]


def test_a_report_without_the_counts_of_its_step_is_not_written(tmp_path: Path) -> None:
    paths = DatasetPaths(tmp_path, "data")

    with pytest.raises(KeyError, match="rejected"):
        write_report(paths, "ingest", {"records": 3})

    assert not paths.reports.exists()


def test_reasons_in_words() -> None:
    assert reasons({"total": 5, "b": 2, "a": 3}) == "3 a, 2 b"
    assert reasons({"total": 0}) == "none"
    assert reasons(4) == "4"
