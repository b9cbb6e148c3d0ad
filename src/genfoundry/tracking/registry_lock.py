"""A lock in the registry itself, for machines that share a server but no disk.

MLflow has no compare-and-set: two machines that move an alias at once both succeed, and the last one wins (tried).
What it does refuse is a second registered model of the same name; so who can create ``<project>.lock`` holds the lock,
until it deletes it. With the embedded database everyone shares the state root and its file lock, so nothing is created.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from genfoundry.core.errors import BusyError
from genfoundry.tracking import tags
from genfoundry.tracking.runs import dead, process_tag
from genfoundry.tracking.store import Store

POLL = 0.5
"""Seconds between two tries."""


@contextmanager
def registry_lock(store: Store, project: str, wait: float, what: str) -> Iterator[None]:
    """Hold the registry's lock of a project, if machines share the registry over a network.

    Args:
        store: The open store.
        project: Whose lock.
        wait: Seconds to wait for another holder. The lock of one that died on this machine is taken over; on another
            machine that can't be known.
        what: What is done under it, for the message of others.

    Raises:
        BusyError: Somebody else holds it.
    """
    if store.uri.startswith("sqlite:"):
        yield
        return
    name = f"{project}.lock"
    _acquire(store, name, wait, what)
    try:
        yield
    finally:
        store.client.delete_registered_model(name)


def _acquire(store: Store, name: str, wait: float, what: str) -> None:
    from mlflow.exceptions import MlflowException

    until = time.monotonic() + wait
    while True:
        try:
            mine = {tags.PROCESS: process_tag()}
            store.client.create_registered_model(name, tags=mine, description=f"Held while aliases move: {what}")
            return
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        holder = _holder(store, name)
        if holder and dead(holder):
            # Only processes of this machine come here, one at a time: they hold its file lock.
            store.client.delete_registered_model(name)
        elif time.monotonic() >= until:
            raise BusyError(
                f"{what}: process {holder or 'unknown'} holds the registry's lock; if that machine is gone, delete the "
                f"registered model {name!r} in the UI"
            )
        else:
            time.sleep(POLL)


def _holder(store: Store, name: str) -> str:
    from mlflow.exceptions import MlflowException

    try:
        return str(store.client.get_registered_model(name).tags.get(tags.PROCESS, ""))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
