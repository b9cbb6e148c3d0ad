"""Locks between processes: a kernel lock on a file, which also names the holder.

The kernel frees the lock when its holder dies, however it dies, and never before: so it is taken over exactly when the
holder is dead, and a file that is left behind means nothing. The note (host, process, since when, what for) is for
people and for messages; it decides nothing, so a recycled process number or a changed clock can't break the lock.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from genfoundry.core.clock import SYSTEM, Clock, stamp
from genfoundry.core.errors import BusyError
from genfoundry.core.io import disk_errors

POLL_S = 0.2
"""Seconds between two looks at a lock that is waited for."""

GLANCES, GLANCE_S = 3, 0.02
"""A lock is called busy after so many tries: who only looks who holds it (`holder`) has it for an instant."""


_mine: set[IO[bytes]] = set()
# A child that is forked and not replaced (a loader's worker, say) would hold the lock on for as long as it lives.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _mine])


class HeldError(BusyError):
    """Another process holds the lock; ``holder`` is its note."""

    def __init__(self, holder: dict[str, Any], now: datetime, advice: str) -> None:
        self.holder = holder
        kill = f", or stop it with kill {holder['pid']}" if "pid" in holder else ""
        super().__init__(f"{describe(holder, now)}; {advice}{kill}")


@contextmanager
def held(
    path: Path, what: str, wait_s: float = 0.0, clock: Clock = SYSTEM, advice: str = "wait for it"
) -> Iterator[None]:
    """Hold an exclusive lock, and say in its file who does.

    Args:
        path: The lock's file; it is made, and stays.
        what: What is done under the lock, for the messages of others.
        wait_s: Seconds to wait for another holder.
        clock: What is waited by, and whose time stands in the note.
        advice: What to do where it is held, for the message.

    Raises:
        HeldError: Another process still holds it.
        DiskError: The disk is full or fails.
    """
    waited = 0.0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while (file := _taken(path)) is None:
            if waited >= wait_s:
                raise HeldError(_note(path), clock.now(), advice)
            clock.sleep(POLL_S)
            waited += POLL_S
        note = {"host": socket.gethostname(), "pid": os.getpid(), "since": stamp(clock.now()), "what": what}
        file.truncate(0)
        file.write(json.dumps(note).encode())
    _mine.add(file)
    try:
        yield
    finally:
        _mine.discard(file)
        if not file.closed:
            file.truncate(0)
            file.close()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for an instant: waits for it in the kernel, and leaves no note."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def holder(path: Path) -> dict[str, Any] | None:
    """The note of who holds a lock now, None if it is free. Takes it for an instant, shared, to know."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _note(path)
    return None


def describe(holder: dict[str, Any], now: datetime) -> str:
    """Who holds a lock, and for how long."""
    if "pid" not in holder:
        return "another process is just starting"
    seconds = max((now - datetime.fromisoformat(holder["since"])).total_seconds(), 0)
    age = f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"
    return (
        f"{holder['what']} is running as process {holder['pid']} on {holder['host']} since {holder['since']}, for {age}"
    )


def _taken(path: Path) -> IO[bytes] | None:
    """The locked file, or None if another process holds it."""
    for _ in range(GLANCES):
        file = path.open("ab+", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(GLANCE_S)
        else:
            # If somebody removed it while we took it, our lock is on a file that nobody else will find.
            with suppress(FileNotFoundError):
                if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                    return file
        file.close()
    return None


def _note(path: Path) -> dict[str, Any]:
    """What the holder says of itself; empty while it is writing."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
