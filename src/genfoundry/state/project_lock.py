"""One retrain a project at a time: a lock of the kernel, with a note of who holds it.

The kernel frees the lock when its holder dies, however it dies, and never before: so it is taken over exactly when
the holder is dead. The note (host, process, start of the process, since when) is for people and for messages; it
decides nothing, so a recycled process number or a changed clock can't break the lock.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from genfoundry.core.clock import Clock
from genfoundry.core.errors import BusyError
from genfoundry.core.io import disk_errors
from genfoundry.core.processes import start_of
from genfoundry.state.events import stamp
from genfoundry.state.journal import home

POLL_S = 1.0
"""Seconds between two looks at a lock that is waited for."""

GLANCES, GLANCE_S = 3, 0.02
"""A lock is called busy after so many tries: who only looks who holds it (`holder`) has it for an instant."""


class HeldError(BusyError):
    """Another retrain, or upkeep, runs; ``holder`` says which."""

    def __init__(self, holder: dict[str, Any], now: datetime) -> None:
        self.holder = holder
        super().__init__(f"{describe(holder, now)}; wait for it (--wait), or stop it with kill {holder.get('pid')}")


def lock_file(state: Path) -> Path:
    """The lock of retrain, upkeep and whatever else must not run beside them."""
    return home(state) / "lock"


def describe(holder: dict[str, Any], now: datetime) -> str:
    """Who holds the lock, and for how long."""
    if not holder:
        return "a retrain is just starting"
    try:
        seconds = (now - datetime.fromisoformat(str(holder["since"]))).total_seconds()
        age = f", for {seconds / 3600:.1f} h" if seconds >= 3600 else f", for {max(seconds, 0):.0f} s"
    except (KeyError, ValueError):
        age = ""
    what = holder.get("what", "retrain")
    return f"{what} is running as process {holder.get('pid')} on {holder.get('host')} since {holder.get('since')}{age}"


@contextmanager
def project_lock(
    state: Path, clock: Clock, what: str = "retrain", wait: bool = False, name: str = "lock"
) -> Iterator[None]:
    """Hold the project's lock, or another one of that name beside it.

    Raises:
        HeldError: Somebody else holds it, and ``wait`` is off.
    """
    path = home(state) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with disk_errors(path):
        file = _locked(path, clock, wait)
    try:
        _note(file, {"host": socket.gethostname(), "pid": os.getpid(), "start": start_of(os.getpid())}, clock, what)
        yield
        file.truncate(0)
    except Exception:
        file.truncate(0)
        raise
    finally:
        file.close()


def _locked(path: Path, clock: Clock, wait: bool) -> IO[bytes]:
    tries = 0
    while True:
        file = path.open("ab+", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found, tries = _holder(file), tries + 1
            file.close()
            if tries < GLANCES:
                time.sleep(GLANCE_S)
            elif wait:
                clock.sleep(POLL_S)
            else:
                raise HeldError(found, clock.now()) from None
            continue
        except BaseException:
            file.close()
            raise
        if _same(path, file):
            return file
        # Somebody removed the file while we took it: our lock is on a file that nobody else will find.
        file.close()


def _same(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _note(file: IO[bytes], who: dict[str, Any], clock: Clock, what: str) -> None:
    file.truncate(0)
    file.write(json.dumps({**who, "since": stamp(clock.now()), "what": what}).encode())


def _holder(file: IO[bytes]) -> dict[str, Any]:
    file.seek(0)
    try:
        found = json.loads(file.read())
    except ValueError:  # it is just being written
        return {}
    return found if isinstance(found, dict) else {}


def holder(state: Path) -> dict[str, Any] | None:
    """Who holds the lock now; None if it is free. Takes it for a moment, shared, to know."""
    path = lock_file(state)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(file)
    return None
