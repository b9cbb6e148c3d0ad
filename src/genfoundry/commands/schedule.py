"""`genfoundry schedule`: print the next slots and write files for external schedulers (cron, systemd, ...)."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from genfoundry.core.errors import ConfigError, Exit
from genfoundry.retraining.options import Retraining, Schedule
from genfoundry.retraining.schedule import deploy
from genfoundry.retraining.schedule.cron import slots_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    place = deploy.Place()
    parser.add_argument("--cron", help='five fields, such as "0 3 * * *" (retraining.schedule.cron)')
    parser.add_argument("--timezone", help="IANA name, such as Europe/Berlin (retraining.schedule.timezone)")
    parser.add_argument("--count", type=int, default=5, help="how many of the next slots to show (5)")
    parser.add_argument(
        "--write", action="store_true", help="write files for systemd, cron, GitHub, Kubernetes, Docker"
    )
    parser.add_argument("--out", type=Path, help="folder of these files (deploy/)")
    parser.add_argument("--folder", default=place.folder, help=f"the project where it will run ({place.folder})")
    parser.add_argument("--user", default=place.user, help=f"who runs it there ({place.user})")
    parser.add_argument("--image", default=place.image, help=f"container image ({place.image})")


def run(options: argparse.Namespace, root: Path, now: datetime | None = None) -> int:
    """Print the next slots and write the files, if asked to."""
    from genfoundry.config import params as settings

    settled = settings.parse(Retraining, settings.load(root).retraining, "retraining")
    given = {name: getattr(options, name) for name in ("cron", "timezone") if getattr(options, name) is not None}
    asked = settled.model_copy(update={"schedule": settled.schedule.model_copy(update=given)})
    moment = now or datetime.now(UTC)
    if options.count < 1:
        raise ConfigError(f"genfoundry schedule: --count is {options.count}; at least 1")
    slots = slots_of(asked.schedule, "genfoundry schedule: 'schedule" if given else "params.yaml: 'retraining.schedule")
    print(f"{slots.cron} in {slots.timezone}; the next slots:")
    for slot in slots.next(moment, options.count):
        local = slot.astimezone(slots.zone)
        print(f"  {local:%a %Y-%m-%d %H:%M %Z} = {slot:%Y-%m-%d %H:%M} UTC")
    if options.write:
        place = deploy.Place(options.folder, options.user, options.image)
        folder = options.out or root / "deploy"
        for path in deploy.write(folder, asked, place):
            print(f"wrote {path.relative_to(root) if path.is_relative_to(root) else path}")
    print("\n".join(f"note: {note}" for note in notes(asked, settled.schedule, moment)))
    return int(Exit.OK)


def notes(asked: Retraining, settled: Schedule, moment: datetime) -> list[str]:
    """Warnings about a schedule, such as slots that a change of clocks moves."""
    found = []
    mine, theirs = slots_of(asked.schedule), slots_of(settled)
    if mine != theirs:
        found.append(
            f"params.yaml says {theirs.cron} in {theirs.timezone}, and `--watch` and `status` go by that; to make them "
            f'agree: retraining: {{schedule: {{cron: "{mine.cron}", timezone: {mine.timezone}}}}}'
        )
    jumped = deploy.jumped_over(mine, moment)
    if jumped:
        found.append(
            f"summer time jumps over the slot before {jumped[0]:%Y-%m-%d %H:%M} UTC: `--watch` and GitHub run it at "
            "the next valid time, a systemd timer (252) leaves it out, others differ by version; another hour is safer"
        )
    if not asked.heartbeat:
        found.append(
            "retraining.heartbeat is empty: nobody is notified when the schedule itself stops (docs/scheduling.md)"
        )
    return found
