"""The unigram and bigram models are laws over tokens, counted from the training documents alone."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from graded import counting, write_texts, write_token_arrays

from genfoundry.config.sections.reference import Reference
from genfoundry.core.errors import DataError
from genfoundry.core.io import folder_digest, read_json
from genfoundry.evaluation import ngrams
from genfoundry.evaluation.extraction.documents import read_documents
from genfoundry.evaluation.ngrams import Bigram, Unigram, count_bigrams, document_nats
from genfoundry.evaluation.reference import write_reference

STREAM = np.array([0, 1, 2, 1, 0, 3, 3, 0, 1, 2], np.uint16)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_bigrams_are_counted_across_pieces(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "CHUNK", chunk)

    found = count_bigrams(STREAM, 5)

    wanted = Counter(zip(STREAM[:-1].tolist(), STREAM[1:].tolist(), strict=True))
    assert {divmod(key, 5): count for key, count in zip(*map(np.ndarray.tolist, found), strict=True)} == wanted


@pytest.mark.parametrize("discount", [0.3, 0.95])
def test_the_bigram_model_is_a_law_after_every_token(discount: float) -> None:
    model = Bigram(count_bigrams(STREAM, 6), 6, discount)

    for before in range(6):  # 4 and 5 never occur: the continuation law alone
        nats = model.nats(np.full(6, before), np.arange(6))
        assert np.exp(-nats).sum() == pytest.approx(1, abs=1e-12)


def test_interpolated_kneser_ney_by_hand() -> None:
    model = Bigram(count_bigrams(STREAM, 6), 6, 0.5)

    # After 0 come 1 twice and 3 once; three different pairs... of all seven different pairs, two end in 1.
    # Pairs: 01 12 21 10 03 33 30: endings 1: {0, 2}; with 1/2 each: q(1) = 2.5 / (7 + 3).
    wanted = (2 - 0.5) / 3 + 0.5 * 2 / 3 * 2.5 / 10
    assert math.exp(-model.nats(np.array([0]), np.array([1]))[0]) == pytest.approx(wanted, rel=1e-14)


def test_the_unigram_model_by_hand() -> None:
    model = Unigram(np.array([3.0, 1.0, 0.0]), 0.5)

    assert np.exp(-model.nats(np.zeros(3, int), np.arange(3))) == pytest.approx([3.5 / 5.5, 1.5 / 5.5, 0.5 / 5.5])


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_each_document_pays_for_its_own_tokens_after_its_boundary(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = [[1, 2, 3], [], [4], [1, 1, 2]]
    write_token_arrays(tmp_path, "test", documents)
    model = Bigram(count_bigrams(STREAM, 6), 6, 0.5)
    monkeypatch.setattr(ngrams, "CHUNK", chunk)

    found = document_nats(model, read_documents(tmp_path, "test"))

    wanted = [
        sum(float(model.nats(np.array([a]), np.array([b]))[0]) for a, b in zip([0, *rest], rest, strict=False))
        for rest in documents
    ]
    assert found == pytest.approx(wanted)


def test_smoothing_is_the_best_on_the_validation_documents(tmp_path: Path) -> None:
    paths = write_texts(tmp_path)
    documents = {split: read_documents(paths.arrays, split) for split in ("train", "val")}
    bigrams = count_bigrams(documents["train"].tokens, 12)

    model, chosen = ngrams.best_bigram(bigrams, 12, documents["val"])

    prices = {number: document_nats(Bigram(bigrams, 12, number), documents["val"]).sum() for number in ngrams.DISCOUNTS}
    assert prices[chosen] == min(prices.values()) == document_nats(model, documents["val"]).sum()
    assert len(set(prices.values())) > 1


def test_the_reference_of_text(tmp_path: Path) -> None:
    paths = write_texts(tmp_path)

    numbers = write_reference(paths, Reference())
    digest = folder_digest(paths.reference)

    # Documents count up with probability 0.9 over 11 tokens: the bigram model knows that, the unigram cannot.
    entropy = -(0.9 + 0.1 / 11) * math.log(0.9 + 0.1 / 11) - 10 * (0.1 / 11) * math.log(0.1 / 11)
    assert math.exp(entropy) < numbers["bigram"]["perplexity"] < 1.5 * math.exp(entropy)
    assert 10.5 < numbers["unigram"]["perplexity"] < 13
    write_reference(paths, Reference())
    assert folder_digest(paths.reference) == digest
    assert set(read_json(paths.reference / "smoothing.json")) == {"unigram_pseudo_count", "bigram_discount"}


def test_test_documents_do_not_teach(tmp_path: Path) -> None:
    paths = write_texts(tmp_path)
    write_reference(paths, Reference())
    before = np.load(paths.reference / "bigram_counts.npy")
    write_token_arrays(paths.arrays, "test", counting(50, seed=9))

    write_reference(paths, Reference())

    np.testing.assert_array_equal(np.load(paths.reference / "bigram_counts.npy"), before)


def test_without_validation_documents_the_smoothing_is_a_fixed_one(tmp_path: Path) -> None:
    paths = write_texts(tmp_path, counts={"train": 20, "val": 0, "test": 5})

    assert write_reference(paths, Reference())["bigram"]["discount"] == 0.75


@pytest.mark.parametrize("counts", [{"train": 20, "val": 2, "test": 1}, {"train": 1, "val": 2, "test": 9}])
def test_too_few_documents_are_refused(counts: dict[str, int], tmp_path: Path) -> None:
    paths = write_texts(tmp_path, counts=counts)

    with pytest.raises(DataError, match=r"1 documents with \d+ tokens in split '(test|train)'"):
        write_reference(paths, Reference())
    assert not paths.reference.exists()
