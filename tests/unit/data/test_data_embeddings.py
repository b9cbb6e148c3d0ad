"""Copies by embeddings that a user gives: exact, joined with the other search, and read with care."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, words, write_jsonl

from genfoundry.config.sections.dedup import Embeddings
from genfoundry.config.specs import Sets
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_table
from genfoundry.data.deduplicate import embeddings
from genfoundry.data.similarity.keepers import Rule, keep

IDS = pd.Series(["a", "b", "c"], dtype="str")


def units(count: int, width: int, seed: int) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(count, width))
    return (values / np.linalg.norm(values, axis=1)[:, None]).astype(np.float32)


def sets_of(rows: list[list[int]]) -> Sets:
    return Sets(
        np.concatenate([np.sort(np.array(row, np.uint64)) for row in rows]),
        np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64),
    )


def near_of(rows: list[list[int]], threshold: float):  # type: ignore[no-untyped-def]
    sets = sets_of(rows)
    return lambda chosen: keep(sets, Rule(threshold), chosen)


def test_no_two_that_stay_are_alike_by_either_and_each_that_goes_has_a_keeper_that_stays() -> None:
    revived = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        rows = [sorted(generator.choice(12, generator.integers(4, 9), replace=False).tolist()) for _ in range(60)]
        vectors = units(60, 3, seed)

        found = embeddings.settle(near_of(rows, 0.6), vectors, 0.9)

        jaccard = np.array([[len({*a} & {*b}) / len({*a} | {*b}) for b in rows] for a in rows])
        cosine = vectors.astype(np.float64) @ vectors.T
        stays = found.kept.keeper == np.arange(60)
        for a, b in itertools.combinations(np.flatnonzero(stays), 2):
            assert jaccard[a, b] < 0.6 and cosine[a, b] < 0.9 - 1e-6
        for row in np.flatnonzero(~stays):
            keeper, score = found.kept.keeper[row], found.kept.score[row]
            matrix = (jaccard, cosine)[found.keeper_method[row]]
            assert stays[keeper] and score == pytest.approx(matrix[row, keeper], abs=1e-6)
            assert score >= (0.6, 0.9)[found.keeper_method[row]] - 1e-6
        for a, b, score, method in zip(*found.kept.pairs, found.pair_method, strict=True):
            assert score == pytest.approx((jaccard, cosine)[method][a, b], abs=1e-6)
        # Rows whose keeper by sets went by embeddings, and which stay for it.
        revived += int((stays & (near_of(rows, 0.6)(np.arange(60)).keeper != np.arange(60))).sum())
    assert revived > 5


def test_embeddings_alone_are_searched_as_brute_force_would() -> None:
    vectors = units(2500, 8, 0)
    alone = near_of([[n] for n in range(2500)], 0.9)

    found = embeddings.settle(alone, vectors, 0.8)

    exact = np.round(vectors.astype(np.float64) @ vectors.T, 6) >= 0.8
    gone = np.zeros(2500, bool)
    for row in range(2500):
        gone[row] = (exact[row, :row] & ~gone[:row]).any()
    assert (found.kept.keeper != np.arange(2500)).tolist() == gone.tolist() and 100 < gone.sum() < 2400
    pairs = set(zip(found.kept.pairs.first.tolist(), found.kept.pairs.second.tolist(), strict=True))
    assert pairs == {(a, b) for a in np.flatnonzero(gone) for b in np.flatnonzero(exact[a] & ~gone)}
    assert (found.pair_method == 1).all()


@pytest.mark.parametrize("kind", ["parquet", "npz", "fixed"])
def test_vectors_come_as_parquet_or_arrays_in_any_order(tmp_path: Path, kind: str) -> None:
    values = np.array([[0.0, 2.0], [3e-200, 4e-200], [5e200, 0.0], [1, 1]])
    names = ["c", "a", "b", "unknown"]
    path = write(tmp_path, kind, names, values)

    found = embeddings.read(Embeddings(source=path), tmp_path, IDS, "dedup.embeddings")

    np.testing.assert_allclose(found, [[0.6, 0.8], [1, 0], [0, 1]], atol=1e-7)
    assert found.dtype == np.float32


def write(root: Path, kind: str, names: Sequence[object], values: object) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = root / "presets/embeddings"
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "npz":
        np.savez(folder / "v.npz", ids=np.array(names), embeddings=np.array(values))
        return "v.npz"
    lists = [None if row is None else list(row) for row in values]  # type: ignore[attr-defined]
    column = pa.array(lists, pa.list_(pa.float64(), 2) if kind == "fixed" else pa.list_(pa.float64()))
    pq.write_table(pa.table({"id": pa.array(names), "embedding": column}), folder / "v.parquet")
    return "v.parquet"


@pytest.mark.parametrize(
    ("values", "names", "wrong"),
    [
        ([[1, 0], [1, 0]], "ab", r"1 embeddings are not there.*: c"),
        ([[1, 0]] * 4, "abca", r"1 embeddings have two embeddings.*: a"),
        ([[1, 0], [1, 0], [1, float("nan")]], "abc", r"1 embeddings hold NaN or infinity.*: c"),
        ([[1, 0], [float("inf"), 0], [1, 0]], "abc", r"hold NaN or infinity.*: b"),
        ([[1, 0], [0, 0], [1, 0]], "abc", r"1 embeddings are zero.*: b"),
        ([[1, 0], [1, 0], [1, 0, 0]], "abc", r"have not the 2 numbers that others have.*: c"),
        ([[1, 0], None, [1, 0]], "abc", r"have not the 2 numbers that others have.*: b"),
        ([[1, 0], [1, None], [1, 0]], "abc", r"hold NaN or infinity.*: b"),
    ],
)
def test_what_is_no_vector_is_refused(tmp_path: Path, values: list[object], names: str, wrong: str) -> None:
    path = write(tmp_path, "parquet", list(names), values)

    with pytest.raises(DataError, match=wrong):
        embeddings.read(Embeddings(source=path), tmp_path, IDS, "dedup.embeddings")


def test_files_of_another_kind_or_place_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "npz", list("abc"), [[1, 0]] * 3)
    folder = tmp_path / "presets/embeddings"
    (folder / "v.csv").touch()
    (folder / "broken.parquet").write_text("no")
    np.savez(folder / "flat.npz", ids=np.array(list("abc")), embeddings=np.ones(3))
    np.savez(folder / "objects.npz", ids=np.array(list("abc")), embeddings=np.array([1, "x", None], object))
    pd.DataFrame({"id": list("abc"), "embedding": ["x"] * 3}).to_parquet(folder / "words.parquet")
    (tmp_path / "secret.npz").touch()

    def read(source: str, **more: str) -> None:
        embeddings.read(Embeddings(source=source, **more), tmp_path, IDS, "datasets.x.dedup.embeddings")

    for source, wrong in (
        ("none.npz", "no such file"),
        ("v.csv", "needs a .parquet or .npz"),
        ("a/../../../secret.npz", "no such file"),
    ):
        with pytest.raises(ConfigError, match=rf"datasets.x.dedup.embeddings.source' is .*{wrong}"):
            read(source)
    for source, wrong in (
        ("broken.parquet", "can't be read as Parquet"),
        ("flat.npz", r"ids \(3,\) and embeddings \(3,\)"),
        ("objects.npz", "can't be read"),
        ("words.parquet", "needs lists of numbers"),
    ):
        with pytest.raises(DataError, match=wrong):
            read(source)
    with pytest.raises(DataError, match="no column vector; it has id, embedding"):
        read("words.parquet", column="vector")
    # Vectors of two lengths in two batches.
    monkeypatch.setattr(embeddings, "ROWS", 2)
    write(tmp_path, "parquet", list("abc"), [[1, 0], [1, 0], [1, 0, 0]])
    with pytest.raises(DataError, match="c has 3 numbers, others 2"):
        read("v.parquet")


def test_the_line_removes_what_only_the_vectors_find_and_says_so(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    texts = [words(generator, 60) for _ in range(30)]
    rows = [{"id": f"r{n:02d}", "text": text} for n, text in enumerate(texts)]
    rows.append({"id": "copy", "text": texts[4] + " tail"})
    source = write_jsonl(tmp_path / "raw.jsonl", rows)
    vectors = units(31, 16, 1)
    vectors[7] = vectors[3] + 0.01
    write(tmp_path, "npz", [row["id"] for row in rows], vectors)
    line = Line(
        tmp_path, "text", source, ingest={"id_column": "id"},
        dedup={"embeddings": {"source": "v.npz", "threshold": 0.99}}, split={"val": 0.2, "test": 0.2},
    ).ingest().preprocess().deduplicate()  # fmt: skip

    gone = line.duplicates().set_index("removed_id")

    assert len(gone) == 2 and set(gone["method"]) == {"near", "embedding"}
    (one,) = gone.index[gone["method"] == "embedding"]
    assert {one, gone.loc[one, "kept_id"]} == {"r03", "r07"} and 0.99 <= gone.loc[one, "score"] <= 1
    pairs = read_table(line.paths.copies / "pairs.parquet")
    assert sorted(pairs["method"]) == ["embedding", "near"]
    assert sum(line.report("deduplicate")["removed"]["embedding"].values()) == 1
    assert "embedding" in (line.paths.reports / "deduplicate.html").read_text()


@pytest.mark.parametrize("kind", ["parquet", "npz"])
def test_an_id_is_the_number_that_ingest_writes(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind, [7.0, 8.0], np.array([[2.0, 0.0], [0.0, 2.0]]))

    found = embeddings.read(Embeddings(source=path), tmp_path, pd.Series(["8", "7"], dtype="str"), "dedup.embeddings")

    assert found.tolist() == [[0.0, 1.0], [1.0, 0.0]]
