"""Slots of a schedule: each moment of UTC once, none lost to the clocks."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.core.errors import ConfigError
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.schedule.cron import Slots, next_slots, slots_of

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata",
    "Asia/Beirut", "Africa/Casablanca", "Pacific/Apia", "Pacific/Chatham",
    "America/St_Johns", "Asia/Tehran", "Antarctica/Troll",
)  # fmt: skip
zones = st.sampled_from(ZONES)
moments = st.datetimes(datetime(2005, 1, 1), datetime(2035, 1, 1)).map(lambda one: one.replace(tzinfo=UTC))
fixed = st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23))


def terms(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    spans = st.tuples(numbers, numbers).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(spans, st.integers(1, 7)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    listed = st.lists(st.one_of(numbers.map(str), spans, stepped), min_size=1, max_size=3).map(",".join)
    return st.one_of(st.just("*"), st.integers(1, 7).map("*/{}".format), listed)


lines = st.tuples(terms(0, 59), terms(0, 23), terms(1, 28), terms(1, 12), terms(0, 7)).map(" ".join)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def times(cron: str, zone: str, after: str, count: int) -> list[str]:
    return [f"{slot:%m-%d %H:%M}" for slot in next_slots(Schedule(cron=cron, timezone=zone), utc(after), count)]


def test_three_in_the_morning_is_two_or_one_in_utc() -> None:
    assert times("0 3 * * *", "Europe/Berlin", "2026-03-27", 3) == ["03-27 02:00", "03-28 02:00", "03-29 01:00"]


def test_a_slot_in_the_spring_gap_runs_once_at_its_end() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-03-28", 3) == ["03-28 01:30", "03-29 01:00", "03-30 00:30"]
    assert times("0,20,40 2,3 * * *", "Europe/Berlin", "2026-03-29", 4) == [
        "03-29 01:00",
        "03-29 01:20",
        "03-29 01:40",
        "03-30 00:00",
    ]


def test_a_slot_in_the_repeated_hour_runs_once() -> None:
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == ["10-25 00:30", "10-26 01:30"]
    # Asked within the second of the two hours: the first is past, and is not given again.
    assert times("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10", 1) == ["10-26 01:30"]


def test_elapsed_time_goes_through_the_repeated_hour() -> None:
    assert times("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45", 4) == [
        "10-25 00:00",
        "10-25 00:30",
        "10-25 01:00",
        "10-25 01:30",
    ]


@given(fixed, zones, moments)
def test_a_daily_slot_runs_once_each_day_of_the_zone(cron: str, zone: str, moment: datetime) -> None:
    """No loss and no double: what `0 3` means to a person, whatever the clocks do."""
    place = ZoneInfo(zone)
    slots = slots_of(Schedule(cron=cron, timezone=zone)).next(moment, 40)

    minute, hour = (int(part) for part in cron.split()[:2])
    wanted, day = [], moment.astimezone(place).date()
    while len(wanted) < 40:
        wall = datetime(day.year, day.month, day.day, hour, minute, tzinfo=place)
        real = wall.astimezone(UTC)
        while real.astimezone(place).replace(tzinfo=None) != wall.replace(tzinfo=None):  # in a gap: to its end
            wall += timedelta(minutes=1)
            real = wall.astimezone(UTC)
        if real > moment and real not in wanted:
            wanted.append(real)
        day += timedelta(days=1)
    assert slots == wanted


@given(lines, zones, moments)
def test_slots_rise_and_do_not_depend_on_where_one_starts_to_look(line: str, zone: str, moment: datetime) -> None:
    """A watch that is started again at any moment sees the same slots."""
    slots = Slots(slots_of(Schedule(cron=line, timezone=zone)).cron, zone)
    found = slots.next(moment, 12)

    assert all(early < late for early, late in pairwise([moment, *found]))
    for early, late in pairwise(found):
        assert slots.next(early) == [late]
        assert slots.next(late - timedelta(minutes=1)) == [late] or late - early < timedelta(minutes=1)
    assert list(slots.between(moment, found[-1])) == found


@given(lines, zones, moments)
def test_the_line_in_numbers_means_the_same(line: str, zone: str, moment: datetime) -> None:
    canonical = slots_of(Schedule(cron=line, timezone=zone)).cron

    assert set(canonical) <= set("0123456789*/,- ")
    assert Slots(line, zone).next(moment, 8) == Slots(canonical, zone).next(moment, 8)
    assert slots_of(Schedule(cron=canonical, timezone=zone)).cron == canonical


@pytest.mark.parametrize(
    ("cron", "zone", "said"),
    [
        ("0 3 * *", "UTC", "4 fields"),
        ("0 0 3 * * *", "UTC", "6 fields"),
        ("0 24 * * *", "UTC", "Bad hour"),
        ("0 3 * * 1L", "UTC", "bad day of week '1L'"),
        ("0 3 L * *", "UTC", "bad day of month 'L'"),
        ("0 3 31 2 *", "UTC", "Bad day-of-month"),
        ("0 3 * * *; touch x", "UTC", "7 fields"),
        ("$(id) 3 * * *", "UTC", "bad minute '$(ID)'"),
        ("*,5 3 * * *", "UTC", "mixes a star"),
        ("0 3 * * *", "Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("0 3 * * *", "../../etc/passwd", "no IANA time zone"),
        ("*/0 3 * * *", "UTC", "Bad minute"),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, zone: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        slots_of(Schedule(cron=cron, timezone=zone))

    assert said in str(caught.value)


def test_names_and_sundays_become_numbers() -> None:
    assert slots_of(Schedule(cron="0 3 * jan-mar mon,7", timezone="UTC")).cron == "0 3 * 1-3 0-1"
