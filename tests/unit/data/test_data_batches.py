"""Batches: pure in (step, seed), equal over ranks, every example once an epoch."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from genfoundry.core.errors import DataError
from genfoundry.training.examples import Arrays, DocumentData, GridData, TokenData


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    np.save(tmp_path / "train.npy", np.arange(23 * 4, dtype=np.uint8).reshape(23, 1, 2, 2))
    np.save(tmp_path / "train_labels.npy", np.arange(23))
    np.save(tmp_path / "train_tokens.npy", np.arange(1000, dtype=np.uint16))
    return tmp_path


def test_an_epoch_shows_every_example_at_most_once_in_a_new_order(arrays: Path) -> None:
    data = GridData(arrays, "train", ["label"])
    epochs = [
        [data.batch(step, 5, seed=1)["conditions.label"].tolist() for step in range(4 * e, 4 * e + 4)] for e in range(2)
    ]

    for epoch in epochs:
        seen = [label for batch in epoch for label in batch]
        assert len(seen) == len(set(seen)) == 20
    assert epochs[0] != epochs[1]
    assert (
        data.batch(3, 5, seed=2)["conditions.label"].tolist() != data.batch(3, 5, seed=1)["conditions.label"].tolist()
    )


def test_a_batch_is_a_function_of_step_and_seed(arrays: Path) -> None:
    fresh, used = GridData(arrays, "train", ["label"]), GridData(arrays, "train", ["label"])
    for step in (9, 0, 5):
        used.batch(step, 5, seed=1)

    for key, value in fresh.batch(7, 5, seed=1).items():
        np.testing.assert_array_equal(value, used.batch(7, 5, seed=1)[key])
    batch = fresh.batch(7, 5, seed=1)
    assert batch["index"].tolist() == [35, 36, 37, 38, 39]
    assert batch["grid"].dtype == np.uint8 and batch["grid"].shape == (5, 1, 2, 2)
    np.testing.assert_array_equal(batch["grid"][:, 0, 0, 0] // 4, batch["conditions.label"])


@pytest.mark.parametrize("kind", ["grid", "tokens"])
def test_ranks_share_the_global_batch(arrays: Path, kind: str) -> None:
    data = GridData(arrays, "train", ["label"]) if kind == "grid" else TokenData(arrays, "train", 16)
    whole = data.batch(11, 6, seed=3)
    parts = [data.batch(11, 6, seed=3, rank=rank, world=3) for rank in range(3)]

    for rank, part in enumerate(parts):
        for key in whole:
            np.testing.assert_array_equal(part[key], whole[key][rank::3])


def test_windows_are_stretches_of_the_stream_that_never_overlap_in_an_epoch(arrays: Path) -> None:
    data = TokenData(arrays, "train", 16)
    steps = len(data) // 4
    starts = [data.batch(step, 4, seed=0)["tokens"][:, 0] for step in range(2 * steps)]

    tokens = data.batch(5, 4, seed=0)["tokens"]
    assert tokens.dtype == np.int64 and tokens.shape == (4, 17)
    np.testing.assert_array_equal(np.diff(tokens, axis=1), 1)
    first, second = np.concatenate(starts[:steps]), np.concatenate(starts[steps:])
    assert set(np.diff(np.sort(first))) <= {16 * n for n in range(1, 4)} and len(set(first)) == len(first)
    assert first[0] % 16 != second[0] % 16  # another phase
    assert max(first.max(), second.max()) + 17 <= 1000


def test_no_phase_reaches_past_the_end(tmp_path: Path) -> None:
    for count in range(17, 80):
        np.save(tmp_path / "train_tokens.npy", np.arange(count, dtype=np.uint16))
        data = TokenData(tmp_path, "train", 8)
        for step in range(12):
            tokens = data.batch(step, 1, seed=count)["tokens"]
            assert tokens.shape == (1, 9) and tokens.max() < count


def test_validation_prices_every_token_once(arrays: Path) -> None:
    data = TokenData(arrays, "train", 16)
    targets = []
    for batch in data.sequential(7):
        targets += batch["tokens"][:, 1:][batch["mask"][:, 1:] == 1].tolist()

    assert targets == list(range(1, 1000))
    ranks = [list(data.sequential(8, rank=rank, world=2)) for rank in range(2)]
    index = np.sort(np.concatenate([batch["index"] for rank in ranks for batch in rank]))
    np.testing.assert_array_equal(index, np.arange(63))


def test_validation_shows_every_grid_once(arrays: Path) -> None:
    batches = list(GridData(arrays, "train", ["label"]).sequential(10))

    assert [len(batch["index"]) for batch in batches] == [10, 10, 3]
    assert np.concatenate([batch["conditions.label"] for batch in batches]).tolist() == list(range(23))


def test_too_large_a_batch_and_missing_arrays_are_refused(arrays: Path) -> None:
    with pytest.raises(DataError, match=r"split train: 23 examples, but a batch is 24; lower training.batch"):
        GridData(arrays, "train", ["label"]).batch(0, 24, seed=0)
    with pytest.raises(DataError, match=r"windows of 600 tokens out of 1000: 0 examples"):
        TokenData(arrays, "train", 600).batch(0, 1, seed=0)
    with pytest.raises(DataError, match=r"val.npy: no such file; run dvc repro"):
        GridData(arrays, "val", ["label"])


LENGTHS = (0, 3, 7, 8, 9, 30, 1, 16, 5, 12)
"""Tokens of documents; with the boundary behind them, 8 targets fill a window exactly."""


@pytest.fixture
def documents(tmp_path: Path) -> DocumentData:
    """Document d is boundary 0, then d * 100 + 1, d * 100 + 2, ...; its label is d, and its topic d as bytes."""
    rows = [[0, *range(number * 100 + 1, number * 100 + 1 + count)] for number, count in enumerate(LENGTHS)]
    np.save(tmp_path / "train_tokens.npy", np.concatenate(rows).astype(np.uint16))
    np.save(tmp_path / "train_offsets.npy", np.cumsum([0, *map(len, rows)]))
    np.save(tmp_path / "train_labels.npy", np.arange(len(rows)))
    np.save(tmp_path / "train_condition_topic.npy", np.arange(len(rows))[:, None] + [1, 2, 3])
    return DocumentData(tmp_path, "train", 8, 0, ("label", "topic"))


def pairs(batch: Arrays) -> list[tuple[int, int, int]]:
    """(label, token, target) of every target in a batch."""
    found = []
    for label, row, mask in zip(batch["conditions.label"], batch["tokens"], batch["mask"], strict=True):
        count = int(mask.sum())
        assert mask[:count].all() and (row[count:] == 0).all(), "a window is not in one piece"
        found += [(int(label), int(a), int(b)) for a, b in pairwise(row[:count])]
    return found


def test_windows_of_an_epoch_hold_every_target_of_a_document_once_with_its_conditions(documents: DocumentData) -> None:
    wanted = []
    for number, count in enumerate(LENGTHS):
        text = [0, *range(number * 100 + 1, number * 100 + 1 + count), 0]
        wanted += [(number, a, b) for a, b in pairwise(text)]
    assert len(documents) == sum(-(-(count + 1) // 8) for count in LENGTHS)

    cuts = set()
    for epoch in range(6):
        found, firsts = [], []
        for step in range(epoch * len(documents), (epoch + 1) * len(documents)):
            batch = documents.batch(step, 1, seed=4)
            assert batch["tokens"].dtype == np.int64 and batch["tokens"].shape == batch["mask"].shape
            assert batch["tokens"].shape[1] <= 9 and batch["mask"].all(), "padded for nobody"
            assert batch["conditions.topic"].tolist() == [[batch["conditions.label"][0] + one for one in (1, 2, 3)]]
            found += pairs(batch)
            firsts.append(int(batch["tokens"][0, 0]))
        assert sorted(found) == sorted(wanted)
        cuts.add(tuple(sorted(firsts)))
    assert len(cuts) > 1, "every epoch cuts long documents alike"
    assert sorted(pair for batch in documents.sequential(4) for pair in pairs(batch)) == sorted(wanted)
    assert documents.size == pytest.approx(len(wanted) / len(documents))


def test_ranks_share_a_batch_of_documents(documents: DocumentData) -> None:
    whole = documents.batch(11, 6, seed=3)
    parts = [documents.batch(11, 6, seed=3, rank=rank, world=3) for rank in range(3)]
    for rank, part in enumerate(parts):
        for key in whole:
            np.testing.assert_array_equal(part[key], whole[key][rank::3])
    assert whole["index"].tolist() == list(range(66, 72))
    # Of the last batch of validation one rank may have nothing.
    ranks = [list(documents.sequential(len(documents) - 1, rank=rank, world=2)) for rank in range(2)]
    assert [len(batches[-1]["index"]) for batches in ranks] == [1, 0]


def test_a_split_without_documents_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "val_tokens.npy", np.empty(0, np.uint16))
    np.save(tmp_path / "val_offsets.npy", np.zeros(1, np.int64))
    with pytest.raises(DataError, match=r"split val: no documents; give it more records"):
        next(DocumentData(tmp_path, "val", 8, 0, ()).sequential(4))
