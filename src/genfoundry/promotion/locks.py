"""The two locks of promotion."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from genfoundry.state.locks import held
from genfoundry.tracking.registry_lock import registry_lock
from genfoundry.tracking.store import Store

MOVE_WAIT_S = 60.0
"""Seconds to wait for another process that moves aliases: they do so in less than one."""


def judging(state: Path, wait_s: float, what: str) -> AbstractContextManager[None]:
    """Lock of the gate's judgements: promoters of a project wait for each other."""
    return held(state / "mlruns/promotion/judging.lock", what, wait_s)


@contextmanager
def moving(state: Path, store: Store, project: str, what: str) -> Iterator[None]:
    """Held while aliases are read and moved: on this machine, and in a registry that machines share."""
    with (
        held(state / "mlruns/promotion/moving.lock", what, MOVE_WAIT_S),
        registry_lock(store, project, MOVE_WAIT_S, what),
    ):
        yield
