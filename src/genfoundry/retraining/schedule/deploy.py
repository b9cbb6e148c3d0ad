"""Files for external schedulers: systemd, cron, GitHub Actions, Kubernetes, and a Dockerfile.

Each is a template below ``templates/`` with words like ``@CRON@``. What goes in is a schedule that was read and written
again in numbers, and words that hold nothing but harmless characters: what would need quoting is refused.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from string import ascii_letters, digits

from genfoundry.core.errors import ConfigError
from genfoundry.core.io import write_text
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.schedule.cron import FIELDS, Slots, slots_of

TEMPLATES = Path(__file__).parent / "templates"

GRACE_S = 180
"""From SIGTERM to SIGKILL: 120 s that a stage has to save its checkpoint, and some to journal and notify."""

MARGIN_S = 2 * 3600
"""What a retrain may take beside `dvc repro`, whose limit is ``timeout_h``."""

DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")

HARMLESS = {
    "folder": (r"/[\w./+-]*[\w]", "an absolute path of letters, digits and . _ + - /"),
    "user": (r"[a-z_][a-z0-9_-]{0,31}", "the name of a user"),
    "image": (r"[a-z0-9][a-z0-9._/:-]*[a-z0-9]", "a name such as registry.example.org/genfoundry:1"),
}


@dataclass(frozen=True)
class Place:
    """Where and as whom it will run."""

    folder: str = "/srv/genfoundry"
    """The project's folder on that machine, with its ``.venv``; in a container the mounted volume."""
    user: str = "genfoundry"
    image: str = "genfoundry:1"

    def check(self) -> None:
        """Refuse what a unit, a crontab, YAML or a shell could read as more than a name (ConfigError)."""
        for name, (pattern, what) in HARMLESS.items():
            value = getattr(self, name)
            if not re.fullmatch(pattern, value, re.ASCII) or ".." in value:
                raise ConfigError(f"genfoundry schedule: --{name} is {value!r}; write {what}")


def files(options: Retraining, place: Place) -> dict[str, str]:
    """Text of each file by its name.

    Raises:
        ConfigError: A schedule or a place that can't be written.
    """
    place.check()
    slots = slots_of(options.schedule)
    assert set(slots.cron) <= set(digits + "*/,- ")
    assert set(slots.timezone) <= set(ascii_letters + digits + "/_+-")
    made = "Made by `genfoundry schedule --write`; change the settings (or its options) and make it again."
    words = {
        "MADE": made,
        "CRON": slots.cron,
        "TIMEZONE": slots.timezone,
        "ON_CALENDAR": "\n".join(f"OnCalendar={line}" for line in on_calendar(slots)),
        "FOLDER": place.folder,
        "USER": place.user,
        "IMAGE": place.image,
        "GRACE_S": str(GRACE_S),
        # Kubernetes looks every 10 s and may miss a shorter deadline.
        "CATCH_UP_S": str(max(int(options.schedule.catch_up_h * 3600), 300)),
        "DEADLINE_S": str(int(options.timeout_h * 3600) + MARGIN_S),
        "TIMEOUT_MIN": str((int(options.timeout_h * 3600) + MARGIN_S) // 60),
    }
    return {path.name: _filled(path, words) for path in sorted(TEMPLATES.iterdir()) if path.is_file()}


def _filled(path: Path, words: dict[str, str]) -> str:
    return re.sub(r"@([A-Z_]+)@", lambda match: words[match[1]], path.read_text(encoding="utf-8"))


def write(folder: Path, options: Retraining, place: Place) -> list[Path]:
    """Write all files into a folder; returns their paths."""
    texts = files(options, place)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def on_calendar(slots: Slots) -> list[str]:
    """A cron line as systemd.time(7) writes it; two where it asks for a day of the month or one of the week."""
    minute, hour, day, month, weekday = slots.cron.split()
    time = f"{_part(hour, 'hour', 2)}:{_part(minute, 'minute', 2)}:00 {slots.timezone}"
    months, days = _part(month, "month", 2), _part(day, "day of month", 2)
    week = "" if weekday == "*" else ",".join(DAYS[number] for number in sorted(_numbers(weekday))) + " "
    if week and not day.startswith("*") and not weekday.startswith("*"):
        return [f"*-{months}-{days} {time}", f"{week}*-{months}-* {time}"]
    return [f"{week}*-{months}-{days} {time}"]


def _part(field: str, name: str, width: int) -> str:
    low = FIELDS[name][0]
    if field == "*":
        return "*"
    if field.startswith("*/"):
        return f"{low:0{width}d}/{field[2:]}"
    return ",".join("..".join(f"{int(end):0{width}d}" for end in part.split("-")) for part in field.split(","))


def _numbers(weekday: str) -> set[int]:
    found: set[int] = set()
    for part in weekday.split(","):
        if part.startswith("*/"):
            # As cron counts: from 0 to 7, where both are Sunday.
            found |= {number % 7 for number in range(0, 8, int(part[2:]))}
        else:
            first, _, last = part.partition("-")
            found |= set(range(int(first), int(last or first) + 1))
    return found


def jumped_over(slots: Slots, start: datetime, years: int = 2) -> list[datetime]:
    """Slots of the next years that the clocks jump over, in UTC: schedulers of others treat them differently."""
    fixed = not any(field.startswith("*") for field in slots.cron.split()[:2])
    if not fixed:
        return []
    hours = {int(number) for part in slots.cron.split()[1].split(",") for number in _span(part)}
    minutes = {int(number) for part in slots.cron.split()[0].split(",") for number in _span(part)}
    found = []
    for slot in slots.between(start, start + timedelta(days=366 * years)):
        local = slot.astimezone(slots.zone)
        if local.hour not in hours or local.minute not in minutes:
            found.append(slot)
    return found


def _span(part: str) -> range:
    first, _, last = part.partition("-")
    return range(int(first), int(last or first) + 1)
