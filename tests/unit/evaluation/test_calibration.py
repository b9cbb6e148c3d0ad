"""Is a classifier right as often as it is sure, and does the page of a reference say so?"""

import math
from pathlib import Path

import numpy as np
import pytest
from graded import write_images, write_texts

from genfoundry.config.sections.reference import Reference
from genfoundry.core.errors import DataError
from genfoundry.core.io import read_json
from genfoundry.evaluation import charts
from genfoundry.evaluation.calibration import calibration, confusion, probabilities, wilson
from genfoundry.evaluation.reference import write_reference
from genfoundry.evaluation.reference_page import by_length, write_reference_page


def logits_of(confidence: list[float]) -> np.ndarray:
    """Two classes, the first of the given probability."""
    p = np.array(confidence)
    return np.log(np.stack([p, 1 - p], axis=1))


def test_the_error_is_the_weighted_gap_of_the_bins() -> None:
    # Bins of a third: (1/3, 2/3] holds the first two, (2/3, 1] the others.
    logits = logits_of([0.6, 0.6, 0.9, 0.9, 0.8, 1 - 1e-9])
    labels = np.array([0, 0, 0, 0, 1, 0])

    found = calibration(logits, labels, bins=3)

    low, high = found.bins
    assert (low.count, low.accuracy, high.count, high.accuracy) == (2, 1.0, 4, 0.75)
    assert low.confidence == pytest.approx(0.6)
    assert high.confidence == pytest.approx(0.9)
    assert found.error == pytest.approx(2 / 6 * 0.4 + 4 / 6 * 0.15)
    # The first bin is right more often than it is sure, the second less often.
    moves = [0.4, 0.4, -0.1, -0.1, 0.8, 0.0]
    assert found.se == pytest.approx(np.std(moves, ddof=1) / math.sqrt(6), abs=1e-6)
    variances = 2 * 0.6 * 0.4, 2 * 0.9 * 0.1 + 0.8 * 0.2
    assert found.if_perfect == pytest.approx(sum(math.sqrt(2 / math.pi * v) for v in variances) / 6, abs=1e-6)


def test_a_bin_ends_with_its_upper_edge() -> None:
    found = calibration(logits_of([0.5, 0.5, 0.75, 0.75]), np.zeros(4, np.int64), bins=4)

    assert [held.count for held in found.bins] == [2, 2]


def test_a_calibrated_classifier_gets_what_a_perfect_one_would_and_an_overconfident_one_its_gap() -> None:
    generator = np.random.default_rng(0)
    p = generator.uniform(0.5, 1, 20_000)
    labels = (generator.random(20_000) > p).astype(np.int64)

    calm, sure = calibration(logits_of(list(p)), labels), calibration(4 * logits_of(list(p)), labels)

    assert calm.error == pytest.approx(calm.if_perfect, rel=0.5)
    gap = float(probabilities(4 * logits_of(list(p))).max(axis=1).mean() - p.mean())
    assert sure.error == pytest.approx(gap, abs=4 * sure.se)
    assert sure.error > 10 * sure.if_perfect


def test_the_standard_error_is_the_spread_over_draws() -> None:
    generator = np.random.default_rng(1)
    errors, told = [], []
    for _ in range(200):
        p = generator.uniform(0.5, 1, 500)
        labels = (generator.random(500) > p).astype(np.int64)
        found = calibration(4 * logits_of(list(p)), labels)
        errors.append(found.error)
        told.append(found.se)

    assert np.mean(told) == pytest.approx(np.std(errors), rel=0.2)


def test_any_gap_between_logits_is_finite() -> None:
    assert probabilities(np.array([[0.0, -1e5], [1e5, 0.0]])).tolist() == [[1, 0], [1, 0]]


@pytest.mark.parametrize(
    ("logits", "labels", "words"),
    [
        (np.zeros((3, 2)), np.zeros(2, np.int64), "3 rows of logits and 2 labels"),
        (np.zeros((1, 2)), np.zeros(1, np.int64), "at least 2"),
        (np.array([[0, np.nan], [0, 1]]), np.zeros(2, np.int64), "NaN or infinity"),
    ],
)
def test_what_can_not_be_judged_is_refused(logits: np.ndarray, labels: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        calibration(logits, labels)


def test_an_interval_of_a_share_stays_within_its_bounds() -> None:
    # Wilson's interval for 0 and 10 of 10: z^2 / (n + z^2).
    width = 1.959964**2 / (10 + 1.959964**2)

    assert wilson(np.zeros(10)) == pytest.approx((0, width))
    assert wilson(np.ones(10)) == pytest.approx((1 - width, 1))


def test_confusions_are_counted_by_right_class_and_guess() -> None:
    logits = np.eye(3)[[0, 1, 1, 2]]

    assert confusion(logits, np.array([0, 0, 1, 1])).tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]


def test_bits_by_length_are_those_of_each_group() -> None:
    sizes = np.array([10, 20, 100, 200, 0])
    bits = np.array([40.0, 80.0, 100.0, 300.0, 0.0])

    short, long = by_length({"unigram": bits * math.log(2)}, sizes, bins=2)["unigram"]

    assert (short.x, short.y) == (15, pytest.approx(4))
    assert (long.x, long.y) == (150, pytest.approx(400 / 300))
    assert short.low == pytest.approx(short.high), "the same price per byte in both"
    se = math.sqrt(2 * ((100 - 400 / 3) ** 2 + (300 - 800 / 3) ** 2)) / 300
    assert long.high - long.y == pytest.approx(1.96 * se)


# the page


def test_the_page_of_a_classifier_shows_what_it_confuses_and_how_sure_it_is(tmp_path: Path) -> None:
    paths = write_images(tmp_path)
    numbers = write_reference(paths, Reference(features=4, steps=60, max_error_ratio=1e9))
    write_reference_page(paths, numbers)
    page = (paths.reports / "reference.html").read_text()
    logits, labels = np.load(paths.reference / "test_logits.npy"), np.load(paths.arrays / "test_labels.npy")

    assert numbers["calibration"]["error"] == calibration(logits, labels).error
    assert f"{numbers['calibration']['error']:.4f}" in page
    assert page.count("<rect") == 4, "two classes by two"
    assert "aria-label='reliability diagram'" in page
    assert "<polyline" not in page, "bins are no curve"
    assert numbers["digest"] in page
    assert "fid_domain" in page
    assert "src='http" not in page
    write_reference_page(paths, numbers)
    assert (paths.reports / "reference.html").read_text() == page


@pytest.mark.parametrize(
    ("labelled", "words"), [(False, "have no labels to learn from"), (True, "A classifier was trained and not used")]
)
def test_the_page_of_components_says_why(labelled: bool, words: str, tmp_path: Path) -> None:
    paths = write_images(tmp_path, labelled=labelled)
    write_reference_page(paths, write_reference(paths, Reference(features=4, steps=2, max_error_ratio=1e-9)))
    page = (paths.reports / "reference.html").read_text()

    assert words in page
    assert "principal components" in page
    assert "reliability" not in page


def test_the_page_of_n_grams_shows_what_they_pay_by_length(tmp_path: Path) -> None:
    paths = write_texts(tmp_path)
    numbers = write_reference(paths, Reference())
    write_reference_page(paths, numbers)
    page = (paths.reports / "reference.html").read_text()

    assert "aria-label='bits per byte by length'" in page
    assert f"{numbers['bigram']['bits_per_byte']:.4g}" in page
    assert page.count("<polyline") == 2
    assert read_json(paths.arrays / "spec.json")["kind"] == "token"


# charts


def test_ticks_of_a_logarithmic_axis_are_round() -> None:
    assert charts._log_ticks(8, 120) == [10, 20, 50, 100]
    assert charts._log_ticks(1, 1e4) == [1, 10, 100, 1000, 10_000]


def test_a_single_point_is_a_chart_too() -> None:
    found = charts.measured("one", {"a": [charts.Point(5, 1, 1, 1)]}, ("x", "y"), logarithmic=True)

    assert found.count("<circle") == 1
    assert "nan" not in found


def test_names_and_words_are_escaped() -> None:
    found = charts.heat("<i>", ["<b>", "c"], [[1, 2], [3, 4]], ("is", "as"))

    assert "<b>" not in found
    assert "<i>" not in found
    assert found.count("<rect") == 4
