"""Triggers: each fires for its reason, cools down, and says why not; drift keeps its rate of false alarms."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from scipy.stats import binom, ks_2samp

from genfoundry.core.io import publish_folder, write_table
from genfoundry.core.paths import DatasetPaths
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.protocol import Request, Snapshot, Work
from genfoundry.retraining.triggers import learnt, shift
from genfoundry.retraining.triggers.ask import ask
from genfoundry.state.events import append_event

NOW = datetime(2026, 3, 1, 3, tzinfo=UTC)
SNAPSHOT = Snapshot("c", {"data.dvc": "d"}, "p", "l", ("m",))
SLOT = Request(scheduled=True, slot="2026-03-01T03:00:00Z")


class Still:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW

    def sleep(self, seconds: float) -> None:
        raise AssertionError


class Line:
    def __init__(self, root: Path, **triggers: Any) -> None:
        self.root = self.state = root
        self.options = Retraining.model_validate({"triggers": triggers})
        self.clock = Still()

    def datasets(self, work: Work) -> list[DatasetPaths]:
        return [DatasetPaths(self.root, "notes")]

    def encode(self, work: Work, dataset: str) -> None:
        raise AssertionError("texts need no arrays")


def work(root: Path) -> Work:
    return Work("k", SNAPSHOT, root, 1)


def write_texts(root: Path, texts: list[str], test: int = 0) -> DatasetPaths:
    """Cleaned and split texts as the line leaves them; the last ``test`` are held out."""
    paths = DatasetPaths(root, "notes")
    ids = [f"n{number}" for number in range(len(texts))]
    digests = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    splits = ["train"] * (len(texts) - test) + ["test"] * test
    with publish_folder(paths.clean) as folder:
        table = pd.DataFrame({"id": ids, "content": texts, "split": splits, "label": None, "source": "a"})
        write_table(folder / "part-00000.parquet", table)
    with publish_folder(paths.splits) as folder:
        write_table(folder / "ids.parquet", pd.DataFrame({"id": ids, "split": splits, "sha256": digests}))
    return paths


def sentences(
    count: int, seed: int, words: str = "the a row index vector holds maps splits values labels"
) -> list[str]:
    draw = np.random.Generator(np.random.PCG64(seed))
    return [" ".join(draw.choice(words.split(), int(draw.integers(8, 30)))) for _ in range(count)]


def test_a_slot_fires_and_says_which(tmp_path: Path) -> None:
    asked = ask(Line(tmp_path), SNAPSHOT, SLOT, None)

    assert [(reason.trigger, reason.facts) for reason in asked.fired] == [("slot", {"slot": SLOT.slot})]
    assert not asked.waiting and asked.quiet == ("new_data: off", "drift: off")


def test_a_trigger_cools_down_from_the_last_retrain_that_it_started(tmp_path: Path) -> None:
    line = Line(tmp_path, slot_cooldown_h=24)
    reasons = [{"trigger": "slot", "why": "w"}]
    append_event(tmp_path, "retrain", NOW - timedelta(hours=30), outcome="promoted", reasons=reasons)
    append_event(tmp_path, "retrain", NOW - timedelta(hours=2), outcome="no_op", reasons=reasons)
    append_event(tmp_path, "retrain", NOW - timedelta(hours=1), outcome="promoted", reasons=[{"trigger": "person"}])
    assert ask(line, SNAPSHOT, SLOT, None).fired

    append_event(tmp_path, "retrain", NOW - timedelta(hours=5), outcome="rejected", reasons=reasons)

    asked = ask(line, SNAPSHOT, SLOT, None)
    assert not asked.fired and "it started a retrain 5.0 h ago, of 24 h" in asked.quiet[0]


@pytest.mark.parametrize(
    ("content", "metric", "fires", "said"),
    [
        ('{"quality": {"rating": 3.5}}', {"field": "quality.rating", "below": 4}, True, "rating is 3.5, below 4"),
        ('{"quality": {"rating": 4}}', {"field": "quality.rating", "below": 4}, False, "4 is not below 4"),
        ("0.3", {"above": 0.2}, True, "rating is 0.3, above 0.2"),
        ("NaN", {"above": 0.2}, False, "no number"),
        ("true", {"above": 0.2}, False, "no number"),
        ('{"a": 1}', {"field": "b", "above": 0.2}, False, "no field 'b'"),
        ("{", {"above": 0.2}, False, "could not be read"),
    ],
)
def test_a_live_metric_fires_beyond_its_limit(
    tmp_path: Path, content: str, metric: dict[str, Any], fires: bool, said: str
) -> None:
    (tmp_path / "live.json").write_text(content)
    line = Line(tmp_path, slot=False, metrics={"rating": {"source": "live.json", **metric}})

    asked = ask(line, SNAPSHOT, SLOT, None)

    assert [reason.trigger for reason in asked.fired] == (["metrics.rating"] if fires else [])
    assert said in " ".join([*asked.quiet, *(reason.why for reason in asked.fired)])


@pytest.mark.parametrize("source", ["../outside.json", "/etc/hostname", "https://example.org/x", "missing.json"])
def test_a_live_metric_is_read_from_nowhere_else(tmp_path: Path, source: str) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "outside.json").write_text("1")
    line = Line(tmp_path / "p", slot=False, metrics={"rating": {"source": source, "above": 0}})

    asked = ask(line, SNAPSHOT, SLOT, None)

    assert not asked.fired and "could not be read" in asked.quiet[1]


def test_new_data_are_counted_after_copies_went_and_without_the_test_records(tmp_path: Path) -> None:
    line = Line(tmp_path, slot=False, new_data={"records": 3})
    first = ask(line, SNAPSHOT, SLOT, None)
    assert first.waiting and not first.fired, "the count needs the data"
    old = sentences(20, 0)
    paths = write_texts(tmp_path, old)
    assert "nothing was learnt before" in ask(line, SNAPSHOT, SLOT, work(tmp_path)).fired[0].why
    learnt.remember(tmp_path, paths)

    write_texts(tmp_path, [*old, *sentences(7, 1)], test=5)  # two more to learn from, five held out
    asked = ask(line, SNAPSHOT, SLOT, work(tmp_path))
    assert not asked.fired and "2 new records" in asked.quiet[0]

    write_texts(tmp_path, [*old[1:], *sentences(8, 1)], test=5)
    (reason,) = ask(line, SNAPSHOT, SLOT, work(tmp_path)).fired
    assert reason.facts == {"dataset": "notes", "new": 3, "gone": 1}


def test_drift_fires_for_other_texts_and_not_for_more_of_the_same(tmp_path: Path) -> None:
    line = Line(tmp_path, slot=False, drift={"on": True, "alpha": 0.01})
    old = sentences(400, 0)
    learnt.remember(tmp_path, write_texts(tmp_path, old))

    write_texts(tmp_path, [*old, *sentences(30, 3)])
    assert "50 new ones are needed" in ask(line, SNAPSHOT, SLOT, work(tmp_path)).quiet[0]
    write_texts(tmp_path, [*old, *sentences(150, 1)])
    asked = ask(line, SNAPSHOT, SLOT, work(tmp_path))
    assert not asked.fired and "150 new records are like those learnt" in asked.quiet[0]

    write_texts(tmp_path, [*old, *sentences(150, 2, "der die das Zeile Wert haelt teilt ordnet und ist")])
    (reason,) = ask(line, SNAPSHOT, SLOT, work(tmp_path)).fired
    assert "distance of n-gram profiles" in reason.facts
    assert reason.facts["distance of n-gram profiles"]["p"] <= 0.005

    write_texts(tmp_path, [*old, *(text[:40] for text in sentences(150, 4))])
    (reason,) = ask(line, SNAPSHOT, SLOT, work(tmp_path)).fired
    assert {"psi of characters", "ks of characters"} <= reason.facts.keys()


def tables(draw: np.random.Generator, old: int, new: int, by: float = 0.0) -> list[pd.DataFrame]:
    return [
        pd.DataFrame(
            {
                "width": draw.normal(move, 1, count),
                "size": np.exp(draw.normal(0, 2, count)).round(),
                "label": draw.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1]),
                "mostly": np.where(draw.random(count) < 0.97, np.nan, draw.normal(0, 1, count)),
                "constant": 1.0,
            }
        )
        for count, move in ((old, 0.0), (new, by))
    ]


NO_FLOOR = {"psi": 0.0, "ks": 0.0}


@pytest.mark.parametrize(("old", "new"), [(300, 60), (200, 1000)])
def test_fields_give_no_more_false_alarms_than_alpha(old: int, new: int) -> None:
    draw, alpha, tries = np.random.Generator(np.random.PCG64(0)), 0.1, 100
    alarms = 0
    for _ in range(tries):
        found = shift.fields_shift(*tables(draw, old, new), alpha, NO_FLOOR, draw)
        alarms += any(one.counts for one in found)

    assert binom.ppf(0.001, tries, alpha) <= alarms <= binom.ppf(0.999, tries, alpha)


def test_a_distance_gives_no_more_false_alarms_than_alpha() -> None:
    draw, alpha, tries = np.random.Generator(np.random.PCG64(1)), 0.1, 120
    alarms = 0
    for _ in range(tries):
        mix = draw.normal(0, 1, (8, 8))
        old, new = (np.exp(draw.normal(0, 0.5, (count, 8))) @ mix for count in (200, 70))
        (found,) = shift.distance_shift(old, new, alpha, 0.0, draw, "features")
        alarms += found.counts

    assert binom.ppf(0.001, tries, alpha) <= alarms <= binom.ppf(0.999, tries, alpha)


def test_a_shift_is_found_and_sized() -> None:
    draw = np.random.Generator(np.random.PCG64(2))
    old, new = tables(draw, 2000, 1000, by=1.0)

    found = {one.name: one for one in shift.fields_shift(old, new, 0.01, {"psi": 0.1, "ks": 0.1}, draw)}

    # Two normal laws a standard deviation apart: ks is 2 Phi(1/2) - 1 = 0.383, psi is 1.
    assert found["ks of width"].counts and found["ks of width"].value == pytest.approx(0.383, abs=0.05)
    assert found["ks of width"].value == pytest.approx(ks_2samp(old["width"], new["width"]).statistic, abs=0.04)
    assert found["psi of width"].counts and found["psi of width"].value == pytest.approx(1.0, abs=0.25)
    assert [name for name, one in found.items() if one.counts] == ["psi of width", "ks of width"]


def test_what_is_sure_but_small_does_not_count() -> None:
    draw = np.random.Generator(np.random.PCG64(3))
    old, new = tables(draw, 2000, 1000, by=0.2)

    found = {one.name: one for one in shift.fields_shift(old, new, 0.05, {"psi": 0.1, "ks": 0.1}, draw)}

    assert found["ks of width"].p <= 0.05 and not found["ks of width"].counts


def test_a_field_that_never_varied_counts_as_soon_as_it_does() -> None:
    draw = np.random.Generator(np.random.PCG64(4))
    old, new = tables(draw, 300, 100)
    new["constant"] = np.where(np.arange(100) < 50, 2.0, 1.0)

    found = {one.name: one for one in shift.fields_shift(old, new, 0.05, {"psi": 0.1, "ks": 0.1}, draw)}

    assert found["psi of constant"].counts and found["ks of constant"].counts


def test_the_distance_of_shifted_features_is_that_of_their_means() -> None:
    draw = np.random.Generator(np.random.PCG64(5))
    old, new = draw.normal(0, 1, (900, 16)), draw.normal(0, 1, (300, 16)) + 0.5

    (found,) = shift.distance_shift(old, new, 0.01, 0.02, draw, "features")

    assert found.counts and found.p <= 0.005
    assert 0.1 < found.value < 1


def test_a_profile_knows_letters_and_not_their_order_beyond_three() -> None:
    assert np.linalg.norm(shift.profile("abcabc")) == pytest.approx(1)
    assert not shift.profile("ab").any()
    np.testing.assert_array_equal(shift.profile("ABC"), shift.profile("abc"))
    assert float(shift.profile("abcd" * 9) @ shift.profile("wxyz" * 9)) < 0.5


def test_live_values_must_be_numbers(tmp_path: Path) -> None:
    (tmp_path / "live.json").write_text(json.dumps({"a": [1]}))
    line = Line(tmp_path, slot=False, metrics={"rating": {"source": "live.json", "field": "a", "above": 0}})

    assert "no number" in ask(line, SNAPSHOT, SLOT, None).quiet[1]


def test_pictures_are_compared_by_the_network_that_the_learnt_ones_were_seen_with(
    finished: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = DatasetPaths(finished.root, "bars")
    kept = learnt.remember(tmp_path, paths)
    hashes = learnt.known(tmp_path, "bars")
    assert hashes is not None and len(hashes) == len(learnt.present(paths))
    features = np.load(kept / "features.npy")
    assert features.shape == (len(hashes), 4) and np.isfinite(features).all()

    # As if only half of them had been learnt: the other half is new, and like them.
    monkeypatch.setattr(shift, "LEAST", 20)
    np.save(kept / "hashes.npy", hashes[::2])
    line = Line(tmp_path, slot=False, drift={"on": True, "alpha": 0.02})
    encoded: list[str] = []
    monkeypatch.setattr(line, "datasets", lambda work: [paths])
    monkeypatch.setattr(line, "encode", lambda work, dataset: encoded.append(dataset))
    asked = ask(line, SNAPSHOT, SLOT, work(tmp_path))
    assert encoded == ["bars"] and not asked.fired and "are like those learnt" in asked.quiet[0]

    # Other pictures: the same ones with light and dark exchanged.
    levels = learnt.levels
    monkeypatch.setattr(learnt, "levels", lambda *words: 255 - levels(*words))
    (reason,) = ask(line, SNAPSHOT, SLOT, work(tmp_path)).fired
    assert "distance of reference features" in reason.facts
