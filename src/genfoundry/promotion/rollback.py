"""`genfoundry rollback`: make the previous champion champion again, without training or gate."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from genfoundry.config import params as settings
from genfoundry.core.clock import stamp
from genfoundry.core.errors import BusyError, ConfigError, DataError
from genfoundry.core.paths import state_root
from genfoundry.promotion.champions import last_champion
from genfoundry.promotion.locks import moving
from genfoundry.promotion.moves import ROLLED_BACK, Move, begin, carry_out, drop
from genfoundry.promotion.servability import Served, serves
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.runs import user
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered, Version, registry_errors

TRIES = 3
"""Looks at the registry, where aliases move while the model is tried."""


@dataclass(frozen=True)
class RolledBack:
    """How a rollback ended."""

    facts: dict[str, Any]
    """For ``--json``."""
    notes: tuple[str, ...] = ()


def roll_back(root: Path, key: str, to: str = "", reason: str = "", force: bool = False) -> RolledBack:
    """Make the champion before this one champion again.

    Args:
        root: Workspace.
        key: Name of the registered model.
        to: Number of the version to go to; empty: the one that alias ``previous`` means.
        reason: Why, for the record.
        force: Go back to it though it does not answer in a clean process.

    Raises:
        ConfigError: There is nothing to go back to, or no such version.
        DataError: Its files are not those that were registered, or it does not answer.
        BusyError: Others move aliases all the time.
        InfrastructureError: The registry fails.
    """
    tree, state, what = settings.load(root), state_root(root), f"rollback {key}"
    store = open_store(state, tree.project)
    registered = Registered(store, key)
    notes: list[str] = []
    with registry_errors(store, what):
        for _ in range(TRIES):
            with moving(state, store, tree.project, what):
                notes += [words for words in [drop(state, registered)] if words]
                seen = registered.aliases()
                wanted = _target(state, registered, to)
            # Outside of the lock: it takes seconds.
            found = fetch_model(store, key, wanted.number, state / "mlruns/gate/models")
            served = serves(root, tree, key, found.folder, found.generator)
            if not served.passed and not force:
                raise DataError(
                    f"{what}: version {wanted.number}: {served.words}; go to another one with --to N, or to this one "
                    "with --force"
                )
            with moving(state, store, tree.project, what):
                if registered.aliases() == seen:
                    move = _move(key, wanted, seen, reason)
                    begin(state, move)
                    carry_out(state, registered, move)
                    return RolledBack(_facts(move, served), tuple(notes))
    raise BusyError(f"{what}: others move the aliases all the time; run it again")


def _target(state: Path, registered: Registered, to: str) -> Version:
    """The version to go to."""
    key, aliases, there = registered.name, registered.aliases(), registered.versions()
    if not there:
        store = registered.store
        raise ConfigError(f"rollback {key}: no such model in the registry {store.uri}{_known(store)}")
    # Where the registry has lost its champion, and `previous` with it, history knows the one before.
    lost = None if CHAMPION in aliases else last_champion(state, key, there)
    number = to or aliases.get(PREVIOUS) or lost
    if number is None:
        raise ConfigError(f"rollback {key}: there is no previous champion; {_choose(there)}")
    if number == aliases.get(CHAMPION):
        raise ConfigError(f"rollback {key}: version {number} is champion already; {_choose(there)}")
    return registered.version(number)


def _choose(there: Iterable[str]) -> str:
    known = ", ".join(sorted(there, key=int))
    return f"choose a version with --to N ({known}); the registry tells their story: genfoundry ui"


def _known(store: Store) -> str:
    names = sorted(model.name for model in store.client.search_registered_models())
    return f"; there are: {', '.join(names)}" if names else "; run genfoundry record"


def _move(key: str, wanted: Version, aliases: dict[str, str], reason: str) -> Move:
    before, previous = aliases.get(CHAMPION), aliases.get(PREVIOUS)
    left = before or (previous if previous != wanted.number else None)
    return Move(
        id=uuid4().hex,
        kind=ROLLED_BACK,
        key=key,
        to=wanted.number,
        before=before,
        previous=left,
        previous_before=previous,
        at=stamp(),
        words=f"back from version {before or 'none'} to version {wanted.number}" + (f": {reason}" if reason else ""),
        facts={"reason": reason, "digest": wanted.digest, "by": user()},
    )


def _facts(move: Move, served: Served) -> dict[str, Any]:
    return {
        "format": 1,
        "outcome": "rolled_back",
        "words": move.words,
        "model": move.key,
        "version": move.to,
        "champion_before": move.before,
        "champion_after": move.to,
        "servability": served.as_json(),
    }
