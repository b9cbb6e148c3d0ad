"""Every file under metrics/ keeps the contract, and refuses what it can't score honestly."""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest

from genfoundry import parts
from genfoundry.errors import DataError
from genfoundry.evaluation.evidence import CATALOGUE, FACTS
from genfoundry.evaluation.scoring import asked_for
from genfoundry.metrics import bits_per_byte, distinct_n, fid_domain, is_domain, kid_domain, perplexity
from genfoundry.specs import Score, Section

ROOT = Path(__file__).resolve().parents[2]
ROWS = np.random.default_rng(0).normal(size=(6, 3))
WITH_NAN = np.where(np.arange(6)[:, None] == 4, np.nan, ROWS)


@pytest.mark.parametrize("name", parts.names("metrics"))
def test_the_file_keeps_the_contract(name: str) -> None:
    module = parts.load("metrics", name)

    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4}", module.__doc__), "names its paper"
    assert issubclass(module.Config, Section)
    module.Config()
    assert isinstance(module.HIGHER_IS_BETTER, bool)
    assert isinstance(module.VERSION, int)
    assert list(inspect.signature(module.score).parameters)[-1] == "config"
    assert asked_for(module)
    assert f"## `{name}`" in (ROOT / "docs/metrics.md").read_text()


def test_every_piece_of_evidence_names_known_facts_and_stands_in_the_docs() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    for name, item in CATALOGUE.items():
        assert set(item.facts) <= set(FACTS)
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fid_domain.score(WITH_NAN, ROWS, fid_domain.Config()), r"fid_domain: features hold NaN .* row 4"),
        (lambda: fid_domain.score(ROWS, WITH_NAN, fid_domain.Config()), r"reference_features hold NaN"),
        (lambda: fid_domain.score(ROWS * math.inf, ROWS, fid_domain.Config()), r"infinity in 6 of 6 rows"),
        (lambda: fid_domain.score(ROWS[:1], ROWS, fid_domain.Config()), r"features have 1 rows; give at least 2"),
        (lambda: fid_domain.score(ROWS, ROWS[:0], fid_domain.Config()), r"reference_features have 0 rows"),
        (lambda: fid_domain.score(ROWS, ROWS[:, :2], fid_domain.Config()), r"3 columns, reference_features 2"),
        (lambda: fid_domain.score(ROWS[0], ROWS, fid_domain.Config()), r"shape \(3,\)"),
        (lambda: kid_domain.score(ROWS[:2], ROWS, kid_domain.Config()), r"kid_domain: features have 2 rows; .* 3"),
        (lambda: kid_domain.score(ROWS, ROWS * 0 + 7, kid_domain.Config()), r"reference_features are constant"),
        (lambda: is_domain.score(WITH_NAN, is_domain.Config()), r"is_domain: logits hold NaN"),
        (lambda: is_domain.score(ROWS[:, :1], is_domain.Config()), r"1 column"),
        (lambda: perplexity.score([0.0, 0.0], [0, 0], perplexity.Config()), r"perplexity: 0 tokens were scored in 2"),
        (lambda: perplexity.score([1.0, math.nan], [1, 2], perplexity.Config()), r"nats are NaN.* row 1"),
        (lambda: perplexity.score([1.0, 2.0, 3.0], [1, 2], perplexity.Config()), r"'nats': 3, 'token_counts': 2"),
        (lambda: perplexity.score([1.0], [1], perplexity.Config()), r"at least 2 documents"),
        (lambda: perplexity.score([9e9, 9e9], [1, 1], perplexity.Config()), r"9e\+09 nats a token overflow"),
        (lambda: bits_per_byte.score([1.0, -1.0], [1, 2], bits_per_byte.Config()), r"negative for 1 of 2"),
        (lambda: bits_per_byte.score([1.0, 1.0], [0, 0], bits_per_byte.Config()), r"hold 0 bytes"),
        (lambda: distinct_n.score([[1, 2, 3], [4]], distinct_n.Config(n=2)), r"1 of 2 samples have 2 tokens"),
        (lambda: distinct_n.score([], distinct_n.Config()), r"0 of 0 samples"),
    ],
)
def test_what_can_not_be_scored_is_refused_by_name(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()  # type: ignore[operator]


def test_a_constant_unit_is_left_out_of_the_kernel_distance() -> None:
    x, dead = np.random.default_rng(1).normal(size=(9, 3)), np.full((9, 1), 1e3)
    y = np.random.default_rng(2).normal(size=(9, 3))

    plain, padded = (
        kid_domain.score(a, b, kid_domain.Config()) for a, b in ((x, y), (np.hstack([x, dead]), np.hstack([y, dead])))
    )
    assert padded == plain


def test_half_precision_features_are_scored_in_double() -> None:
    x, y = (np.random.default_rng(seed).normal(size=(40, 4)).astype(np.float16) for seed in (3, 4))

    half, double = (fid_domain.score(x.astype(kind), y.astype(kind), fid_domain.Config()) for kind in ("f2", "f8"))
    assert half == double
    assert isinstance(half, Score)
