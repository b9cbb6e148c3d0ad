"""Calibration on synthetic duplicates: true copies, flat pictures and look-alikes in the set."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dataline import Line, save
from test_alignment import framed, scene, sky

from genfoundry.data.deduplicate import calibration, page
from genfoundry.data.similarity import descriptor
from genfoundry.data.similarity.keepers import Rule, keep
from genfoundry.modalities import image
from genfoundry.modalities.image import edits

MOVED = ("mirrored", "cropped", "recoloured")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the synthetic duplicates: enough for sets that are clear."""
    monkeypatch.setattr(calibration, "ROUNDS", 1)
    monkeypatch.setattr(calibration, "SYNTHETIC", 220)
    monkeypatch.setattr(calibration, "WEAK_ROUNDS", 12)


def sample(pictures: list[np.ndarray]) -> pd.DataFrame:
    rows = [(str(n), one.tobytes(), *one.shape[:2]) for n, one in enumerate(pictures)]
    return pd.DataFrame(rows, columns=["id", "content", "height", "width"])


def calibrated(pictures: list[np.ndarray], **given: float) -> tuple[Rule, calibration.Synthetic]:
    return calibration.calibrate(image, image.Dedup(**given), sample(pictures), len(pictures))


def test_unlike_pictures_get_a_wide_rule_and_look_alikes_a_strict_one() -> None:
    unlike = [scene(n) for n in range(66)]
    alike = [np.clip(scene(0) * 0.8 + scene(n) * 0.2, 0, 255).astype(np.uint8) for n in range(66)]

    wide, found = calibrated(unlike)
    strict, crowded = calibrated(alike)
    given, _ = calibrated(alike, threshold=0.77, floor=0.7)

    assert wide.mirror and 0.85 <= wide.threshold < 0.93 and wide.floor < 0.9 and not found.crowded
    assert not strict.mirror and strict.threshold > wide.threshold and strict.floor > 0.95 and crowded.crowded
    assert given == Rule(0.77, 0.7, True)


@pytest.mark.parametrize("k", [3, 30])
def test_true_copies_in_the_set_make_it_no_stricter(k: int) -> None:
    generator = np.random.default_rng(k)
    originals = [scene(n) for n in range(150)]
    twins = [edits.EDITS[kind](originals[k * n + i], generator) for n, kind in enumerate(MOVED) for i in range(k)]
    pictures = originals + twins

    rule, found = calibrated(pictures)

    kept = keep(descriptor.describe(np.stack(pictures)), rule)
    gone = np.flatnonzero(kept.keeper != np.arange(len(pictures)))
    assert not found.crowded and rule.mirror
    assert len(gone) >= 0.95 * 3 * k and (kept.keeper[gone] == gone - 150).all()


def test_copies_of_missed_kinds_in_the_set_make_it_no_stricter() -> None:
    generator = np.random.default_rng(1)
    originals = [scene(n) for n in range(150)]
    twins = [edits.WEAK[kind](one, generator) for kind in ("turned", "corner") for one in originals[:5]]

    assert not calibrated(originals + twins)[1].crowded


def test_flat_pictures_set_no_threshold() -> None:
    photographs, skies = [scene(n) for n in range(110)], [sky(n) for n in range(10)]

    alone, _ = calibrated(photographs)
    mixed, found = calibrated(photographs + skies)
    nothing, none = calibrated(skies)

    assert abs(mixed.threshold - alone.threshold) < 0.05 and not found.crowded
    assert nothing.threshold == 1 and none.recall == 0 and none.missed == [*image.EDITS, *image.WEAK]


def test_there_is_a_least_threshold_and_reaching_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "LEAST_SCORE", 0.97)

    rule, found = calibrated([scene(n) for n in range(66)])

    assert rule.threshold == 0.97 and found.least
    said = page._recall(
        {
            "synthetic": {"copies": 9, "recall": 0.5, "recall_by_kind": found.kinds, "missed": found.missed},
            "lookalikes": False,
            "least_threshold": True,
            "threshold": 0.97,
        }
    )
    assert "lower than 0.97, which is the least" in said


def test_recall_is_of_every_kind_and_names_those_that_the_rule_misses() -> None:
    _, found = calibrated([scene(n) for n in range(66)])
    _, unmirrored = calibrated([scene(n) for n in range(66)], mirror=False)

    assert [*found.kinds] == [*image.EDITS, *image.WEAK]
    assert found.recall == pytest.approx(np.mean([*found.kinds.values()]), abs=1e-4)
    assert "framed" in found.missed and "mirrored" not in found.missed and found.kinds["reworked"] > 0.9
    assert unmirrored.kinds["mirrored"] == 0 and "mirrored" in unmirrored.missed


def test_pictures_that_share_a_frame_are_look_alikes() -> None:
    rule, found = calibrated([framed(n, 8) for n in range(80)])

    assert found.crowded and not rule.mirror and rule.floor > 0.95


def test_a_strict_threshold_rises_until_look_alikes_stay() -> None:
    """Forms that differ in a word: even the strict rule's threshold takes one for another."""
    ground = scene(0)
    forms = []
    for n in range(60):
        form = ground.copy()
        form[12:18, 8:24] = np.where(np.random.default_rng(n).random((6, 16, 1)) < 0.5, 90, 150)
        forms.append(form)

    rule, found = calibrated(forms)

    assert found.crowded and (keep(descriptor.describe(np.stack(forms)), rule).keeper == np.arange(60)).all()


def test_the_search_among_tiny_pictures_is_bounded() -> None:
    generator = np.random.default_rng(2)
    tiny = [generator.integers(0, 256, (2, 2, 1)).astype(np.uint8).repeat(4, 0).repeat(4, 1) for _ in range(200)]

    few_records, many = (calibration._bound(image, image.Dedup(), sample(tiny), number) for number in (200, 60_000))

    vectors = image.fingerprints(sample(tiny), image.Dedup()).vectors
    close = np.maximum(vectors @ vectors.T, vectors @ (vectors * descriptor.MIRROR).T)[np.triu_indices(200, 1)]
    assert few_records == -1 and (close >= many).sum() <= 0.004 * len(close) < (close >= 0.65).sum()


def test_the_page_says_what_the_rule_finds_and_that_look_alikes_went(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    alike = [np.clip(scene(0) * 0.8 + scene(n) * 0.2, 0, 255).astype(np.uint8) for n in range(40)]
    for number, levels in enumerate([*alike, *(edits.less_contrast(one, generator) for one in alike[:12])]):
        save(tmp_path / f"raw/{number:02d}.png", levels)

    line = Line(tmp_path, "image", tmp_path / "raw").ingest().preprocess().deduplicate()

    report, shown = line.report("deduplicate"), (line.paths.reports / "deduplicate.html").read_text()
    assert report["lookalikes"] and len(line.duplicates()) == 12
    assert report["synthetic"]["recall_by_kind"]["mirrored"] == 0 and "mirrored" in report["synthetic"]["missed"]
    assert "full of look-alikes: different pictures" in shown and "Duplicates of these kinds mostly stay" in shown
    assert "12 of 52 records are gone as near copies, in a set full of" in shown
