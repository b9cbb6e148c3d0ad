"""`genfoundry retrain --watch`: the embedded scheduler as a process, with its signals, children and heartbeat."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from genfoundry.core.clock import SystemClock, stamp
from genfoundry.core.errors import ConfigError, Exit, GenfoundryError
from genfoundry.retraining.notify import send as notify
from genfoundry.retraining.notify import web
from genfoundry.retraining.options import Retraining, Schedule
from genfoundry.retraining.schedule.watch import World, watch
from genfoundry.state.heartbeat import beat
from genfoundry.state.journal import home
from genfoundry.state.locks import held
from genfoundry.tracking.runs import first_line

GRACE_S = 150.0
"""From SIGTERM to SIGKILL for a retrain: its own stages have 120 s."""

PING_S = 60.0
"""Least time between two calls of the heartbeat address."""


class Stoppable(SystemClock):
    """The machine's clock, whose sleep ends when the process is asked to stop."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def sleep(self, seconds: float) -> None:
        self.asked.wait(seconds)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """A signal handler."""
        self.asked.set()


class Process:
    """A retrain as a child in a session of its own, so that only the watch signals it."""

    def __init__(self, root: Path, slot: datetime) -> None:
        command = [sys.executable, "-m", "genfoundry.cli", "retrain", "--scheduled", "--slot", stamp(slot)]
        self.child = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, start_new_session=True)

    def poll(self) -> int | None:
        return self.child.poll()

    def stop(self) -> int:
        self.child.terminate()
        try:
            return self.child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            return self.child.wait()


class Settings:
    """``retraining:`` of params.yaml, read again when the file changed."""

    def __init__(self, root: Path) -> None:
        self.root, self.file = root, root / "params.yaml"
        self.known: tuple[int, int] | None = None
        self.held = Retraining()

    def __call__(self) -> Retraining:
        from genfoundry.config import params as settings

        try:
            status = self.file.stat()
        except OSError as error:
            raise ConfigError(f"{self.file}: {error.strerror}") from None
        now = (status.st_mtime_ns, status.st_size)
        if now != self.known:
            self.held = settings.parse(Retraining, settings.load(self.root).retraining, "retraining")
            self.known = now
        return self.held

    def schedule(self) -> Schedule:
        return self().schedule


def attend(root: Path, state: Path) -> Exit:
    """Keep the schedule until SIGTERM, SIGINT or SIGHUP.

    Raises:
        BusyError: Another watch keeps it.
        ConfigError: params.yaml is no settings.
    """
    from genfoundry.config import params as settings

    project, current, clock = settings.load(root).project, Settings(root), Stoppable()
    last_ping: list[datetime] = []

    def say(words: str) -> None:
        print(f"{stamp(clock.now())} {words}", flush=True)

    def tell(event: Mapping[str, Any]) -> None:
        for failure in notify.tell(event, current.held, state, project):
            say(f"not notified: {failure}")

    def sign(facts: dict[str, Any]) -> None:
        beat(state, clock, **facts)
        if current.held.heartbeat and _due(last_ping, clock.now()):
            try:
                web.call(notify.address_of(current.held.heartbeat), current.held.allow)
            except (GenfoundryError, OSError, ValueError) as error:
                # An unreachable monitor must not end the schedule.
                say(f"heartbeat: {first_line(error)}")

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    with held(home(state) / "watch.lock", "watch", clock=clock, advice="one watch a project is enough"):
        before = [signal.signal(number, clock.hear) for number in numbers]
        try:
            say(f"watching process {os.getpid()}; SIGTERM ends it")
            return watch(
                World(
                    state=state,
                    clock=clock,
                    schedule=current.schedule,
                    start=lambda slot: Process(root, slot),
                    tell=tell,
                    beat=sign,
                    stopping=clock.asked.is_set,
                    say=say,
                )
            )
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


def _due(last: list[datetime], now: datetime) -> bool:
    if last and 0 <= (now - last[0]).total_seconds() < PING_S:
        return False
    last[:] = [now.astimezone(UTC)]
    return True
