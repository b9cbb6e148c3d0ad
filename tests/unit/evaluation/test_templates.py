"""Prompt template pairs: priced as documents, by the same rules."""

from pathlib import Path

import numpy as np
import pytest
import torch
from graded import write_texts
from pydantic import ValidationError

from genfoundry.config.sections.evaluation import Evaluation, Template
from genfoundry.config.specs import Section, TokenSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import read_table
from genfoundry.evaluation.extraction.likelihood import Plan
from genfoundry.evaluation.extraction.templates import score_pairs, sentences
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.metrics import pair_preference
from genfoundry.nn.contract import Model

TEMPLATES = (Template(text="{} 1 2", pairs=(("3", "4"), ("5", "6"))), Template(text="7 {}", pairs=(("3", "8 9"),)))


class Dear(Model):
    """Each token costs its own number in nats."""

    context = 64

    def __init__(self) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def nats(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, 1:].float()


def test_a_pair_fills_every_gap_of_its_template() -> None:
    assert sentences((Template(text="{} and {}", pairs=(("a", "b"),)),)) == [("{} and {}", "a and a", "b and b")]


def test_both_sentences_of_a_pair_are_priced_whole(tmp_path: Path) -> None:
    dataset = write_texts(tmp_path)
    loaded = LoadedModel(Dear(), TokenSpec(vocab_size=12), "dear", Section())

    fact = score_pairs(loaded, Evaluation(templates=TEMPLATES), Plan(16, 8), dataset.arrays, tmp_path)

    table = read_table(tmp_path / "pairs.parquet")
    assert table["first"].tolist() == ["3 1 2", "5 1 2", "7 3"]
    assert table["first_nats"].tolist() == [6.0, 8.0, 10.0]
    assert table["second_nats"].tolist() == [7.0, 9.0, 24.0]
    assert fact["n"] == 3
    other = score_pairs(loaded, Evaluation(templates=TEMPLATES[:1]), Plan(16, 8), dataset.arrays, tmp_path)
    assert other["digest"] != fact["digest"]


class DearByLabel(Dear):
    """A sentence of label b costs ten nats a token more."""

    heeds = ("label",)

    def nats(self, tokens: torch.Tensor, conditions: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().nats(tokens) + 10 * conditions["label"][:, None]


def test_both_sentences_of_a_pair_have_one_label(tmp_path: Path) -> None:
    dataset = write_texts(tmp_path)
    loaded = LoadedModel(DearByLabel(), TokenSpec(vocab_size=12, labels=("a", "b")), "dear", Section())

    score_pairs(loaded, Evaluation(templates=TEMPLATES), Plan(16, 8), dataset.arrays, tmp_path)

    table = read_table(tmp_path / "pairs.parquet")
    assert table["first_nats"].tolist() == [6.0, 8.0 + 30, 10.0]
    assert table["second_nats"].tolist() == [7.0, 9.0 + 30, 24.0]


def test_the_preference_counts_ties_as_halves() -> None:
    result = pair_preference.score([[1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [0.0, 5.0]], pair_preference.Config())

    assert result.value == (1 + 0 + 0.5 + 1) / 4
    assert result.extra["nats"] == (1 - 2 + 0 + 5) / 4
    assert (result.influence["pair"] ** 2).sum() == pytest.approx(result.se**2)


def test_a_template_without_a_gap_or_a_pair_is_refused() -> None:
    for values in ({"text": "no gap", "pairs": [("a", "b")]}, {"text": "{}", "pairs": []}):
        with pytest.raises(ValidationError):
            Template.model_validate(values)


def test_one_pair_is_no_measurement() -> None:
    with pytest.raises(DataError, match="pair_preference: pair_nats have 1 rows"):
        pair_preference.score(np.ones((1, 2)), pair_preference.Config())
