"""External evaluation sets: what of theirs training may not hold."""

from pathlib import Path

import numpy as np
import pytest
from dataline import Line, save, smooth, words, write_jsonl

from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_table
from genfoundry.data.similarity.fingerprints import Shared
from genfoundry.data.split import leaks
from genfoundry.modalities.common import shingles as _shingles

BENCHMARK = [words(np.random.default_rng(number), 60) for number in range(4)]


def line_of(tmp_path: Path, training: dict[str, str], **split: object) -> Line:
    generator = np.random.default_rng(9)
    splits = ("train", "val", "test") * 3
    rows = [{"id": f"f{n}", "split": one, "text": words(generator, 60)} for n, one in enumerate(splits)]
    rows += [{"id": name, "split": "train", "text": text} for name, text in training.items()]
    write_jsonl(tmp_path / "presets/guards/bench.jsonl", [{"question": text} for text in BENCHMARK])
    split.setdefault("guard", [{"source": "bench.jsonl", "ingest": {"text_column": "question"}}])
    source = write_jsonl(tmp_path / "raw.jsonl", rows)
    ingest = {"split_column": "split", "id_column": "id"}
    return Line(tmp_path, "text", source, ingest=ingest, split=split).ingest().preprocess().deduplicate()


def similar(text: str) -> str:
    return " ".join(["changed", *text.split()[1:]])


TRAINING = {
    "equal": BENCHMARK[0],
    "alike": similar(BENCHMARK[1]),
    "holds": f"{words(np.random.default_rng(50), 300)} {BENCHMARK[2]}",
    "half": f"{words(np.random.default_rng(51), 300)} {' '.join(BENCHMARK[3].split()[:30])}",
}


def test_training_records_like_a_benchmark_go_with_reason_and_pair(tmp_path: Path) -> None:
    line = line_of(tmp_path, TRAINING).split()

    removed = read_table(line.paths.splits / "removed.parquet")
    assert removed.to_numpy().tolist() == [
        ["alike", "bench.jsonl:bench.jsonl#2", round(55 / 57, 6), "similar"],
        ["equal", "bench.jsonl:bench.jsonl#1", 1.0, "exact"],
        ["holds", "bench.jsonl:bench.jsonl#3", 1.0, "contained"],
    ]
    used = set(read_table(line.paths.splits / "ids.parquet")["id"])
    assert "half" in used and not used & {"alike", "equal", "holds"}
    guard = line.report("split")["guard"]
    assert guard["removed"] == {"total": 3, "exact": 1, "similar": 1, "contained": 1}
    assert guard["sets"] == {"bench.jsonl": {"records": 4, "unusable": 0, "removed": 3}}
    assert 0.4 < line.report("split")["largest_containment"] < 0.6
    assert 0.05 < line.report("split")["closest_similarity"] < 0.1
    page = (line.paths.reports / "split.html").read_text()
    assert "bench.jsonl#3" in page and "like an external evaluation record" in page


def test_without_a_guard_nothing_goes(tmp_path: Path) -> None:
    line = line_of(tmp_path, TRAINING, guard=[]).split()

    assert len(read_table(line.paths.splits / "removed.parquet")) == 0
    assert line.report("split")["guard"] == {
        "removed": {"total": 0, "exact": 0, "similar": 0, "contained": 0},
        "sets": {},
    }


def test_the_check_sees_what_removal_missed_and_some_may_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from genfoundry.data.split.guards import COLUMNS

    none = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    monkeypatch.setattr(leaks, "remove", lambda gathered, *_: (gathered.training, none))
    line = line_of(tmp_path, TRAINING, max_leaks=3)

    line.split()
    assert line.report("split")["leaks"] == 3
    line = line_of(tmp_path / "again", TRAINING, max_leaks=2)
    with pytest.raises(DataError, match=r"3 evaluation records .*split.max_leaks allows 2"):
        line.split()


def test_pictures_are_guarded_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    pictures = [smooth(generator) for _ in range(60)]
    for number, levels in enumerate(pictures):
        save(tmp_path / "raw" / ("test", "train", "val")[number % 3] / f"{number}.png", levels)
    save(tmp_path / "presets/guards/bench/w.png", pictures[4])
    save(tmp_path / "presets/guards/bench/x.png", np.clip(pictures[7].astype(int) + 3, 0, 255).astype(np.uint8))
    save(tmp_path / "presets/guards/bench/y.png", smooth(generator))

    line = Line(tmp_path, "image", tmp_path / "raw", split={"guard": [{"source": "bench"}]})
    line.ingest().preprocess().deduplicate().split()

    removed = read_table(line.paths.splits / "removed.parquet")
    assert removed[["removed_id", "guard_id", "method"]].to_numpy().tolist() == [
        ["train/4.png", "bench:w.png", "exact"],
        ["train/7.png", "bench:x.png", "similar"],
    ]


@pytest.mark.parametrize("source", ["absent.jsonl", "a/../../../raw.jsonl"])
def test_a_guard_lies_in_its_folder(tmp_path: Path, source: str) -> None:
    line = line_of(tmp_path, {}, guard=[{"source": source}])

    with pytest.raises(ConfigError, match=r"datasets.data.split.guard\[0\].source.*nothing there below presets/guards"):
        line.split()


def test_a_guard_of_which_nothing_is_readable_is_refused(tmp_path: Path) -> None:
    line = line_of(tmp_path, {}, guard=[{"source": "bench.jsonl"}])

    with pytest.raises(DataError, match=r"bench.jsonl: has no column 'text' among 'question'"):
        line.split()


def test_elements_that_occur_are_kept_and_no_other() -> None:
    generator = np.random.default_rng(0)
    inside, outside = (_shingles.sets([words(generator, 40) for _ in range(5)]) for _ in range(2))
    both = _shingles.sets(["nothing here", *[f"{words(generator, 20)}" for _ in range(3)]])
    mixed = type(inside)(
        np.concatenate([inside.hashes[:7], outside.hashes[:3], inside.hashes[7:9]]), np.array([0, 4, 4, 12])
    )

    kept = Shared(inside.hashes).keep(mixed)

    assert kept.ptr.tolist() == [0, 4, 4, 9]
    assert kept.hashes.tolist() == [*inside.hashes[:9]]
    assert len(Shared(inside.hashes).keep(both).hashes) == 0
    assert len(Shared(np.empty(0, np.uint64)).keep(mixed).hashes) == 0
