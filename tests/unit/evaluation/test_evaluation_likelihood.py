"""Windows score every token of every document once, with the context they promise and no other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from graded import write_token_arrays
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.evaluation.extraction.documents import Documents, read_documents
from genfoundry.evaluation.extraction.likelihood import Plan, document_nats, plan, windows


class Sum:
    """Prices a token at the sum of all it was shown before and of itself: what is seen shows in the price."""

    context = 10**6

    def __init__(self) -> None:
        self.longest = 0

    def nats(self, tokens: Tensor) -> Tensor:
        self.longest = max(self.longest, tokens.shape[1] - 1)
        return tokens.double().cumsum(dim=1)[:, 1:]


def documents_of(rows: list[list[int]], folder: Path) -> Documents:
    write_token_arrays(folder, "test", rows)
    return read_documents(folder, "test")


lengths = st.lists(st.integers(0, 40), min_size=1, max_size=6)
plans = st.integers(1, 12).flatmap(lambda window: st.builds(Plan, st.just(window), st.integers(1, window)))


@given(lengths, plans)
def test_every_token_is_scored_once_with_enough_before_it(counts: list[int], chosen: Plan) -> None:
    scored = [[0] * (count + 1) for count in counts]
    for document, begin, first, end in windows(np.array(counts), chosen):
        assert begin < first <= end
        assert end - begin <= chosen.window
        for position in range(first, end + 1):
            scored[document][position] += 1
            # All of the document, or at least what the stride leaves of the window.
            assert position - begin >= min(position, chosen.window - chosen.stride + 1)
    assert [[0] + [1] * count for count in counts] == scored


@given(st.lists(st.lists(st.integers(1, 9), max_size=30), min_size=1, max_size=8), plans, st.integers(1, 5))
def test_prices_follow_from_the_windows_alone(rows: list[list[int]], chosen: Plan, batch: int) -> None:
    offsets = np.cumsum([0, *(len(row) + 1 for row in rows)])
    stream = np.array([token for row in rows for token in [0, *row]], np.uint16)

    model = Sum()
    found = document_nats(model, Documents(stream, offsets, np.zeros(len(rows))), chosen, batch)

    wanted = np.zeros(len(rows))
    for document, begin, first, end in windows(np.array([len(row) for row in rows]), chosen):
        text = [0, *rows[document]]
        wanted[document] += sum(sum(text[begin : position + 1]) for position in range(first, end + 1))
    assert found == pytest.approx(wanted)
    assert model.longest <= chosen.window


def test_a_document_shorter_than_the_window_is_read_at_once(tmp_path: Path) -> None:
    found = document_nats(Sum(), documents_of([[1, 2, 3], [5]], tmp_path), Plan(8, 4), batch=4)

    assert found.tolist() == [1 + 3 + 6, 5]  # nothing of the first document in the second


def test_progress_adds_up_to_all_tokens(tmp_path: Path) -> None:
    told: list[int] = []

    document_nats(Sum(), documents_of([[1] * 50, [2] * 7], tmp_path), Plan(8, 4), 2, advance=told.append)

    assert sum(told) == 57


def test_a_model_that_diverged_is_refused(tmp_path: Path) -> None:
    class Broken(Sum):
        def nats(self, tokens: Tensor) -> Tensor:
            return torch.where(tokens[:, 1:] == 7, torch.nan, 1.0)

    with pytest.raises(DataError, match=r"1 of 3 test documents cost NaN .* row 1"):
        document_nats(Broken(), documents_of([[1, 2], [3, 7], [1]], tmp_path), Plan(4, 2), 4)


def test_defaults_come_from_the_model() -> None:
    assert plan(Evaluation(), 256, "e") == Plan(256, 128)
    assert plan(Evaluation(window=9), 256, "e") == Plan(9, 4)
    assert plan(Evaluation(window=1), 256, "e") == Plan(1, 1)
    assert plan(Evaluation(window=8, stride=8), 256, "e") == Plan(8, 8)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Evaluation(window=300), "e.window' is 300: the model looks at 256"),
        (Evaluation(window=8, stride=9), "stride' is 9"),
    ],
)
def test_windows_that_can_not_be_are_refused(config: Evaluation, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan(config, 256, "e")
