"""The keeper engine against brute force: sets, vectors, every threshold, tiny limits on work held at once."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.config.specs import Sets, Vectors
from genfoundry.data.similarity import keepers, setjoin, vectorjoin
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.setstore import SetStore
from genfoundry.data.split.leakcheck import nearest

thresholds = st.sampled_from([0.3, 0.5, 0.6, 2 / 3, 0.7, 0.75, 0.8, 0.9, 0.95, 1.0])


@st.composite
def families(draw: st.DrawFn) -> list[set[int]]:
    """Sets in families: a base and edits of it, so that similar pairs are common."""
    vocabulary = draw(st.integers(3, 60))
    element = st.integers(0, vocabulary - 1)
    rows: list[set[int]] = []
    for _ in range(draw(st.integers(1, 8))):
        base = draw(st.sets(element, max_size=25))
        rows += [base ^ draw(st.sets(element, max_size=3)) for _ in range(draw(st.integers(1, 5)))]
    return draw(st.permutations(rows))


def as_sets(rows: list[set[int]]) -> Sets:
    key = np.random.default_rng(0).permutation(2**16)[:64].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    parts = [np.sort(key[sorted(row)]) if row else np.empty(0, np.uint64) for row in rows]
    ptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
    return Sets(np.concatenate([np.empty(0, np.uint64), *parts]), ptr.astype(np.int64))


def jaccard(a: set[int], b: set[int]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def greedy(similar: np.ndarray) -> np.ndarray:
    """Which rows stay, by the definition."""
    stays = np.ones(len(similar), bool)
    for row in range(len(similar)):
        stays[row] = not (similar[row, :row] & stays[:row]).any()
    return stays


@given(families(), thresholds, st.sampled_from([1, 10**6]), st.sampled_from([0, 1, 100, 1000, 5000]), st.data())
def test_sets_are_kept_as_brute_force_keeps_them(
    rows: list[set[int]], threshold: float, room: int, limit: int, data: st.DataObject
) -> None:
    """Whatever the order of priority, the tables they come in, and the memory: 1 byte makes every row a block."""
    order = data.draw(st.permutations(range(len(rows))))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=3)))
    store = SetStore(limit)
    for first, last in itertools.pairwise([0, *cuts, len(rows)]):
        part = as_sets(rows[first:last])
        store.add(part.hashes, np.diff(part.ptr))
    score = np.array([[jaccard(rows[a], rows[b]) for b in order] for a in order])
    similar = score >= threshold - 1e-12
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setjoin, "PAIRS", room)
        kept = keepers.keep(store, Rule(threshold), np.array(order))

    assert store.on_disk == (0 < limit < 8 * store.elements)
    stays = greedy(similar)
    np.testing.assert_array_equal(kept.keeper == np.arange(len(rows)), stays)
    for row in np.flatnonzero(~stays):
        allowed = stays[:row] & similar[row, :row]
        assert allowed[kept.keeper[row]]
        assert kept.score[row] == round(score[row, :row][allowed].max(), 6) == round(score[row, kept.keeper[row]], 6)
    wanted = [(a, b) for a in np.flatnonzero(~stays) for b in np.flatnonzero(stays) if similar[a, b]]
    assert list(zip(kept.pairs.first.tolist(), kept.pairs.second.tolist(), strict=True)) == wanted


@given(families(), st.sampled_from([0.5, 0.8]), st.sampled_from([1, 2, 8]), st.sampled_from([0, 200]))
def test_minhash_removes_no_row_without_a_similar_one_that_stays(
    rows: list[set[int]], threshold: float, bands: int, limit: int
) -> None:
    sets, store = as_sets(rows), SetStore(limit)
    store.add(sets.hashes, np.diff(sets.ptr))

    kept = keepers.keep(store, Rule(threshold), engine=setjoin.Engine(bands, 3))

    stays = kept.keeper == np.arange(len(rows))
    for row in np.flatnonzero(~stays):
        assert stays[kept.keeper[row]] and kept.keeper[row] < row
        assert round(jaccard(rows[row], rows[kept.keeper[row]]), 6) == kept.score[row] >= threshold - 1e-6


@given(families(), st.sampled_from([2, 4, 8, 26]), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_a_sketch_of_any_size_costs_no_pair(rows: list[set[int]], bits: int, threshold: float) -> None:
    sets = as_sets(rows)
    sketch = setjoin.Sketch(0)
    sketch.bits, sketch.cells = bits, np.zeros(1 << bits, np.uint8)
    sketch.add(sets.hashes)
    every = np.arange(len(rows))

    index = setjoin.Index(setjoin.Rows.of(sets), setjoin.prefixes(setjoin.Rows.of(sets), sketch, threshold), threshold)
    index.add(every)
    found = index.similar(every)

    wanted = {(a, b) for a in every for b in every if a != b and jaccard(rows[a], rows[b]) >= threshold - 1e-12}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted


@given(families(), families(), thresholds, st.sampled_from([1, 10**6]))
def test_containment_is_found_as_brute_force_finds_it(
    evaluation: list[set[int]], training: list[set[int]], share: float, limit: int
) -> None:
    rows = [*evaluation, *training]
    inner, outer = np.arange(len(evaluation)), np.arange(len(evaluation), len(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setjoin, "PAIRS", limit)
        found = setjoin.contained(setjoin.Collection(as_sets(rows)), inner, outer, share)

    held = {(i, j): len(rows[i] & rows[j]) / len(rows[i]) for i in inner for j in outer if rows[i]}
    wanted = {pair for pair, part in held.items() if part >= share - 1e-12}
    assert set(zip(found.first.tolist(), found.second.tolist(), strict=True)) == wanted
    for i, j, score in zip(*found, strict=True):
        assert score == pytest.approx(held[i, j])

    checked = nearest(as_sets(rows), inner, outer, Rule(2.0), share - 1e-12)
    np.testing.assert_array_equal(checked.leaks, [any(pair[0] == i for pair in wanted) for i in inner])
    best = [max((jaccard(rows[i], rows[j]) for j in outer), default=0.0) for i in inner]
    np.testing.assert_allclose(checked.score, best)


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0.9, 0.95, 0.99]), st.sampled_from([1, 10**6]))
def test_vectors_are_kept_as_brute_force_keeps_them(seed: int, number: int, threshold: float, limit: int) -> None:
    generator = np.random.default_rng(seed)
    base = generator.normal(size=(5, 63))
    vectors = base[generator.integers(0, 5, number)] + generator.normal(size=(number, 63)) * generator.uniform(0, 0.4)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    prints = Vectors(vectors, np.empty((number, 0, 0, 0), np.uint8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectorjoin, "PAIRS", limit)
        patch.setattr(vectorjoin, "BLOCK", 3)
        patch.setattr(vectorjoin, "TILE", (2, 5))
        patch.setattr(keepers, "BLOCK", 8)
        kept = keepers.keep(prints, Rule(threshold, threshold))

    cosine = np.round(vectors.astype(np.float64) @ vectors.astype(np.float64).T, 6)
    stays = greedy(cosine >= threshold)
    np.testing.assert_array_equal(kept.keeper == np.arange(number), stays)
    gone = np.flatnonzero(~stays)
    np.testing.assert_allclose(kept.score[gone], cosine[gone, kept.keeper[gone]], atol=2e-6)
    assert stays[kept.keeper].all()


@given(families(), st.randoms(use_true_random=False))
def test_fingerprints_can_be_taken_and_joined(rows: list[set[int]], shuffle: object) -> None:
    sets = as_sets(rows)
    order = list(range(len(rows)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]

    taken = keepers.take(sets, np.array(order))
    halves = [as_sets(rows[: len(rows) // 2]), as_sets(rows[len(rows) // 2 :])]

    for place, row in enumerate(order):
        np.testing.assert_array_equal(
            taken.hashes[taken.ptr[place] : taken.ptr[place + 1]], sets.hashes[sets.ptr[row] : sets.ptr[row + 1]]
        )
    np.testing.assert_array_equal(keepers.join(halves).hashes, sets.hashes)
    np.testing.assert_array_equal(keepers.join(halves).ptr, sets.ptr)
