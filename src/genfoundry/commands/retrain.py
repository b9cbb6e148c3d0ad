"""`genfoundry retrain` and `genfoundry status`."""

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType

from genfoundry.core.clock import stamp
from genfoundry.core.errors import ConfigError, Exit, PreemptedError
from genfoundry.core.paths import state_root


def add_retrain_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``genfoundry retrain``."""
    parser.add_argument("--reason", default="", help="why, for the record")
    parser.add_argument(
        "--scheduled", action="store_true", help="ask the triggers of params.yaml first: what a scheduler gives"
    )
    parser.add_argument(
        "--slot", default="", metavar="TIME", help="slot of the schedule (ISO 8601); one that was run is not run again"
    )
    parser.add_argument("--wait", action="store_true", help="wait for a running retrain; else this one is skipped")
    parser.add_argument("--dry-run", action="store_true", help="say what it would do and why, and touch nothing")
    parser.add_argument(
        "--watch", action="store_true", help="keep the schedule of params.yaml on this machine, until SIGTERM"
    )
    parser.add_argument(
        "--resume", action="store_true", help="end the pause after failures; with --watch also go on watching"
    )
    parser.add_argument("--quiet", action="store_true", help="leave the output of the steps to their logs")


def add_status_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``genfoundry status``."""
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def slot_of(text: str) -> str:
    """A slot as UTC to the second; empty stays empty.

    Raises:
        ConfigError: No time, or one without a time zone.
    """
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--slot {text!r}: not a time; write it as 2026-03-29T01:00:00Z") from None
    if moment.tzinfo is None:
        raise ConfigError(f"--slot {text!r}: has no time zone; write it as {text}Z or {text}+01:00")
    return stamp(moment)


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, SIGINT and SIGHUP raise PreemptedError in the block, once; further signals are ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        raise PreemptedError(f"stopped by {signal.Signals(number).name}; run again, it goes on")

    wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # A signal ignored before stays ignored: under nohup a closed terminal must not end the retrain.
    numbers = [number for number in wanted if signal.getsignal(number) != signal.SIG_IGN]
    before = [signal.signal(number, stop) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def run_retrain(options: argparse.Namespace, root: Path) -> int:
    """Retrain; the exit code is that of the outcome (docs/exit-codes.md)."""
    if options.watch or options.resume:
        return _run_watch(options, root)
    from genfoundry.core.clock import SystemClock
    from genfoundry.retraining.engine import retrain
    from genfoundry.retraining.line import real as lines
    from genfoundry.retraining.protocol import Request

    state, clock = state_root(root), SystemClock()
    request = Request(options.scheduled, options.reason, slot_of(options.slot), options.wait)
    line = lines.load(root, state, clock, dry=options.dry_run, echo=not options.quiet)
    if options.dry_run:
        from genfoundry.commands.check import contents
        from genfoundry.retraining.plan import plan

        words, code = plan(line, state, clock, request, lambda project: contents(project)[0])
        print("\n".join(words))
        return code
    with stoppable():
        outcome = retrain(line, state, clock, request)
    for failure in outcome.facts.get("untold", ()):
        print(f"note: not notified: {failure}", file=sys.stderr)
    words = f"retrain {outcome.key}: {outcome.name}: {outcome.message}".replace("retrain :", "retrain:")
    if outcome.facts.get("branch"):
        words += f"\nbranch {outcome.facts['branch']}"
    for why in outcome.facts.get("quiet", ()):
        words += f"\nnot fired: {why}"
    good = outcome.code in (Exit.OK, Exit.NO_OP, Exit.REJECTED)
    print(words, file=sys.stdout if good else sys.stderr)
    return outcome.code


def _run_watch(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.retraining.schedule.attend import attend
    from genfoundry.retraining.schedule.watch import resume

    alone = {"--reason": options.reason, "--scheduled": options.scheduled, "--slot": options.slot,
             "--wait": options.wait, "--dry-run": options.dry_run}  # fmt: skip
    if wrong := [name for name, given in alone.items() if given]:
        raise ConfigError(f"retrain: {', '.join(wrong)} has no meaning beside --watch and --resume; leave it out")
    if options.resume:
        resume(state_root(root))
        if not options.watch:
            print("a watch goes on at its next look, within a minute; one that does not run, when it is started")
            return Exit.OK
    return attend(root, state_root(root))


def run_status(options: argparse.Namespace, root: Path) -> int:
    """Print the state of the project on one screen."""
    import json

    from genfoundry.core.clock import SystemClock
    from genfoundry.retraining.status import lines, status

    found = status(root, state_root(root), SystemClock())
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else "\n".join(lines(found)))
    return Exit.OK
