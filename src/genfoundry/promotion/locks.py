"""Locks that die with their process and say who holds them."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from genfoundry.errors import BusyError

POLL = 0.2
"""Seconds between two tries."""

MOVE_WAIT = 60.0
"""Seconds to wait for another process that moves aliases: they do so in less than one."""


def locks(state: Path) -> tuple[Path, Path]:
    """Lock of those who judge, and of those who move aliases."""
    return state / "mlruns/promotion/judging.lock", state / "mlruns/promotion/moving.lock"


@contextmanager
def held(path: Path, wait: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock.

    The kernel drops it when the holder dies, however it dies; a file that is left behind means nothing.

    Args:
        path: Lock file.
        wait: Seconds to wait for another holder.
        what: What is being done under it, for the message of others.

    Raises:
        BusyError: Another process still holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not truncated before it is ours: the words in it are the holder's.
    with path.open("a+", encoding="utf-8") as file:
        until = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    file.seek(0)
                    holder = file.read().strip() or "another process"
                    raise BusyError(f"{what}: {holder} holds {path}; wait for it (--wait SECONDS)") from None
                time.sleep(POLL)
        file.truncate(0)
        began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({what}, since {began})")
        file.flush()
        yield
        file.truncate(0)
