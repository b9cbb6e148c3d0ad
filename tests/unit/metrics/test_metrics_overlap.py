"""What samples share word for word with training text, against the definition, and planted sentences."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.core.errors import DataError
from genfoundry.metrics import _overlap, copied_ngrams, longest_common_runs, longest_overlap
from genfoundry.metrics._overlap import copied_grams

BOUNDARY = 0


class Stream(NamedTuple):
    tokens: np.ndarray
    offsets: np.ndarray


def stream_of(documents: list[list[int]]) -> Stream:
    """As the encode stage writes it: each document after its boundary."""
    rows = [[BOUNDARY, *document] for document in documents]
    return Stream(np.array([*itertools.chain(*rows)], np.uint16), np.cumsum([0, *map(len, rows)]))


def slow_run(sample: list[int], documents: list[list[int]]) -> int:
    known = {tuple(row[i:j]) for row in documents for i in range(len(row)) for j in range(i + 1, len(row) + 1)}
    spans = [(i, j) for i in range(len(sample)) for j in range(i + 1, len(sample) + 1)]
    return max((j - i for i, j in spans if tuple(sample[i:j]) in known), default=0)


documents = st.lists(st.lists(st.integers(1, 3), max_size=14), min_size=1, max_size=6)
samples = st.lists(st.lists(st.integers(1, 4), max_size=14), min_size=1, max_size=4)


@given(samples, documents, st.sampled_from([1, 3, 8, 1000]))
def test_longest_runs_are_those_of_the_definition(rows: list[list[int]], texts: list[list[int]], block: int) -> None:
    stream = stream_of(texts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_overlap, "BLOCK", block)
        patch.setattr(_overlap, "SIEVE_FROM", 2)
        patch.setattr(_overlap, "SIEVE_BITS", 6)
        found = longest_common_runs(rows, *stream)

    assert found.lengths.tolist() == [slow_run(row, texts) for row in rows]
    for row, length, start, document, place in zip(rows, *found, strict=True):
        if length:
            run = row[start : start + length]
            assert stream.tokens[place : place + length].tolist() == run
            assert stream.offsets[document] <= place
            assert place + length <= stream.offsets[document + 1]
        else:
            assert (document, place) == (-1, -1)


@given(samples, documents, st.integers(1, 5), st.sampled_from([1, 4, 1000]))
def test_copied_n_grams_are_those_of_the_definition(
    rows: list[list[int]], texts: list[list[int]], n: int, block: int
) -> None:
    known = {tuple(row[i : i + n]) for row in texts for i in range(len(row) - n + 1)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_overlap, "BLOCK", block)
        found = copied_grams(rows, *stream_of(texts), n)

    bags = [[tuple(row[i : i + n]) for i in range(len(row) - n + 1)] for row in rows]
    assert found.grams.tolist() == [len(bag) for bag in bags]
    assert found.copied.tolist() == [sum(gram in known for gram in bag) for bag in bags]


@given(samples, documents, st.integers(1, 4))
def test_hashes_that_all_meet_change_nothing(rows: list[list[int]], texts: list[list[int]], n: int) -> None:
    stream = stream_of(texts)
    wanted = longest_common_runs(rows, *stream).lengths.tolist(), copied_grams(rows, *stream, n).copied.tolist()

    with pytest.MonkeyPatch.context() as patch:
        # A hash of two values: windows meet by chance all the time.
        plain = _overlap._Lines.hashes
        patch.setattr(
            _overlap._Lines, "hashes", lambda self, places, length: plain(self, places, length) >> np.uint64(63)
        )
        patch.setattr(_overlap, "BLOCK", 5)
        found = longest_common_runs(rows, *stream).lengths.tolist(), copied_grams(rows, *stream, n).copied.tolist()

    assert found == wanted


@given(samples, documents)
def test_a_run_is_settled_token_by_token_where_hashes_mislead(rows: list[list[int]], texts: list[list[int]]) -> None:
    stream = stream_of(texts)
    wanted = longest_common_runs(rows, *stream).lengths.tolist()

    with pytest.MonkeyPatch.context() as patch:
        # Windows of three tokens or more all look alike; shorter ones are told apart.
        plain = _overlap._Lines.hashes
        patch.setattr(
            _overlap._Lines,
            "hashes",
            lambda self, places, length: plain(self, places, length) * np.uint64(length < 3),
        )
        patch.setattr(_overlap, "BLOCK", 7)
        found = longest_common_runs(rows, *stream).lengths.tolist()

    assert found == wanted


@given(samples, documents, st.sampled_from([1, 4, 1000]))
def test_token_by_token_no_run_crosses_a_document(rows: list[list[int]], texts: list[list[int]], block: int) -> None:
    stream = Stream(np.array([*itertools.chain(*texts)], np.int64), np.cumsum([0, *map(len, texts)]))  # no boundaries

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_overlap, "BLOCK", block)
        lengths = [_overlap._by_token(np.array(row), *stream, "test")[0] for row in rows if row]

    assert lengths == [slow_run(row, texts) for row in rows if row]


def test_the_string_that_fools_polynomial_hashes_is_no_copy() -> None:
    # Thue and Morse: 2,048 tokens and their complement have one hash modulo 2**64 for every base.
    line = np.array([bin(i).count("1") % 2 for i in range(2048)])
    sample, training = (line + 1).tolist(), (2 - line).tolist()
    lines = [
        _overlap._Lines(np.array(row), np.full(2048, 2048)).hashes(np.array([0]), 2048) for row in (sample, training)
    ]

    assert lines[0] == lines[1]
    assert longest_common_runs([sample], *stream_of([training])).lengths[0] < 2048
    assert copied_grams([sample], *stream_of([training]), 2048).copied[0] == 0


def test_no_run_crosses_a_document() -> None:
    stream = Stream(np.array([1, 2, 3, 4, 5, 6], np.uint16), np.array([0, 3, 6]))  # no boundary tokens at all

    found = longest_common_runs([[2, 3, 4, 5], [9, 9]], *stream)

    assert (found.lengths[0], found.documents[1], found.places[1]) == (2, -1, -1)
    assert copied_grams([[1, 2, 3, 4, 5, 6]], *stream, 3).copied.tolist() == [2]


def prose(count: int, length: int, seed: int) -> list[list[int]]:
    """Documents of a random bigram chain over 200 tokens."""
    generator = np.random.default_rng(seed)
    follow = np.random.default_rng(99).integers(1, 200, (200, 4))
    rows = []
    for _ in range(count):
        token, row = int(generator.integers(1, 200)), []
        for choice in generator.integers(0, 4, length).tolist():
            row.append(token)
            token = int(follow[token, choice])
        rows.append(row)
    return rows


@pytest.mark.parametrize("planted", [1, 5])
def test_planted_sentences_are_found_and_fresh_text_is_not(planted: int) -> None:
    training, fresh = prose(300, 120, 0), prose(100, 100, 1)
    stream = stream_of(training)
    rows = [row.copy() for row in fresh]
    for number in range(planted):
        rows[number][20:80] = training[7 * number][30:90]

    found, floor = (copied_ngrams.score(side, stream, copied_ngrams.Config()) for side in (rows, fresh))
    runs, floor_runs = (longest_overlap.score(side, stream, longest_overlap.Config()) for side in (rows, fresh))

    assert floor.value == 0
    assert floor.se > 0
    assert found.extra["copied"] == pytest.approx(planted * (60 - 31), abs=2 * planted)
    assert found.value == pytest.approx(planted / 100 * 29 / 69, rel=0.1)
    assert (runs.extra["long_samples"], floor_runs.extra["long_samples"]) == (planted, 0)
    assert runs.value - floor_runs.value > planted / 100 * 45


def test_a_whole_document_as_a_sample_is_told() -> None:
    stream = stream_of([[1, 2, 3, 4], [5, 6, 7]])

    found = longest_overlap.score([[2, 3], [5, 7], []], stream, longest_overlap.Config(long=2))

    assert (found.value, found.count) == (1.5, 2)
    assert found.extra == {"longest": 2, "long_samples": 1, "whole_samples": 1}
    assert found.se == pytest.approx(0.5)


@given(st.lists(st.lists(st.integers(1, 3), min_size=2, max_size=9), min_size=2, max_size=6), documents)
def test_influences_carry_the_error_bar(rows: list[list[int]], texts: list[list[int]]) -> None:
    stream = stream_of(texts)
    for found in (
        longest_overlap.score(rows, stream, longest_overlap.Config()),
        copied_ngrams.score(rows, stream, copied_ngrams.Config(n=2)),
    ):
        if found.influence:
            assert math.sqrt((found.influence["sample"] ** 2).sum()) == pytest.approx(found.se)
        else:
            assert found.value in (0, 1) or found.se > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: longest_common_runs([], *s), "samples are 0"),
        (lambda s: longest_common_runs([[1.5]], *s), "row 0 holds no token numbers"),
        (lambda s: longest_common_runs([[1], [-1]], *s), "row 1 holds no token numbers"),
        (lambda s: longest_common_runs([[1]], s.tokens, [0, 2]), "offsets must rise from 0 to 4"),
        (lambda s: longest_common_runs([[1]], s.tokens, [0, 3, 1, 4]), "offsets must rise"),
        (lambda s: longest_common_runs([[1]], s.tokens + 0.5, s.offsets), "stream are floats, first 0.5"),
        (lambda s: copied_grams([[1]], *s, 0), "n is 0"),
        (lambda s: copied_ngrams.score([[1] * 40, [1]], s, copied_ngrams.Config()), "1 of 2 samples have 32 tokens"),
        (lambda s: longest_overlap.score([[1], []], s, longest_overlap.Config()), "1 of 2 samples hold a token"),
    ],
)
def test_text_that_can_not_be_searched_is_refused(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call(stream_of([[1, 2, 3]]))  # type: ignore[operator]
