"""`genfoundry rollback`: back to the last good model, without training and without judging."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from genfoundry import settings
from genfoundry.errors import ConfigError, DataError
from genfoundry.paths import state_root
from genfoundry.promotion.locks import MOVE_WAIT, held, locks
from genfoundry.promotion.moves import ROLLED_BACK, Move, begin, carry_out, drop
from genfoundry.promotion.servability import serves
from genfoundry.tracking.events import now_utc
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.runs import user
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered, registry_errors


@dataclass(frozen=True)
class RolledBack:
    """How a rollback ended."""

    told: dict[str, Any]
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
        InfrastructureError: The registry fails.
    """
    tree, state = settings.load(root), state_root(root)
    store = open_store(state, tree.project)
    registered = Registered(store, key)
    with registry_errors(store, f"rollback {key}"), held(locks(state)[1], MOVE_WAIT, f"rollback {key}"):
        notes = [words for words in [drop(state, registered)] if words]
        aliases, there = registered.aliases(), registered.versions()
        if not there:
            raise ConfigError(f"rollback {key}: no such model in the registry {store.uri}{_known(store)}")
        target = to or aliases.get(PREVIOUS)
        if target is None:
            raise ConfigError(f"rollback {key}: there is no previous champion; {_choose(registered, there)}")
        wanted, before = registered.version(target), aliases.get(CHAMPION)
        if target == before:
            raise ConfigError(f"rollback {key}: version {target} is champion already; {_choose(registered, there)}")
        folder, _ = fetch_model(store, key, target, state / "mlruns/gate/models")
        served = serves(root, tree, key, folder)
        if not served.passed and not force:
            raise DataError(
                f"rollback {key}: version {target}: {served.words}; go to another one with --to N, or to this one with "
                "--force"
            )
        words = f"back from version {before or 'none'} to version {target}" + (f": {reason}" if reason else "")
        move = Move(
            id=uuid4().hex,
            kind=ROLLED_BACK,
            key=key,
            to=target,
            before=before,
            previous=before,
            previous_before=aliases.get(PREVIOUS),
            at=now_utc(),
            words=words,
            facts={"reason": reason, "digest": wanted.digest, "by": user()},
        )
        begin(state, move)
        carry_out(state, registered, move)
    told = {
        "format": 1,
        "outcome": "rolled_back",
        "words": words,
        "model": key,
        "version": target,
        "champion_before": before,
        "champion_after": target,
        "servability": served.as_json(),
    }
    return RolledBack(told, tuple(notes))


def _choose(registered: Registered, there: Any) -> str:
    known = ", ".join(sorted(there, key=int))
    return f"choose a version with --to N ({known}); the registry tells their story: genfoundry ui"


def _known(store: Store) -> str:
    names = sorted(model.name for model in store.client.search_registered_models())
    return f"; there are: {', '.join(names)}" if names else "; run genfoundry record"
