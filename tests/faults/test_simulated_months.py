"""A thousand slots with kills, overlaps, summer time, sleep, outages and bad data, in seconds."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from months import ALPHA, KEEP, Kill, Months
from scipy.stats import binom

from genfoundry.retraining.engine import DECIDED
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.schedule import watch as watching
from genfoundry.state.events import read_events
from genfoundry.state.journal import home

ZONE = ZoneInfo("Europe/Berlin")
START = datetime(2026, 1, 5, 12, tzinfo=UTC)
DAYS = 510


def promised(until: datetime) -> list[str]:
    """Each half past two and half past fourteen of Berlin, in UTC: in the spring gap at its end, once in autumn."""
    found, day = [], START.date()
    while True:
        for hour in (2, 14):
            wall = datetime(day.year, day.month, day.day, hour, 30)
            slot = wall.replace(tzinfo=ZONE).astimezone(UTC)
            if slot.astimezone(ZONE).replace(tzinfo=None) != wall:
                slot = wall.replace(hour=3, minute=0, tzinfo=ZONE).astimezone(UTC)
            if slot > until:
                return found
            if slot > START:
                found.append(slot.strftime("%Y-%m-%dT%H:%M:%SZ"))
        day += timedelta(days=1)


@pytest.fixture()
def deadly(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Kills the watch before and after what it writes; leaves out waiting for the disk."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    monkeypatch.setattr("genfoundry.upkeep.files.Git", lambda folder: lambda *words, **options: "")  # no branches here

    def arm(months: Months) -> None:
        for name in ("append_event", "write_json"):
            real = getattr(watching, name)

            def write(*values: Any, real: Any = real, **facts: Any) -> Any:
                if months.luck.happens(months.luck.watch_kills):
                    raise Kill("before")
                done = real(*values, **facts)
                if months.luck.happens(months.luck.watch_kills):
                    raise Kill("after")
                return done

            monkeypatch.setattr(watching, name, write)

    return arm


def between(event: dict[str, Any], slots: list[str]) -> list[str]:
    return [slot for slot in slots if event["after"] < slot <= event["until"]]


def lived(state: Path, seed: int, deadly: Any) -> Months:
    schedule = Schedule(cron="30 2,14 * * *", timezone="Europe/Berlin", catch_up_h=10)
    months = Months(state, seed, schedule, START)
    draw = months.luck.generator
    for _ in range(40):  # the machine sleeps, or somebody sets its clock
        by = draw.choice([-3600, -60, 3600, 7 * 3600, 30 * 3600, 80 * 3600])
        months.clock.jumps.append((START + timedelta(days=float(draw.uniform(0, DAYS))), timedelta(seconds=int(by))))
    months.clock.jumps.sort()
    deadly(months)
    months.live(START + timedelta(days=DAYS))
    months.luck.kills = months.luck.watch_kills = 0.0
    months.live(months.clock.now() + timedelta(days=3))  # a few quiet nights: what was left half done is ended
    return months


def check(months: Months, state: Path) -> Counter[str]:
    """Hold what happened to what was promised; returns how often what happened."""
    held = watching.read_whole(watching.schedule_file(state)) or {}
    slots = promised(datetime.fromisoformat(held["last"]))
    assert len(promised(months.clock.now())) - len(slots) <= 2, "the watch stands still"
    events = list(read_events(state))
    seen: Counter[str] = Counter()
    for event in events:
        if event["kind"] == "slot":
            seen[event["slot"]] += 1
        elif event["kind"] == "missed":
            covered = between(event, slots)
            assert len(covered) == event["count"], event
            seen.update(covered)
    seen.update([held["running"]] if held["running"] else [])
    assert {slot: seen[slot] for slot in slots if seen[slot] != 1} == {}, "a slot twice, or uncounted"
    assert set(seen) == set(slots), "a slot that nobody promised"

    decided = Counter(event["slot"] for event in events if event["kind"] == "retrain" and event.get("slot")
                      and event["outcome"] in DECIDED and event.get("decisions"))  # fmt: skip
    assert set(decided.values()) <= {1}, "a slot came to two decisions"

    quality, judged = months.registry.quality, months.registry.judged
    no_better = [blessed for (new, old), blessed in judged.items() if quality[new] >= quality[old]]
    assert sum(no_better) <= binom.ppf(0.999, len(no_better), ALPHA), "worse champions than the gate allows"
    assert sum(judged.values()) > 3, "nothing was ever promoted: the simulation shows nothing"
    assert months.registry.champion in quality

    journals = [path for path in home(state).iterdir() if (path / "journal.jsonl").is_file()]
    assert len(journals) <= KEEP.retrains + 15
    assert len(list((home(state) / "worktrees").iterdir())) <= KEEP.worktrees + 15

    said = {"retrain": "outcome", "missed": "why"}
    happened = Counter(f"{event['kind']} {event.get(said.get(event['kind'], ''), '')}".strip() for event in events)
    happened |= Counter({"slots": len(slots), "watch killed": months.kills, "watch stopped": months.stops})
    return happened


def test_a_thousand_slots_run_once_or_are_counted(tmp_path: Path, deadly: Any) -> None:
    months = lived(tmp_path, 0, deadly)

    happened = check(months, tmp_path)

    print(dict(happened))
    assert happened["slots"] >= 1000
    for what in ("watch killed", "watch stopped", "retrain killed", "retrain busy", "retrain bad_data",
                 "retrain infrastructure", "retrain promoted", "retrain rejected", "retrain no_op", "paused", "resumed",
                 "missed a retrain was running", "missed a later slot is made up for", "missed paused",
                 "missed too late to make up for"):  # fmt: skip
        assert happened[what] > 0, f"{what} never happened, so nothing was shown about it"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_other_thousands_of_slots(tmp_path: Path, deadly: Any, seed: int) -> None:
    check(lived(tmp_path, seed, deadly), tmp_path)
