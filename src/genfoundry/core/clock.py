"""Clock that code takes as an argument, so that a simulation can set the time."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the engine and the scheduler see it."""

    def now(self) -> datetime:
        """The present moment, with a time zone; it may jump, as clocks of machines do."""

    def sleep(self, seconds: float) -> None:
        """Return about so many seconds later."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM = SystemClock()


def stamp(at: datetime | None = None) -> str:
    """A moment, by default this one, in UTC to the second."""
    return (at or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
