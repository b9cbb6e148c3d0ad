"""Locks of promotion: they die with their process and say who holds them."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from genfoundry.core.errors import BusyError
from genfoundry.state.events import stamp
from genfoundry.tracking.registry_lock import registry_lock
from genfoundry.tracking.store import Store

POLL = 0.2
"""Seconds between two tries."""

MOVE_WAIT = 60.0
"""Seconds to wait for another process that moves aliases: they do so in less than one."""


def judging(state: Path, wait: float, what: str) -> AbstractContextManager[None]:
    """Held by whoever judges: promoters of a project wait for each other."""
    return held(state / "mlruns/promotion/judging.lock", wait, what)


@contextmanager
def moving(state: Path, store: Store, project: str, what: str) -> Iterator[None]:
    """Held while aliases are read and moved: on this machine, and in a registry that machines share."""
    with (
        held(state / "mlruns/promotion/moving.lock", MOVE_WAIT, what),
        registry_lock(store, project, MOVE_WAIT, what),
    ):
        yield


@contextmanager
def held(path: Path, wait: float, what: str) -> Iterator[None]:
    """Hold an exclusive lock.

    The kernel drops it when the holder dies, however it dies; a file that is left behind means nothing.

    Args:
        path: Lock file.
        wait: Seconds to wait for another holder.
        what: What is done under it, for the message of others.

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
                    raise BusyError(
                        f"{what}: {holder} holds {path.name}; run the command again when it is done"
                    ) from None
                time.sleep(POLL)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} ({what}, since {stamp()})")
        file.flush()
        yield
        file.truncate(0)
