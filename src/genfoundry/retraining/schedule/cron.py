"""Slots of a five-field cron line in a time zone, as moments of UTC.

The rules are those of crontab(5) and of Debian's cron, as the package cronsim has them. A slot at fixed hours that the
clocks jump over in spring comes once, at the first moment after the gap; one that comes twice in autumn comes once, the
first time. Where the minute or the hour starts with ``*`` a slot follows elapsed time instead: what the clocks jump
over is no slot, and the hour that they repeat has its slots twice, each a moment of its own.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from genfoundry.core.errors import ConfigError
from genfoundry.core.parts import nearest
from genfoundry.retraining.options import Schedule

FIELDS = {"minute": (0, 59), "hour": (0, 23), "day of month": (1, 31), "month": (1, 12), "day of week": (0, 7)}
"""Names of the fields in their order, with the numbers that they take."""

TERM = re.compile(r"(\*|[0-9]{1,2}|[A-Z]{3})(-(?:[0-9]{1,2}|[A-Z]{3}))?(/[0-9]{1,2})?")
"""A part of a field between commas, in capitals. cronsim takes more (L, LW, #, seconds) that other schedulers don't."""


@dataclass(frozen=True)
class Slots:
    """The slots of a schedule."""

    cron: str
    """Five fields of numbers, stars, ranges, steps and commas: what every scheduler reads alike."""
    timezone: str
    """IANA name."""

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Slots later than a moment, in UTC, strictly rising; without end, but for dates that never come."""
        last = moment.astimezone(UTC)
        for found in CronSim(self.cron, last.astimezone(self.zone)):
            slot = found.astimezone(UTC)
            # Two slots of one gap fall on its end; and from within a repeated hour the first time is past.
            if slot > last:
                yield slot
                last = slot

    def between(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Slots later than ``after``, up to and including ``until``."""
        for slot in self.after(after):
            if slot > until:
                return
            yield slot

    def next(self, moment: datetime, count: int = 1) -> list[datetime]:
        """The first slots later than a moment, in UTC."""
        return list(islice(self.after(moment), count))


@lru_cache(maxsize=64)
def slots_of(schedule: Schedule, where: str = "params.yaml: 'retraining.schedule") -> Slots:
    """The slots of a schedule.

    Args:
        schedule: Cron line and time zone.
        where: What an error names as the place, up to the name of the field.

    Raises:
        ConfigError: No cron line of five fields, one whose date never comes, or no such time zone.
    """
    known = available_timezones()
    if schedule.timezone not in known:
        near = nearest(schedule.timezone, sorted(known))
        raise ConfigError(
            f"{where}.timezone' is {schedule.timezone!r}: no IANA time zone{near}; write one such as Europe/Berlin"
        )
    try:
        slots = Slots(_canonical(schedule.cron), schedule.timezone)
        if not slots.next(datetime(2000, 1, 1, tzinfo=UTC)):
            raise ValueError("its date never comes")
    except (CronSimError, ValueError) as error:
        raise ConfigError(
            f"{where}.cron' is {schedule.cron!r}: {error}; write five fields: minute, hour, day of month, month, day "
            'of week, such as "0 3 * * *"'
        ) from None
    return slots


def next_slots(schedule: Schedule, moment: datetime, count: int = 1) -> list[datetime]:
    """The next slots of a schedule after a moment, in UTC."""
    return slots_of(schedule).next(moment, count)


def _canonical(cron: str) -> str:
    """The line in numbers alone; days of the week 0 to 6, as Kubernetes wants them."""
    fields = cron.upper().split()
    if len(fields) != len(FIELDS):
        raise ValueError(f"{len(fields)} fields")
    for name, field in zip(FIELDS, fields, strict=True):
        if not all(TERM.fullmatch(term) for term in field.split(",")):
            raise ValueError(f"bad {name} {field!r}")
    parsed = CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    held = (parsed.minutes, parsed.hours, parsed.days, parsed.months, parsed.weekdays)
    return " ".join(
        _numbers(field, {int(number) for number in numbers}, *FIELDS[name])  # type: ignore[arg-type, call-overload]
        for field, numbers, name in zip(fields, held, FIELDS, strict=True)
    )


def _numbers(field: str, numbers: set[int], low: int, high: int) -> str:
    # A first star says more than its numbers: how days of month and week go together, and what daylight saving does.
    if field == "*" or re.fullmatch(r"\*/\d+", field):
        return field if field == "*" else f"*/{int(field[2:])}"
    if high == 7:
        numbers, high = {number % 7 for number in numbers}, 6
    if field.startswith("*"):
        raise ValueError(f"{field!r} mixes a star with other parts")
    ordered, parts = sorted(numbers), []
    start = last = ordered[0]
    for number in [*ordered[1:], high + 2]:
        if number != last + 1:
            parts.append(str(start) if start == last else f"{start}-{last}")
            start = number
        last = number
    return ",".join(parts)
