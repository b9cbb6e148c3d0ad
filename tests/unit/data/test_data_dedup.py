"""Deduplication end to end: who stays, who goes, for whom, and what the reports say of it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, save, smooth, words, write_jsonl

from genfoundry.core.errors import DataError
from genfoundry.core.io import read_all_records, read_json, read_table, tree_digest
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.deduplicate import report as dedup_report
from genfoundry.data.deduplicate.calibration import calibrate
from genfoundry.modalities.common import shingles as _shingles
from genfoundry.modalities.common import worddiff as _worddiff
from genfoundry.modalities.image import edits as _edits

COLUMNS = {"split_column": "split", "id_column": "id"}


def documents(tmp_path: Path, rows: list[tuple[str, str, str]], /, **dedup: object) -> Line:
    """Clean records out of (id, split, text)."""
    source = write_jsonl(tmp_path / "raw.jsonl", [{"id": i, "split": s, "text": t} for i, s, t in rows])
    none_drawn = {"val": 0.0, "test": 1e-12}
    return Line(tmp_path, "text", source, ingest=COLUMNS, split=none_drawn, dedup=dedup).ingest().preprocess()


def test_evaluation_wins_then_length_and_every_removed_record_names_who_stays(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    a, b, c = (words(generator, 100) for _ in range(3))
    rows = [
        ("a-train", "train", a),
        ("a-test", "test", a),
        ("b-train-longer", "train", b + " with a tail"),
        ("b-val", "val", b),
        ("c-short", "train", c),
        ("c-long", "train", c + " and more words"),
        ("d", "train", words(generator, 100)),
        ("tiny-1", "train", "four words are few"),
        ("tiny-2", "train", "four words are few"),
        ("tiny-3", "train", "four words are feW"),
    ]

    line = documents(tmp_path, rows).deduplicate()

    gone = line.duplicates().set_index("removed_id")
    assert {name: (row.kept_id, row.method) for name, row in gone.iterrows()} == {
        "a-train": ("a-test", "exact"),
        "b-train-longer": ("b-val", "near"),
        "c-short": ("c-long", "near"),
        "tiny-2": ("tiny-1", "exact"),
    }
    assert gone.loc["c-short", "score"] == round(96 / 99, 6)
    assert list(gone.loc["a-train", ["removed_split", "kept_split"]]) == ["train", "test"]
    kept = read_table(line.paths.unique / "ids.parquet")
    assert set(kept["id"]) == {"a-test", "b-val", "c-long", "d", "tiny-1", "tiny-3"}
    assert kept["sha256"].is_monotonic_increasing
    report = line.report("deduplicate")
    assert report["records"] == {"in": 10, "kept": 6, "removed": 4, "kept_by_split": {"train": 4, "val": 1, "test": 1}}
    assert report["removed"]["near"] == {"train": 2, "val": 0, "test": 0}
    assert report["across_splits"] == 2
    assert report["synthetic"]["recall"] == 1.0 and report["synthetic"]["copies"] > 0


def test_a_chain_keeps_what_no_kept_record_is_like(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    parts = [words(generator, 60) for _ in range(4)]
    # Neighbours share most, the ends share nothing: components would drop all but one.
    rows = [(f"r{i}", "train", " ".join(parts[i : i + 2]) + " x" * (9 - i)) for i in range(3)]

    line = documents(tmp_path, rows, threshold=0.3).deduplicate()

    assert line.duplicates()[["removed_id", "kept_id"]].to_numpy().tolist() == [["r1", "r0"]]
    pairs = read_table(line.paths.copies / "pairs.parquet")
    assert pairs[["id_a", "id_b"]].to_numpy().tolist() == [["r0", "r1"], ["r2", "r1"]]


def test_copies_of_a_near_copy_name_the_record_that_stays(tmp_path: Path) -> None:
    text = words(np.random.default_rng(2), 100)
    rows = [("long", "train", text + " tail end"), ("copy-1", "train", text), ("copy-2", "train", text)]

    line = documents(tmp_path, rows).deduplicate()

    gone = line.duplicates()
    assert gone[["removed_id", "kept_id", "method"]].to_numpy().tolist() == [
        ["copy-1", "long", "near"],
        ["copy-2", "long", "near"],
    ]
    pairs = read_table(line.paths.copies / "pairs.parquet")
    assert pairs[["id_a", "id_b", "method"]].to_numpy().tolist() == [
        ["copy-1", "copy-2", "exact"],
        ["long", "copy-1", "near"],
        ["long", "copy-2", "near"],
    ]


def test_distinct_texts_that_share_boilerplate_all_stay(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    boilerplate = words(generator, 130)
    rows = [(f"r{i}", "train", f"{boilerplate} {words(generator, 80)}") for i in range(400)]

    line = documents(tmp_path, rows).deduplicate()

    assert line.report("deduplicate")["records"]["removed"] == 0


def test_a_huge_group_of_copies_is_settled_in_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genfoundry.data.similarity.setjoin.PAIRS", 2000)
    generator = np.random.default_rng(4)
    base = words(generator, 300).split()
    rows = []
    for number in range(1500):
        base[int(generator.integers(300))] = f"edit{number}" if number % 30 == 0 else base[0]
        rows.append((f"r{number}", "train", " ".join(base)))
    line = documents(tmp_path, rows, max_removed=1.0).deduplicate()

    texts = dict(zip(line.clean()["id"], line.clean()["content"], strict=True))
    kept = read_table(line.paths.unique / "ids.parquet")["id"]
    sets = {name: shingles(texts[name]) for name in texts}
    for row in line.duplicates().itertuples():
        a, b = sets[row.removed_id], sets[row.kept_id]
        assert len(a & b) / len(a | b) == pytest.approx(row.score, abs=1e-6) and row.score >= 0.8
    for i, first in enumerate(kept):
        assert all(len(sets[first] & sets[x]) < 0.8 * len(sets[first] | sets[x]) for x in kept[i + 1 :])


def shingles(content: str) -> set[tuple[str, ...]]:
    found = content.lower().split()
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


def test_neither_order_nor_names_nor_shards_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(5)
    texts = [words(generator, 60) for _ in range(30)]
    texts += [f"{t} extra{n}" for n, t in enumerate(texts[:20])] + texts[:5]
    outcomes = []
    for trial, shard_bytes in enumerate((10**9, 2000)):
        monkeypatch.setattr("genfoundry.modalities.common.tables.TABLE_BYTES", shard_bytes)
        order = np.random.default_rng(trial).permutation(len(texts))
        source = write_jsonl(tmp_path / f"{trial}/name{trial}.jsonl", [{"text": texts[i]} for i in order])
        sections = {"ingest": {"shard": shard_bytes / 2**20}, "split": {"test": 0.3}, "encode": {"vocab_size": 300}}
        line = Line(tmp_path / f"{trial}", "text", source, **sections).run()
        assert (len(list(line.paths.clean.glob("part-*"))) > 3) == (shard_bytes == 2000)
        outcomes.append(
            (tree_digest(line.paths.arrays), sorted(read_table(line.paths.unique / "ids.parquet")["sha256"]))
        )

    assert outcomes[0] == outcomes[1]


def test_a_copy_added_later_leaves_the_arrays_as_they_are(tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    for number in range(40):
        path = tmp_path / f"raw/{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(words(generator, 30))
    config = {"split": {"test": 0.3}, "encode": {"vocab_size": 300}}
    before = Line(tmp_path, "text", tmp_path / "raw", **config).run()
    arrays, unique = tree_digest(before.paths.arrays), tree_digest(before.paths.unique)

    (tmp_path / "raw/0-copy.txt").write_text((tmp_path / "raw/7.txt").read_text())
    after = Line(tmp_path, "text", tmp_path / "raw", **config).run()

    assert tree_digest(after.paths.arrays) == arrays
    assert tree_digest(after.paths.unique) != unique  # the name of the record that stays is another one now
    assert list(after.duplicates()["method"]) == ["exact"]


def test_pictures_are_calibrated_and_benign_copies_go(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    pictures = [smooth(generator) for _ in range(120)]
    edited = _edits.brighter(pictures[3], generator), _edits.noisy(pictures[4], generator)
    for number, levels in enumerate([*pictures, *edited, pictures[5]]):
        save(tmp_path / f"raw/{number:03d}.png", levels)

    line = Line(tmp_path, "image", tmp_path / "raw").ingest().preprocess().deduplicate()

    report = line.report("deduplicate")
    benign = [report["synthetic"]["recall_by_kind"][kind] for kind in list(_edits.EDITS)[: _edits.BENIGN]]
    assert 0.9 <= report["threshold"] < 1 and min(benign) >= 0.95
    pairs = {frozenset(pair) for pair in line.duplicates()[["removed_id", "kept_id"]].to_numpy().tolist()}
    assert pairs == {frozenset(p) for p in (("003.png", "120.png"), ("004.png", "121.png"), ("005.png", "122.png"))}
    assert (line.paths.reports / "deduplicate.html").read_text().count("<img") == 6


def test_too_many_copies_fail_and_the_page_is_there(tmp_path: Path) -> None:
    line = documents(tmp_path, [(f"r{i}", "train", "the same five words always") for i in range(9)], max_removed=0.5)

    with pytest.raises(DataError, match=r"8 of 9 records \(88.9%\) are copies, dedup.max_removed allows 50.0%"):
        line.deduplicate()
    assert "the same five words" in (line.paths.reports / "deduplicate.html").read_text()


def test_the_page_shows_what_differs(tmp_path: Path) -> None:
    base = words(np.random.default_rng(9), 80) + " <i>both</i>"
    edited = base.replace(base.split()[40], "EDITED<b>")
    rows = [("one", "train", base + " <script> tail"), ("two", "train", edited)]

    line = documents(tmp_path, rows, threshold=0.7).deduplicate()

    page = (line.paths.reports / "deduplicate.html").read_text()
    assert "EDITED" in page and "<ins>" in page and "<del>" in page and "&lt;script&gt;" in page
    assert not any(tag in page for tag in ("<script>", "<b>E", "EDITED<b>", "<i>"))
    assert "http" not in page


def test_the_closest_calls_and_the_largest_groups_come_first() -> None:
    columns = ["removed_id", "kept_id", "score", "method", "removed_split", "kept_split"]
    rows = [(f"r{i}", "big" if i < 3 else "small", 0.99 - i / 100, "near", "train", "train") for i in range(5)]
    rows.append(("r9", "lone", 1.0, "exact", "train", "train"))

    closest, members = dedup_report.choose(pd.DataFrame(rows, columns=columns))

    assert list(closest["removed_id"]) == ["r4", "r3", "r2", "r1", "r0"]
    assert list(members["removed_id"]) == ["r0", "r1", "r2", "r3", "r4"]


def test_a_difference_of_words_is_safe_html() -> None:
    tail = " same" * 200
    assert _worddiff.html("a <x> b", "a <x> c") == "a &lt;x&gt; <del>b</del><ins>c</ins>"
    found = _worddiff.html(f"old <x>{tail} <y> old", f"new <x>{tail} <y> new")
    assert found.startswith("<del>old</del><ins>new</ins> &lt;x&gt; same") and "<span class=soft> … </span>" in found
    assert found.endswith("same &lt;y&gt; <del>old</del><ins>new</ins>") and len(found) < 500


def test_a_source_that_loses_most_of_its_records_raises_an_alarm(tmp_path: Path) -> None:
    generator = np.random.default_rng(13)
    text = words(generator, 60)
    rows = [(f"mirror/{i:02d}", "train", f"{text} {i}") for i in range(12)]
    rows += [(f"diverse/{i:02d}", "train", words(generator, 60)) for i in range(11)]
    rows += [(f"small/{i}", "train", f"{rows[-1][2]} {i}") for i in range(9)]

    line = documents(tmp_path, rows).deduplicate()

    report = line.report("deduplicate")
    assert report["largest_share_removed"] == {"group": "mirror", "share": round(11 / 12, 4), "alarms": 1}
    assert sum(report["similarity"].values()) == 20 and next(iter(report["similarity"])) == "0.8 to 0.82"
    # 56 of 58 5-grams are shared by two that end in a number, 56 of 57 by one of them and the text alone.
    assert (report["similarity"]["0.96 to 0.98"], report["similarity"]["0.98 to 1"]) == (19, 1)
    assert report["content"]["in"] == sum(len(row[2]) for row in rows)
    page = (line.paths.reports / "deduplicate.html").read_text()
    assert "1 of the groups below lost more than 50%" in page and "91.7%" in page and ">small<" not in page


def test_shares_go_by_source_then_label_then_folder() -> None:
    records = pd.DataFrame(
        {
            "id": [f"f{i % 2}/{i}" for i in range(6)],
            "label": ["a", "a", None, None, None, None],
            "kept": [True] * 3 + [False] * 3,
        }
    )

    assert dedup_report.shares(records, 1)["group"].tolist() == ["f1", "f0", "a"]
    records["source"] = ["s", None, "s", "s", None, None]
    assert dedup_report.shares(records, 1).to_numpy().tolist() == [
        ["f0", 1, 0, 1.0], ["f1", 1, 0, 1.0], ["s", 3, 2, 1 - 2 / 3], ["a", 1, 1, 0.0]
    ]  # fmt: skip


def test_the_rule_is_handed_to_the_check(tmp_path: Path) -> None:
    line = documents(
        tmp_path, [(f"{i}", "train", f"some text number {i} here") for i in range(3)], threshold=0.7
    ).deduplicate()

    assert read_json(line.paths.unique / "rule.json") == {"floor": -1.0, "mirror": False, "threshold": 0.7}


def test_order_of_files_and_shards_and_memory_change_nothing(tmp_path: Path) -> None:
    generator = np.random.default_rng(10)
    texts = [words(generator, int(generator.integers(20, 200))) for _ in range(60)]
    texts += [text.replace(text.split()[9], "edited") for text in texts[::2]] + texts[::5]
    rows = [{"id": f"r{i:03d}", "text": text} for i, text in enumerate(texts)]
    digests = set()
    for number, (order, files, memory) in enumerate([(1, 1, 4096), (-1, 1, 4096), (1, 7, 4096), (-1, 5, 0.004)]):
        source = tmp_path / f"source{number}"
        for part in range(files):
            write_jsonl(source / f"{part}.jsonl", rows[::order][part::files])
        dedup = {"memory": memory, "threshold": 0.7}
        line = Line(tmp_path / str(number), "text", source, ingest={"id_column": "id"}, dedup=dedup)
        line.ingest().preprocess().deduplicate()
        assert len(line.duplicates()) >= 30
        digests.add((tree_digest(line.paths.unique), tree_digest(line.paths.copies)))

    assert len(digests) == 1


def test_minhash_can_be_asked_for(tmp_path: Path) -> None:
    text = words(np.random.default_rng(11), 200)
    rows = [("a", "train", text + " tail"), ("b", "train", text), ("c", "train", words(np.random.default_rng(12), 90))]

    line = documents(tmp_path, rows, engine="minhash", bands=16, rows=4).deduplicate()

    assert line.duplicates()[["removed_id", "kept_id"]].to_numpy().tolist() == [["b", "a"]]
    assert line.report("deduplicate")["synthetic"]["recall"] > 0.99


def test_words_of_scripts_without_spaces_are_single_characters() -> None:
    rows = [
        "今天天气很好我们去公园",
        "今天天气很好他们去学校",
        "สวัสดีครับทุกคน",
        "नमस्ते दुनिया यह एक वाक्य है",
        "한국어는 단어 사이를 띄어 씁니다 그래요",
    ]

    sets = _shingles.sets(rows)

    assert list(np.diff(sets.ptr)) == [11 - 4, 11 - 4, len(rows[2]) - 4, 6 - 4, 6 - 4]


def test_case_and_composition_do_not_matter_but_words_do() -> None:
    sets = _shingles.sets(["Café au lait, one two", "CAFE\u0301 AU LAIT -- one\ttwo", "cafe au lait one two"])

    rows = [sets.hashes[a:b].tolist() for a, b in zip(sets.ptr, sets.ptr[1:], strict=False)]
    assert rows[0] == rows[1] != rows[2]


def test_synthetic_copies_are_of_the_records_with_the_smallest_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(12)
    rows = [{"text": words(generator, 30)} for _ in range(40)]
    samples: list[list[str]] = []

    def watched(modality: object, config: object, sample: pd.DataFrame, records: int) -> object:
        samples.append(sample["sha256"].tolist())
        return calibrate(modality, config, sample, records)  # type: ignore[arg-type]

    monkeypatch.setattr(dedup, "calibrate", watched)
    monkeypatch.setattr(dedup, "SYNTHETIC", 10)
    for count in (36, 40):
        source = write_jsonl(tmp_path / f"{count}.jsonl", rows[:count])
        line = Line(tmp_path / str(count), "text", source, ingest={"shard": 0.001}).ingest().preprocess()
        line.deduplicate()
        assert samples[-1] == sorted(read_all_records(line.paths.clean)["sha256"])[:10]
        assert len(list(line.paths.clean.glob("part-*"))) > 3
    assert len({*samples[0]} & {*samples[1]}) >= 10 - 4
