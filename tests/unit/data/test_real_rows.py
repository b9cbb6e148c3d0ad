"""Deduplication of 10,000 real rows against brute force: docstrings of installed packages, and edits of them."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import scipy
from scipy.sparse import csr_matrix

from genfoundry.config.specs import Sets
from genfoundry.data.similarity import keepers
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.setjoin import Engine
from genfoundry.data.similarity.setstore import SetStore
from genfoundry.modalities.common import shingles

ROWS = 10_000


@pytest.fixture(scope="module")
def rows() -> list[str]:
    """Docstrings as they stand (they repeat each other a lot), and every fifth one again with words changed."""
    packages = Path(scipy.__file__).parents[1]
    found: list[str] = []
    for path in sorted(file for name in ("scipy", "numpy", "pandas") for file in (packages / name).rglob("*.py")):
        found += [text for text in re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.DOTALL) if len(text) > 80]
        if len(found) >= ROWS * 5 // 6:
            break
    generator = random.Random(0)
    for text in found[: ROWS * 5 // 6 : 5]:
        pieces = text.split(" ")
        for _ in range(1 + len(pieces) // generator.choice([20, 50, 100, 200])):
            pieces[generator.randrange(len(pieces))] = "changed"
        found.append(" ".join(pieces))
    generator.shuffle(found)
    assert len(found) >= ROWS
    return found[:ROWS]


@pytest.fixture(scope="module")
def sets(rows: list[str]) -> Sets:
    return shingles.sets(rows)


def similar_rows(sets: Sets, least: float) -> list[dict[int, float]]:
    """For each row, those like it and how much, by a product of sparse matrices."""
    kinds, column = np.unique(sets.hashes, return_inverse=True)
    matrix = csr_matrix((np.ones(len(column), np.int32), column, sets.ptr), shape=(len(sets.ptr) - 1, len(kinds)))
    sizes, other = np.diff(sets.ptr), matrix.T.tocsr()
    found: list[dict[int, float]] = [{} for _ in sizes]
    for start in range(0, len(sizes), 500):
        product = (matrix[start : start + 500] @ other).tocoo()
        first = product.row + start
        score = product.data / (sizes[first] + sizes[product.col] - product.data)
        for place in np.flatnonzero((score >= least - 1e-12) & (first != product.col)):
            found[first[place]][int(product.col[place])] = float(score[place])
    return found


@pytest.mark.parametrize("limit", [0, 1_500_000])
def test_no_row_differs_from_brute_force_on_real_rows(sets: Sets, limit: int) -> None:
    store = SetStore(limit)
    store.add(sets.hashes, np.diff(sets.ptr))
    order = np.random.default_rng(1).permutation(ROWS)
    place = np.argsort(order)
    for threshold in (0.8,) if limit else (0.5, 0.8, 0.9):
        similar = similar_rows(sets, threshold)
        stays = np.zeros(ROWS, bool)
        for row in order:
            stays[row] = not any(stays[other] for other in similar[row])

        kept = keepers.keep(store, Rule(threshold), order)

        stayed = kept.keeper == np.arange(ROWS)
        assert (stayed != stays[order]).sum() == 0 and 200 < (~stays).sum() < ROWS / 2
        gone = np.flatnonzero(~stays)
        true = [(row, other, score) for row in gone for other, score in similar[row].items() if stays[other]]
        wanted = {(place[row], place[other]): score for row, other, score in true}
        pairs = zip(kept.pairs.first.tolist(), kept.pairs.second.tolist(), strict=True)
        assert dict(zip(pairs, kept.pairs.score.tolist(), strict=True)) == {
            pair: round(score, 6) for pair, score in wanted.items()
        }
        for row in np.flatnonzero(~stayed):
            assert stayed[kept.keeper[row]] and kept.keeper[row] < row
            assert kept.score[row] == round(wanted[row, kept.keeper[row]], 6)


def test_minhash_finds_what_its_bands_promise_and_verifies_it(sets: Sets) -> None:
    exact = keepers.keep(sets, Rule(0.8))
    true = {(int(a), int(b)): score for a, b, score in zip(*exact.pairs, strict=True)}

    many, few = (keepers.keep(sets, Rule(0.8), engine=Engine(bands, 8)) for bands in (32, 2))

    # 32 bands of 8 miss J = 0.8 once in 400 times, 2 bands two times in three.
    shares = []
    for kept in (many, few):
        removed = np.flatnonzero(kept.keeper != np.arange(ROWS))
        assert all(kept.keeper[row] not in set(removed.tolist()) and kept.score[row] >= 0.8 for row in removed)
        shares.append(len(removed) / len({first for first, _ in true}))
    assert 0.99 < shares[0] <= 1.01
    assert shares[1] < shares[0] - 0.02


def test_shingles_do_not_hang_on_how_rows_are_stored(rows: list[str]) -> None:
    import pandas as pd
    import pyarrow as pa

    some = rows[:300]
    whole = shingles.sets(some)
    column = pa.chunked_array([pa.array(some[:7]), pa.array(some[7:7], pa.string()), pa.array(["?", *some[7:]])[1:]])

    for stored in (pd.Series(some), pd.Series(["x", *some])[1:], column, column.cast(pa.large_string())):
        found = shingles.sets(stored)
        np.testing.assert_array_equal(found.hashes, whole.hashes)
        np.testing.assert_array_equal(found.ptr, whole.ptr)
    parts = [shingles.sets([text]) for text in some]
    np.testing.assert_array_equal(keepers.join(parts).hashes, whole.hashes)
    assert len(shingles.sets([]).ptr) == 1 and len(shingles.sets(pd.Series([], dtype="str")).ptr) == 1
