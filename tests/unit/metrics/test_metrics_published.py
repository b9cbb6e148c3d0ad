"""Metrics of published networks: the arithmetic of their papers on features, with their names in every refusal."""

import math

import numpy as np
import pytest

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError
from genfoundry.evaluation.metrics import load_metric, metric_names
from genfoundry.metrics import fid_domain, kid_domain

X, Y = (np.random.default_rng(seed).normal(size=(60, 5)) + 1 for seed in (0, 1))
DISTANCES = [("fid", "inception"), ("fd_dinov2", "dinov2"), ("fd_clip", "clip"), ("fd_efficientnet", "efficientnet")]


def score(name: str, x: object, y: object = None, **options: object) -> Score:
    """By name, as the stage evaluate asks for it."""
    metric = load_metric(name)
    return metric.score(dict(zip(metric.asks, (x, y), strict=False)), metric.config(**options))


@pytest.mark.parametrize(("name", "network"), DISTANCES)
def test_each_network_has_its_scores_by_its_own_evidence(name: str, network: str) -> None:
    assert load_metric(name).asks == (f"{network}_features", f"reference_{network}_features")
    family = {"inception": ("kid", "isc")}.get(network, (f"kd_{network}", f"is_{network}"))
    assert [load_metric(each).asks[0] for each in family] == [f"{network}_features", f"{network}_logits"]
    assert not {"fd_inception", "fd_domain", "fd_network"} & set(metric_names())


@pytest.mark.parametrize("name", [name for name, _ in DISTANCES])
def test_a_shift_costs_its_square(name: str) -> None:
    found = score(name, X + np.array([3, 0, 4, 0, 0]), X)

    assert found.value == pytest.approx(25)
    assert found.count == found.extra["n_reference"] == 60
    assert found.extra["relative_to_spread"] == pytest.approx(25 / np.trace(np.cov(X.T)))


@pytest.mark.parametrize("name", [name for name, _ in DISTANCES])
def test_the_distance_has_the_error_bar_of_the_data_sets_own(name: str) -> None:
    assert score(name, X, Y) == fid_domain.score(X, Y, fid_domain.Config())


def test_the_kernel_distance_takes_features_as_they_are() -> None:
    found = score("kid", X, Y)

    assert found == kid_domain.score(X, Y, kid_domain.Config(standardise=False))
    assert found.value != kid_domain.score(X, Y, kid_domain.Config()).value
    # Three points a side by hand, D = 1: k(a, b) = (a b + 1)^3.
    x, y = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0], [0.0], [2.0]])
    wanted = (2 * (1 + 1 + 8)) / 6 + (2 * (1 + 1 + 1)) / 6 - 2 * (3 * 1 + 2 * (1 + 1 + 27)) / 9
    assert score("kid", x, y).value == pytest.approx(wanted)


def test_sure_and_even_is_the_number_of_classes_in_every_part() -> None:
    logits = np.tile(200.0 * np.eye(4), (10, 1))

    found = score("isc", logits)

    assert found.value == pytest.approx(4)
    assert found.extra["splits_std"] == pytest.approx(0, abs=1e-12)
    assert found.se == pytest.approx(0, abs=1e-9)
    # One part of one class, one of two: (1 + 2) / 2 with deviation 1/2.
    halves = 200.0 * np.eye(2)[[0, 0, 0, 1]]
    split = score("isc", halves, splits=2)
    assert (split.value, split.extra["splits_std"]) == (pytest.approx(1.5), pytest.approx(0.5))


def test_the_error_bar_of_the_score_is_the_spread_over_draws() -> None:
    values, told = [], []
    for seed in range(150):
        logits = np.random.default_rng(seed).normal(size=(600, 6)) * 2
        found = score("isc", logits, splits=1)
        values.append(found.value)
        told.append(found.se)

    assert np.mean(told) == pytest.approx(np.std(values), rel=0.25)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: score("fid", X * math.nan, Y), r"fid: features hold NaN"),
        (lambda: score("fd_clip", X, Y[:1]), r"fd_clip: reference_features have 1 rows"),
        (lambda: score("fd_dinov2", X, Y[:, :3]), r"fd_dinov2: features .*5 columns"),
        (lambda: score("kid", X[:2], Y), r"kid: features have 2 rows; .* 3"),
        (lambda: score("isc", X[:19]), r"isc: 19 samples for 10 parts"),
        (lambda: score("is_efficientnet", X[:, :1]), r"is_efficientnet: logits have 1 column"),
    ],
)
def test_what_can_not_be_scored_is_refused_by_name(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()  # type: ignore[operator]
