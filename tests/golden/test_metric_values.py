"""Scores whose value is known on paper, or from 50-digit arithmetic over another formula.

The cases stand in ``cases/*.json`` with how each was obtained (``make_cases.py``); where torchmetrics 1.9 gives NaN,
infinity or a wrong number, that is said beside them. Below them: error bars, influences, and files of metrics.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exact
import mpmath
import numpy as np
import pytest
import torch

from genfoundry import metrics
from genfoundry.metrics import _balls, _bures, _kernel, bits_per_byte, distinct_n, is_domain, kid_domain, perplexity
from genfoundry.metrics._neighbours import estimates
from genfoundry.metrics._ratio import ratio

CASES = {
    f"{file.stem}: {found['name']}": found
    for file in sorted((Path(__file__).parent / "cases").glob("*.json"))
    for found in json.loads(file.read_text())
}


def shards(parts: list[Any]) -> metrics.Moments:
    """Statistics of each part on its own, merged."""
    found = metrics.Moments(max(np.shape(part)[1] for part in parts if len(part)))
    for part in parts:
        found = found + metrics.Moments(found.dimension).update(part)
    return found


def by_context(tokens: np.ndarray) -> np.ndarray:
    """A model whose price is one over the number of tokens it sees before."""
    return 1 / np.arange(1, len(tokens))


CALLS: dict[str, Callable[..., Any]] = {
    "frechet_distance": metrics.frechet_distance,
    "frechet_distance_from_moments": metrics.frechet_distance_from_moments,
    "statistics": lambda x, y: metrics.frechet_distance_from_statistics(shards(x), shards(y)),
    "shard_moments": lambda x: [*shards(x).mean, *shards(x).covariance.ravel()],
    "inception_score": lambda logits, splits: list(metrics.inception_score(logits, splits)),
    "kernel_distance": lambda x, y: metrics.kernel_distance(x, y).value,
    "precision_recall_density_coverage": lambda **sets: list(metrics.precision_recall_density_coverage(**sets)),
    "perplexity_per_unit": lambda nats, units: metrics.perplexity_per_unit(nats, units).value,
    "bits_per_unit": lambda nats, units: metrics.bits_per_unit(nats, units).value,
    "text_scores": lambda **columns: [score.value for score in metrics.text_scores(**columns).values()],
    "count_units": lambda text: list(metrics.count_units(text)),
    "nats_from_logits": lambda **given: list(metrics.nats_from_logits(**given)[:2]),
    "sliding_windows": lambda **given: [list(span) for span in metrics.sliding_windows(**given)],
    "score_sliding": lambda **given: list(metrics.score_sliding(by_context, start=0, **given)[:2]),
    "exact_copy_share": lambda samples, training: metrics.exact_copy_share(np.array(samples), np.array(training)).value,
    "authenticity_share": lambda samples, training: metrics.authenticity_share(samples, training).value,
}

TENSORS = ("x", "y", "logits", "real", "fake")
"""Arguments that are given in the case's precision."""


def flat(value: Any) -> list[float]:
    """Numbers of nested lists, in order."""
    return [number for item in value for number in flat(item)] if isinstance(value, list) else [value]


def given(found: dict[str, Any], form: str) -> dict[str, Any]:
    """The arguments as lists, numpy arrays or tensors; numpy has no bfloat16."""
    arguments = dict(found["arguments"])
    if form == "list" or found["call"] in ("statistics", "shard_moments"):
        return arguments
    for name in TENSORS:
        if name in arguments:
            tensor = torch.tensor(arguments[name], dtype=getattr(torch, found["dtype"]))
            arguments[name] = tensor if form == "tensor" or found["dtype"] == "bfloat16" else tensor.numpy()
    return arguments


@pytest.mark.parametrize("form", ["array", "list", "tensor"])
@pytest.mark.parametrize("name", CASES)
def test_the_value_is_the_one_known(name: str, form: str) -> None:
    found = CASES[name]

    value, wanted = flat(CALLS[found["call"]](**given(found, form))), flat(found["wanted"])

    assert len(value) == len(wanted)
    assert all(math.isfinite(number) for number in value)
    # Where 0 is wanted: one part in 1e12 of numbers of about 1.
    assert value == pytest.approx(wanted, rel=1e-6, abs=1e-12 if 0 in wanted else 0)


def test_there_are_cases_of_every_kind_with_their_source() -> None:
    assert len(CASES) >= 100
    assert {found["call"] for found in CASES.values()} == set(CALLS)
    assert all(found["how"] for found in CASES.values())
    wrong = [name for name, found in CASES.items() if "torchmetrics" in found]
    assert {name.split(":")[0] for name in wrong} == {"frechet", "inception", "kernel", "text"}
    assert len(wrong) >= 7


def test_the_influence_of_a_row_is_the_derivative_by_its_weight() -> None:
    generator = np.random.default_rng(5)
    x = generator.normal(size=(12, 3)) @ np.diag([1, 2, 0.5]) + 0.3
    y = generator.normal(size=(15, 3))
    found = metrics.frechet(x, y)

    def moved(rows: np.ndarray, row: int, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Moments with a little more weight on one row."""
        mean, covariance = rows.mean(0), np.cov(rows.T)
        away = rows[row] - mean
        return mean + step * away, covariance + step * (np.outer(away, away) - covariance)

    def slopes(rows: np.ndarray, other: np.ndarray) -> np.ndarray:
        still = other.mean(0), np.cov(other.T)
        ends = (
            [metrics.frechet_distance_from_moments(*moved(rows, row, step), *still) for row in range(len(rows))]
            for step in (1e-6, -1e-6)
        )
        found = np.subtract(*ends) / 2e-6
        # A sample's covariance divides by n - 1, so the slopes have a small common mean, which no error bar sees.
        return found - found.mean()

    np.testing.assert_allclose(slopes(x, y), found.influence, atol=1e-6)
    np.testing.assert_allclose(slopes(y, x), found.reference_influence, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("block", [3, 512])
def test_error_bars_of_precision_and_its_kin_are_the_jackknife_of_both_sides(
    seed: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_balls, "BLOCK", block)
    generator = np.random.default_rng(seed)
    # Whole numbers on every second seed: ties and copies.
    real, fake = (np.round(generator.normal(size=(n, 2)) * 2, 8 * (seed % 2)) for n in (9, 7))

    def spread(values: list[list[float]]) -> np.ndarray:
        return (len(values) - 1) * np.var(values, axis=0)

    def numbers(x: np.ndarray, y: np.ndarray) -> list[float]:
        return [float(value) for value in exact.neighbours(x.tolist(), y.tolist(), 2)]

    without = [[numbers(np.delete(real, row, 0), fake) for row in range(9)]]
    without += [[numbers(real, np.delete(fake, row, 0)) for row in range(7)]]
    found = estimates(real, fake, 2)
    assert found.values == pytest.approx(numbers(real, fake), rel=1e-14)
    assert found.errors == pytest.approx(np.sqrt(sum(map(spread, without))), rel=1e-9, abs=1e-12)


def test_routes_of_the_frechet_distance_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(12)
    for n, m, d in ((90, 120, 70), (80, 90, 100), (70, 300, 100)):
        x, y = generator.normal(size=(n, d)) * 1.1, generator.normal(size=(m, d)) + 0.1
        quick, maps = metrics.frechet_distance(x, y), metrics.frechet(x, y)
        streamed = metrics.frechet_distance_from_statistics(*(metrics.Moments(d).update(part) for part in (x, y)))
        with monkeypatch.context() as patch:
            patch.setattr(_bures, "SMALL", 10**9)
            exactly, exact_maps = metrics.frechet_distance(x, y), metrics.frechet(x, y)
        assert quick == pytest.approx(exactly, rel=1e-10)
        assert streamed == pytest.approx(exactly, rel=1e-8)
        assert maps.distance == pytest.approx(exactly, rel=1e-10)
        np.testing.assert_allclose(maps.influence, exact_maps.influence, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(maps.reference_influence, exact_maps.reference_influence, rtol=1e-6, atol=1e-8)


def test_the_quick_route_gives_up_where_rounding_would_show() -> None:
    generator = np.random.default_rng(13)
    x = generator.normal(size=(200, 80))
    close = x + 1e-5 * generator.normal(size=x.shape)
    assert _bures.quick(np.cov(x.T), np.cov(close.T), 0.0) is None
    assert _bures.quick(np.cov(x[:50].T), np.cov(close.T), 0.0) is None
    assert _bures.quick(np.cov(x.T), np.cov(2 * x.T), 0.0) == pytest.approx(np.trace(np.cov(x.T)), rel=1e-9)


def test_the_error_bar_of_the_inception_score_against_fifty_digits() -> None:
    logits = np.random.default_rng(6).normal(size=(9, 4)) * 3
    with mpmath.workdps(50):
        rows = [[mpmath.exp(value) for value in row] for row in logits.tolist()]
        rows = [[value / mpmath.fsum(row) for value in row] for row in rows]
        mean = [mpmath.fsum(row[k] for row in rows) / len(rows) for k in range(4)]
        divergences = [mpmath.fsum(row[k] * mpmath.log(row[k] / mean[k]) for k in range(4)) for row in rows]
        nats = mpmath.fsum(divergences) / len(rows)
        variance = mpmath.fsum((value - nats) ** 2 for value in divergences) / (len(rows) - 1)
        wanted_se = mpmath.exp(nats) * mpmath.sqrt(variance / len(rows))

    assert is_domain.score(logits, is_domain.Config()).se == pytest.approx(float(wanted_se), rel=1e-13)


X, Y = [[1, 2, 0], [3, -1, 1], [0, 0, 2], [2, 2, -1]], [[0, 1, 1], [-2, 1, 0], [1, 1, 1], [3, 0, 2], [1, -1, 0]]


@pytest.mark.parametrize("block", [3, 1024])
def test_the_kernel_distances_error_bar_is_the_jackknife_of_both_sides(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_kernel, "BLOCK", block)

    def spread(values: list[float]) -> float:
        return (len(values) - 1) * float(np.var(values))

    without_x = [float(exact.kernel_distance(X[:row] + X[row + 1 :], Y)) for row in range(len(X))]
    without_y = [float(exact.kernel_distance(X, Y[:row] + Y[row + 1 :])) for row in range(len(Y))]

    found = metrics.kernel_distance(X, Y)
    assert float(found) == pytest.approx(float(exact.kernel_distance(X, Y)), rel=1e-14)
    assert found.se == pytest.approx(math.sqrt(spread(without_x) + spread(without_y)), rel=1e-12)
    assert kid_domain.score(X, Y, kid_domain.Config(standardise=False)).se == found.se


def test_standardised_features_have_no_unit() -> None:
    generator = np.random.default_rng(7)
    x, y = generator.normal(size=(30, 3)), generator.normal(size=(40, 3)) * 1.5
    scale, shift = np.array([1e-3, 1.0, 50.0]), np.array([5.0, 0.0, -3.0])

    plain, other = (
        kid_domain.score(a, b, kid_domain.Config()).value for a, b in ((x, y), (x * scale + shift, y * scale + shift))
    )
    assert other == pytest.approx(plain, rel=1e-9)


# Likelihood


def test_a_model_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    tokens = np.array([3, 5, 1])

    score = perplexity.score(tokens * math.log(4096), tokens, perplexity.Config())

    assert score.value == pytest.approx(4096, rel=1e-12)
    assert score.se == pytest.approx(0, abs=1e-8)


def test_tokens_are_weighed_and_not_documents() -> None:
    # A mean over documents of their own perplexities (Hugging Face evaluate) would give (exp(10) + 1) / 2.
    assert perplexity.score([10.0, 0.0], [1, 9], perplexity.Config()).value == pytest.approx(math.e, rel=1e-14)


def test_the_count_goes_beyond_two_to_the_twenty_four() -> None:
    # torchmetrics adds tokens up in float32: after 2^24 tokens, 1,000 updates of one token added none.
    score = perplexity.score([2.0**24, *[3.0] * 1000], [2**24, *[1] * 1000], perplexity.Config())

    assert score.extra["tokens"] == 2**24 + 1000
    assert score.value == pytest.approx(math.exp((2**24 + 3000) / (2**24 + 1000)), rel=1e-15)


def test_one_bit_of_nats_for_each_bit_of_text_is_eight_bits_a_byte() -> None:
    size = np.array([10, 200, 33])

    assert bits_per_byte.score(size * 8 * math.log(2), size, bits_per_byte.Config()).value == pytest.approx(
        8, rel=1e-14
    )


def test_the_ratio_by_hand() -> None:
    # 6/4 = 1.5; residuals 1 - 1.5*1 = -0.5 and 5 - 1.5*3 = 0.5; 2/1 * (0.25 + 0.25) / 4^2 = 1/16.
    assert ratio(np.array([1.0, 5.0]), np.array([1.0, 3.0]))[:2] == pytest.approx((1.5, 0.25))


# Distinct-n


def test_distinct_n_by_hand() -> None:
    samples = [[1, 2, 1, 2], [2, 1], [3], [3, 4, 5]]  # bigrams 12 21 12, 21, none, 34 45: four different of six

    score = distinct_n.score(samples, distinct_n.Config(n=2))

    assert (score.value, score.count, score.extra["grams"]) == (4 / 6, 3, 6)
    without = [3 / 3, 4 / 5, 2 / 4]
    assert score.se == pytest.approx(math.sqrt(2 * np.var(without)))
