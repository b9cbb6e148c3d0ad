"""Upkeep: delete what the retention policy `retraining.keep` does not keep (docs/operations.md).

Everything is planned first: what, how many bytes, why. Then each step is carried out on its own, so that a kill
between any two leaves a whole state, and the next upkeep goes on. Who calls holds the project's lock.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfoundry.config.params import load, parse
from genfoundry.config.sections.execution import Execution
from genfoundry.core.clock import Clock
from genfoundry.core.errors import BusyError, ConfigError, GenfoundryError
from genfoundry.core.processes import no_crash
from genfoundry.promotion.locks import judging
from genfoundry.state.events import append_event
from genfoundry.tracking.store import open_store, store_uri
from genfoundry.upkeep import files, protection
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.storecare import plan_store


@dataclass(frozen=True)
class Removal:
    """One planned removal."""

    kind: str
    """``run``, ``version``, ``model``, ``checkpoints``, ``worktree``, ``journal``, ``branch``, ``cache``, ``shards``,
    ``gate`` or ``leftover``.
    """
    what: str
    bytes: int
    why: str
    act: Callable[[], Any] = field(default=lambda: None, compare=False, repr=False)

    def line(self) -> str:
        """For a person."""
        return f"{self.kind:11} {self.what}  {in_words(self.bytes)}  {self.why}"


def in_words(count: int) -> str:
    """A number of bytes, readable."""
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


@dataclass
class Upkeep:
    """Report of upkeep."""

    removed: list[Removal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was left alone, or failed, and why."""

    @property
    def bytes(self) -> int:
        return sum(removal.bytes for removal in self.removed)


def upkeep(
    root: Path,
    state: Path,
    keep: Keep,
    clock: Clock,
    dry_run: bool = False,
    between: Callable[[str], None] = no_crash,
) -> Upkeep:
    """Delete what the policy does not keep; an event lists the removals.

    Args:
        root: Checkout whose git, DVC cache and settings are meant; not the worktree of a retrain.
        state: State root.
        keep: The policy.
        clock: Now; ages are counted from it.
        dry_run: Delete nothing, and say the same.
        between: Called before each removal with its kind; a test may raise from it, as a kill would.

    Returns:
        What went (or would go), and what could not.
    """
    from genfoundry.tracking.runs import tracking_errors

    done = Upkeep()
    for plan in _plans(root, state, keep, clock):
        # Nobody may judge or move models meanwhile.
        lock = nullcontext() if dry_run else judging(state, 0, "upkeep")
        try:
            with lock:
                # All of a part is planned before any of it goes.
                for removal in list(plan()):
                    between(removal.kind)
                    if not dry_run:
                        removal.act()
                    done.removed.append(removal)
        except (GenfoundryError, OSError, *tracking_errors()) as error:
            done.notes.append(str(error))
    if not dry_run and (done.removed or done.notes):
        kinds = sorted({removal.kind for removal in done.removed})
        counts = {kind: sum(removal.kind == kind for removal in done.removed) for kind in kinds}
        append_event(state, "upkeep", clock.now(), removed=counts, bytes=done.bytes, notes=done.notes)
    return done


def _plans(root: Path, state: Path, keep: Keep, clock: Clock) -> Iterator[Callable[[], Iterator[Removal]]]:
    now = clock.now()
    serving: dict[str, dict[str, str]] = {}
    """Recipe of each version that serves, by ``name/3``; an empty one stands in the way of collecting."""
    known: list[bool] = []

    def store_part() -> Iterator[Removal]:
        project = _project(root)
        local = store_uri(state).endswith(str(state / "mlruns/mlflow.db"))
        if local and not (state / "mlruns/mlflow.db").is_file():
            known.append(True)
            return
        store = open_store(state, project)
        registry = protection.read_registry(store, root, state, keep, now)
        serving.update(protection.recipes(registry))
        known.append(True)
        for kind, what, size, why, act in plan_store(registry, state, keep, now):
            yield Removal(kind, what, size, why, act)

    def file_part() -> Iterator[Removal]:
        protected = protection.model_objects(serving) if known and all(serving.values()) else None
        for kind, what, size, why, act in files.plan_files(root, state, keep, now, protected, _data_cache(root)):
            yield Removal(kind, what, size, why, act)

    def cache_part() -> Iterator[Removal]:
        if not keep.cache_gib:
            return
        if not known:
            raise BusyError("DVC's cache: not collected, as the registry did not say which models serve")
        bare = sorted(name for name, recipe in serving.items() if not recipe)
        if bare:
            raise BusyError(
                f"DVC's cache: not collected, as nothing says which objects {', '.join(bare)} was made from; run "
                "genfoundry record in a checkout that holds it"
            )
        texts = [text for recipe in serving.values() for text in recipe.values()]
        for kind, what, size, why, act in files.plan_cache(root, keep, now, texts):
            yield Removal(kind, what, size, why, act)

    yield store_part
    yield file_part
    yield cache_part


def _project(root: Path) -> str:
    return load(root).project


def _data_cache(root: Path) -> float:
    """GB of cached shards that `execution.data_cache` allows."""
    try:
        return float(parse(Execution, load(root).execution, "execution").data_cache)
    except ConfigError:
        return Execution().data_cache
