"""Metrics of published networks: the arithmetic of their papers on features, with their names in every refusal."""

import math

import numpy as np
import pytest

from genfoundry.core.errors import DataError
from genfoundry.metrics import fd_clip, fd_dinov2, fid, fid_domain, isc, kid, kid_domain

X, Y = (np.random.default_rng(seed).normal(size=(60, 5)) + 1 for seed in (0, 1))
DISTANCES = [(fid, "inception"), (fd_dinov2, "dinov2"), (fd_clip, "clip")]


@pytest.mark.parametrize("metric", [metric for metric, _ in DISTANCES])
def test_a_shift_costs_its_square(metric: object) -> None:
    found = metric.score(X + np.array([3, 0, 4, 0, 0]), X, metric.Config())  # type: ignore[attr-defined]

    assert found.value == pytest.approx(25)
    assert found.count == found.extra["n_reference"] == 60
    assert found.extra["relative_to_spread"] == pytest.approx(25 / np.trace(np.cov(X.T)))


@pytest.mark.parametrize("metric", [metric for metric, _ in DISTANCES])
def test_the_distance_has_the_error_bar_of_the_data_sets_own(metric: object) -> None:
    assert metric.score(X, Y, metric.Config()) == fid_domain.score(X, Y, fid_domain.Config())  # type: ignore[attr-defined]


def test_the_kernel_distance_takes_features_as_they_are() -> None:
    found = kid.score(X, Y, kid.Config())

    assert found == kid_domain.score(X, Y, kid_domain.Config(standardise=False))
    assert found.value != kid_domain.score(X, Y, kid_domain.Config()).value
    # Three points a side by hand, D = 1: k(a, b) = (a b + 1)^3.
    x, y = np.array([[0.0], [1.0], [1.0]]), np.array([[0.0], [0.0], [2.0]])
    wanted = (2 * (1 + 1 + 8)) / 6 + (2 * (1 + 1 + 1)) / 6 - 2 * (3 * 1 + 2 * (1 + 1 + 27)) / 9
    assert kid.score(x, y, kid.Config()).value == pytest.approx(wanted)


def test_sure_and_even_is_the_number_of_classes_in_every_part() -> None:
    logits = np.tile(200.0 * np.eye(4), (10, 1))

    found = isc.score(logits, isc.Config())

    assert found.value == pytest.approx(4)
    assert found.extra["splits_std"] == pytest.approx(0, abs=1e-12)
    assert found.se == pytest.approx(0, abs=1e-9)
    # One part of one class, one of two: (1 + 2) / 2 with deviation 1/2.
    halves = 200.0 * np.eye(2)[[0, 0, 0, 1]]
    split = isc.score(halves, isc.Config(splits=2))
    assert (split.value, split.extra["splits_std"]) == (pytest.approx(1.5), pytest.approx(0.5))


def test_the_error_bar_of_the_score_is_the_spread_over_draws() -> None:
    values, told = [], []
    for seed in range(150):
        logits = np.random.default_rng(seed).normal(size=(600, 6)) * 2
        found = isc.score(logits, isc.Config(splits=1))
        values.append(found.value)
        told.append(found.se)

    assert np.mean(told) == pytest.approx(np.std(values), rel=0.25)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fid.score(X * math.nan, Y, fid.Config()), r"fid: inception_features hold NaN"),
        (lambda: fd_clip.score(X, Y[:1], fd_clip.Config()), r"fd_clip: reference_clip_features have 1 rows"),
        (lambda: fd_dinov2.score(X, Y[:, :3], fd_dinov2.Config()), r"fd_dinov2: dinov2_features .*5 columns"),
        (lambda: kid.score(X[:2], Y, kid.Config()), r"kid: inception_features have 2 rows; .* 3"),
        (lambda: isc.score(X[:19], isc.Config()), r"isc: 19 samples for 10 parts"),
        (lambda: isc.score(X[:, :1], isc.Config()), r"isc: inception_logits have 1 column"),
    ],
)
def test_what_can_not_be_scored_is_refused_by_name(call: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        call()  # type: ignore[operator]
