"""Every file under metrics/ keeps the contract, and refuses what it can't score honestly."""

import ast
import inspect
import math
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genfoundry import metrics
from genfoundry.config.specs import Score, Section
from genfoundry.core import parts
from genfoundry.core.errors import DataError
from genfoundry.evaluation.evidence import CATALOGUE, FACTS, asked_for
from genfoundry.evaluation.metrics import load_metric, metric_names
from genfoundry.metrics import (
    _moments,
    bits_per_byte,
    coverage_domain,
    distinct_n,
    fid_domain,
    fid_inf_domain,
    is_domain,
    kid_domain,
    perplexity,
    precision_domain,
)
from genfoundry.metrics._checks import balanced, strata_of
from genfoundry.metrics._frechet import halves

ROOT = Path(__file__).resolve().parents[3]
ROWS = np.random.default_rng(0).normal(size=(6, 3))
WITH_NAN = np.where(np.arange(6)[:, None] == 4, np.nan, ROWS)


@pytest.mark.parametrize("name", parts.names("metrics"))
def test_the_file_keeps_the_contract(name: str) -> None:
    module = parts.load("metrics", name)

    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4}", module.__doc__), "names its paper"
    assert issubclass(module.Config, Section)
    module.Config()
    assert module.HIGHER_IS_BETTER in (True, False, None)
    assert 3 <= len(module.TITLE) <= 60
    assert module.TITLE[0].isupper()
    assert name not in module.TITLE, "a title is for people, the key stands beside it"
    assert module.CAVEAT.endswith(".")
    assert len(module.CAVEAT) >= 20
    assert len(module.COST) >= 10
    assert isinstance(module.VERSION, int)
    low, high = getattr(module, "RANGE", (-math.inf, math.inf))
    assert low < high
    taken = [one.name for one in inspect.signature(module.score).parameters.values() if one.kind != one.KEYWORD_ONLY]
    assert taken[-1] == ("name" if name.endswith("_network") else "config")
    for each in (load_metric(each) for each in metric_names()):
        assert each.module is not module or asked_for(each)


@pytest.mark.parametrize("name", parts.names("metrics"))
def test_the_docs_have_a_section(name: str) -> None:
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


FEW = (metrics.Moments(3), metrics.Moments(3).update(ROWS[:1]))
UNEVEN, NEGATIVE = np.array([[1.0, 0.5], [0.4, 1.0]]), np.array([[1.0, 2.0], [2.0, 1.0]])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: metrics.frechet_distance(WITH_NAN, ROWS), r"frechet_distance: x hold NaN .* row 4"),
        (lambda: metrics.frechet_distance(ROWS, ROWS[:1]), r"frechet_distance: y have 1 rows"),
        (lambda: metrics.frechet_distance(ROWS, ROWS[:, :2]), r"x have 3 columns, y 2"),
        (lambda: metrics.frechet_distance(ROWS * 1e200, ROWS), r"frechet_distance: the result leaves float64"),
        (lambda: metrics.frechet_distance([[1, 2], [3]], ROWS), r"x are no array of real numbers"),
        (lambda: metrics.frechet_distance(ROWS * 1j, ROWS), r"complex"),
        (lambda: metrics.frechet_distance([["a"], ["b"]], ROWS), r"no array of real numbers"),
        (lambda: metrics.frechet(ROWS, WITH_NAN), r"frechet: y hold NaN"),
        (lambda: metrics.frechet_extrapolated(ROWS[:3], ROWS), r"x have 3 rows; give at least 4"),
        (lambda: metrics.frechet_distance_from_moments([0, 0], UNEVEN, [0, 0], np.eye(2)), r"cov_x is not symmetric"),
        (
            lambda: metrics.frechet_distance_from_moments([0, 0], np.eye(2), [0, 0], NEGATIVE),
            r"cov_y has eigenvalue -1",
        ),
        (lambda: metrics.frechet_distance_from_moments([0], [[-1.0]], [0], [[1.0]]), r"variance .* negative"),
        (lambda: metrics.frechet_distance_from_moments([0], np.eye(2), [0], [[1.0]]), r"1 means need \(1, 1\)"),
        (lambda: metrics.frechet_distance_from_moments([0], [[1.0]], [0, 1], np.eye(2)), r"1 numbers, mean_y 2"),
        (lambda: metrics.frechet_distance_from_moments([math.nan], [[1.0]], [0], [[1.0]]), r"mean_x hold NaN"),
        (lambda: metrics.Moments(0), r"dimension is 0"),
        (lambda: metrics.Moments(3).update(WITH_NAN), r"Moments: rows hold NaN"),
        (lambda: metrics.Moments(2).update(ROWS), r"shape \(6, 3\); give \(N, 2\)"),
        (lambda: metrics.Moments(3).update(ROWS * 1e160), r"whose square leaves float64"),
        (lambda: metrics.Moments(3).merge(metrics.Moments(2)), r"2 features can't be merged with 3"),
        (lambda: FEW[0].mean, r"the mean of 0 rows"),
        (lambda: FEW[1].covariance, r"covariance of 1 rows"),
        (lambda: metrics.frechet_distance_from_statistics(*FEW), r"covariance of 0 rows"),
        (lambda: metrics.frechet_distance_from_statistics(FEW[0], metrics.Moments(2)), r"3 features on one side, 2"),
        (lambda: metrics.inception_score(WITH_NAN), r"inception_score: logits hold NaN"),
        (lambda: metrics.inception_score(ROWS[:1]), r"logits have 1 rows"),
        (lambda: metrics.inception_score(ROWS, splits=7), r"7 splits of 6 rows"),
        (lambda: metrics.inception_score(ROWS, splits=0), r"0 splits of 6 rows"),
        (lambda: metrics.kernel_distance(ROWS[:1], ROWS), r"kernel_distance: x have 1 rows"),
        (lambda: metrics.kernel_distance(ROWS, WITH_NAN), r"kernel_distance: y hold NaN"),
        (lambda: metrics.kernel_distance(ROWS * 1e60, ROWS), r"kernel_distance: the result leaves float64"),
        (lambda: metrics.precision_recall_density_coverage(ROWS, ROWS[:4], k=4), r"k is 4 with 6 real and 4 fake"),
        (lambda: metrics.precision_recall_density_coverage(ROWS, ROWS, k=0), r"k is 0 .* from 1 to 5"),
        (lambda: metrics.precision_recall_density_coverage(WITH_NAN, ROWS), r"real hold NaN"),
        (lambda: metrics.precision_recall_density_coverage(ROWS, ROWS[:, :1], k=1), r"real have 3 columns, fake 1"),
        (
            lambda: precision_domain.score(ROWS[:2], ROWS, precision_domain.Config()),
            r"precision_domain: features have 2",
        ),
        (lambda: coverage_domain.score(ROWS, WITH_NAN, coverage_domain.Config()), r"reference_features hold NaN"),
    ],
)
def test_public_functions_refuse_by_name(call: Callable[[], object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()


def test_every_public_name_is_there_and_no_metric_hides_it() -> None:
    assert sorted(metrics._PUBLIC) == sorted(metrics.__all__)
    assert set(metrics.__all__) <= set(dir(metrics))
    for name in metrics.__all__:
        assert name not in parts.names("metrics")
        assert callable(getattr(metrics, name))
        assert getattr(metrics, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'frechet_distanse'"):
        metrics.frechet_distanse  # noqa: B018


def test_public_names_stand_as_typed_in_the_file() -> None:
    text = Path(metrics.__file__).read_text().partition("if TYPE_CHECKING:\n")[2].partition("_PUBLIC = ")[0]
    found = {}
    for node in ast.walk(ast.parse(textwrap.dedent(text))):
        if isinstance(node, ast.ImportFrom):
            module = node.module.rpartition(".")[2]
            for alias in node.names:
                plain = alias.asname in (None, alias.name)
                found[alias.asname or alias.name] = module if plain else f"{module}.{alias.name}"
    assert found == metrics._PUBLIC


def test_importing_the_metrics_costs_no_heavy_package() -> None:
    code = (
        "import sys; from genfoundry import metrics; from genfoundry.core import parts;"
        "[parts.load('metrics', n) for n in parts.names('metrics')];"
        "[getattr(metrics, n) for n in metrics.__all__];"
        "print([m for m in ('torch', 'scipy', 'pandas', 'matplotlib', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_statistics_survive_a_file(tmp_path: Path) -> None:
    moments = metrics.Moments(3).update(ROWS[:4] + 1e8)
    moments.save(tmp_path / "statistics.npz")

    loaded = metrics.Moments.load(tmp_path / "statistics.npz").update(ROWS[4:] + 1e8)

    moments.update(ROWS[4:] + 1e8)
    assert loaded.count == 6
    np.testing.assert_array_equal(loaded.covariance, moments.covariance)
    np.testing.assert_array_equal(loaded.mean, moments.mean)
    with np.load(tmp_path / "statistics.npz") as found:
        np.testing.assert_allclose(found["mu"], (ROWS[:4] + 1e8).mean(axis=0))
        np.testing.assert_allclose(found["sigma"], np.cov(ROWS[:4].T), rtol=1e-6)
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(DataError, match=r"no count, pivot, products, rest; was it written by Moments\.save"):
        metrics.Moments.load(tmp_path / "other.npz")


def test_moments_take_blocks_of_bounded_size_and_leave_their_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_moments, "BLOCK_BYTES", 1)
    rows = np.random.default_rng(4).normal(size=(50, 4)).astype("f4")
    before, other = rows.copy(), metrics.Moments(4).update(rows[:20])
    kept = other.covariance

    found = metrics.Moments(4).update(rows)
    both = found + other

    np.testing.assert_array_equal(rows, before)
    np.testing.assert_allclose(found.covariance, np.cov(rows.astype("f8").T), rtol=1e-12)
    assert (found.count, other.count, both.count) == (50, 20, 70)
    np.testing.assert_array_equal(other.covariance, kept)


def test_tensors_of_every_width_are_taken() -> None:
    import torch

    rows = torch.arange(24).reshape(8, 3) % 7
    wanted = metrics.frechet_distance(rows.numpy(), rows.numpy()[:5])
    for kind in (torch.int64, torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64):
        tensor = rows.to(kind)
        tensor = tensor.requires_grad_() if tensor.is_floating_point() else tensor
        assert metrics.frechet_distance(tensor, tensor[:5]) == wanted
        moments = [metrics.Moments(3).update(part) for part in (tensor, tensor[:5])]
        assert metrics.frechet_distance_from_statistics(*moments) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("n", [3, 4, 6, 7])
def test_few_rows_don_t_stop_the_metrics_of_grids(n: int) -> None:
    for name in parts.names("metrics"):
        if name.endswith("_domain") and name != "is_domain":
            module = parts.load("metrics", name)
            score = module.score(ROWS[:n], ROWS[::-1], module.Config())
            assert math.isfinite(score.value)
            # Below ten rows a feature the bias of a Frechet distance is not known.
            assert math.isfinite(score.se) == (not name.startswith("fid_")), name
            assert all(math.isfinite(value) for value in score.extra.values())


def test_the_larger_side_gives_up_the_same_rows_always() -> None:
    generator = np.random.default_rng(5)
    fake, real = generator.normal(size=(9, 2)), generator.normal(size=(30, 2))

    first, again = (precision_domain.score(fake, real, precision_domain.Config(k=2)) for _ in range(2))
    capped = precision_domain.score(fake, real, precision_domain.Config(k=2, rows=6))

    assert first == again
    assert (first.count, first.extra["n_reference"], capped.count) == (9, 9, 6)
    assert precision_domain.score(fake, real, precision_domain.Config(k=50)).extra["k"] == 7


@pytest.mark.parametrize("name", [name for name in parts.names("metrics") if name.endswith("_domain")])
def test_the_influences_of_a_score_are_its_error_bar(name: str) -> None:
    generator, module = np.random.default_rng(6), parts.load("metrics", name)
    sets = [generator.normal(size=(30, 3)), generator.normal(size=(40, 3)) + 0.5]
    sets = sets[:1] if name == "is_domain" else sets

    score = module.score(*sets, module.Config())

    assert [len(part) for part in score.influence.values()] == [30, 40][: len(sets)]
    assert list(score.influence) == ["sample", "test"][: len(sets)]
    assert math.sqrt(sum(float((part**2).sum()) for part in score.influence.values())) == pytest.approx(score.se)
    assert all(abs(part.mean()) < 1e-12 * max(score.se, 1) for part in score.influence.values())


def test_the_extrapolated_distance_says_when_it_is_none() -> None:
    config = fid_inf_domain.Config()

    halved, plain = (fid_inf_domain.score(ROWS[:n], ROWS, config) for n in (4, 3))

    assert (halved.extra["extrapolated"], plain.extra["extrapolated"]) == (1, 0)
    assert plain.value == pytest.approx(fid_domain.score(ROWS[:3], ROWS, fid_domain.Config()).value)
    assert halved.value == max(halved.extra["unclipped"], 0)
    assert halved.extra["rows_per_feature"] == 4 / 3


def test_the_interval_of_a_frechet_score_is_that_of_the_distance_without_bias() -> None:
    """Real and generated rows of one law: the plain distance is far above 0, which the interval should hold."""
    generator, held = np.random.default_rng(0), 0
    for _ in range(60):
        x, y = generator.normal(size=(2, 100, 8))
        score = fid_domain.score(x, y, fid_domain.Config())
        low, high = score.interval
        held += low <= 0 <= high
        # Not below 0, where the extrapolation may fall: the bar would say that the distance is 0 for sure.
        assert score.bias <= score.value
        assert (low + high) / 2 == pytest.approx(score.value - score.bias)
        assert score.value == metrics.frechet_distance(x, y) > 1.96 * score.se
    assert held > 50


@pytest.mark.parametrize("module", [fid_domain, fid_inf_domain, kid_domain])
def test_labels_that_were_asked_for_narrow_the_interval(module: Any) -> None:
    """Where classes are far apart and of fixed number, only the variance within them is chance."""
    generator, spread, ses = np.random.default_rng(0), [], []
    labels = np.arange(120) % 3
    real = 5 * np.eye(3)[generator.integers(0, 3, 2000)] + generator.normal(size=(2000, 3))
    for _ in range(40):
        x = 5 * np.eye(3)[labels] + generator.normal(size=(120, 3)) + [1, 0, 0]
        score = module.score(x, real, module.Config(), sample_labels=labels)
        plain = module.score(x, real, module.Config())
        spread.append(score.extra.get("unclipped", score.value - score.bias))
        ses.append((score.se, plain.se))
        assert math.sqrt(sum(float((part**2).sum()) for part in score.influence.values())) == pytest.approx(score.se)
    within, across = np.mean(ses, axis=0)
    assert within < 0.8 * across
    assert within == pytest.approx(np.std(spread), rel=0.35)


def test_labels_with_two_rows_are_strata() -> None:
    assert strata_of("m", None, 8) is None
    assert strata_of("m", list("abababab"), 8).tolist() == [0, 1] * 4
    # Labels with one row are one stratum, with the next larger one where it is alone.
    assert strata_of("m", list("aabbcd"), 6).tolist() == [1, 1, 2, 2, 0, 0]
    assert strata_of("m", list("aaabbc"), 6).tolist() == [1, 1, 1, 0, 0, 0]
    assert strata_of("m", list("abcdefgh"), 8) is None
    first, second = halves(10, np.array([0, 1] * 5))
    assert sorted([*first, *second]) == list(range(10))
    assert abs(int((first % 2).sum()) - int((second % 2).sum())) <= 1


def test_real_records_are_divided_by_label_only_where_there_are_equally_many() -> None:
    generator = np.random.default_rng(0)
    assert balanced("m", None, 8) is None
    assert balanced("m", [0, 1, 0, 1, 1], 5) == [0, 1, 0, 1, 1]
    # One record lost to the deduplication; as drawn; each label once, which says nothing; few of many labels, as drawn.
    assert balanced("m", np.delete(np.arange(1000) % 10, [3, 13, 500]), 997) is not None
    assert balanced("m", generator.integers(0, 10, 1000), 1000) is None
    assert balanced("m", np.arange(8), 8) is None
    assert balanced("m", generator.integers(0, 320, 640), 640) is None
    with pytest.raises(DataError, match="labels have shape"):
        metrics.frechet_extrapolated(ROWS, ROWS, reference_labels=[0])


@pytest.mark.parametrize(("n", "labels"), [(320, 10), (320, 160), (321, 107), (325, 165)])
def test_labels_of_fixed_number_are_no_bias(n: int, labels: int) -> None:
    """Far apart on both sides, of two, three or many rows, odd or even: the distance without bias is the true one."""
    generator, turn = np.random.default_rng(0), np.arange(n) % labels
    centres, held = 3 * np.random.default_rng(1).normal(size=(labels, 32)), 0
    for _ in range(20):
        x, y = (width * (centres[turn] + generator.normal(size=(n, 32))) for width in (1.1, 1.0))
        score = fid_domain.score(x, y, fid_domain.Config(), sample_labels=turn, reference_labels=turn)
        true = 0.01 * ((centres[turn] ** 2).mean(axis=0).sum() + 32)
        low, high = score.interval
        held += low <= true <= high
    assert held >= 17


def test_rows_that_are_the_only_one_of_their_label_give_no_error_bar() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 60, 4))
    mostly, rarely = (
        np.arange(60) // 2 * 2 + np.arange(60) % 2 * (np.arange(60) < 40),
        np.r_[np.zeros(50), np.arange(10)],
    )

    alone, few = (fid_domain.score(x, y, fid_domain.Config(), sample_labels=labels) for labels in (mostly, rarely))

    assert math.isnan(alone.se) and alone.bias == 0 and not alone.influence
    assert np.isfinite(few.se) and few.bias > 0


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
