"""The interface between the retraining engine and the pipeline that it drives.

`line/real.py` is the real pipeline; tests and simulations bring their own.

Stable: the engine, the embedded scheduler and the simulation meet here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from genfoundry.core.errors import Exit
from genfoundry.core.io import digest_of

Facts = Mapping[str, Any]
"""Results of a step, as JSON values: they go into the journal, and from there into the event."""


@dataclass(frozen=True)
class Reason:
    """Why a retrain runs."""

    trigger: str
    """``person``, ``slot``, ``new_data``, ``drift`` or ``metrics.<name>``; cool-downs are counted by it."""
    why: str
    """For a person, with the numbers."""
    facts: Facts = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {"trigger": self.trigger, "why": self.why, **({"facts": dict(self.facts)} if self.facts else {})}


@dataclass(frozen=True)
class Asked:
    """Result of the triggers."""

    fired: Sequence[Reason] = ()
    """Those that start this retrain; none: it does not run."""
    quiet: Sequence[str] = ()
    """Why each of the others did not fire, a line each."""
    waiting: bool = False
    """Some can only be answered once the data were brought and their contracts held; only while nothing fired."""


@dataclass(frozen=True)
class Request:
    """How a retrain was asked for."""

    scheduled: bool = False
    """A scheduler asks: the triggers decide whether it runs. A person's retrain runs."""
    reason: str = ""
    """A person's words."""
    slot: str = ""
    """The slot of the schedule, as UTC in ISO 8601: a slot that came to an end is never run again."""
    wait: bool = False
    """Wait for a running retrain to end, in place of being skipped."""


@dataclass(frozen=True)
class Snapshot:
    """The inputs of a retrain. Equal inputs have equal keys, and are retrained once."""

    commit: str
    """Commit of the project whose code and settings are taken."""
    data: Mapping[str, str]
    """Content digest of the raw data, by pointer: ``data.dvc``, ``imports/letters.dvc``."""
    params: str
    """Digest of params.yaml."""
    lock: str
    """Digest of the environment's lock."""
    models: tuple[str, ...]
    """Models to retrain and to judge, in this order."""
    facts: Facts = field(default_factory=dict)
    """What else is worth a line in the journal (branch, dirty tree); no part of the key."""

    @property
    def key(self) -> str:
        """First 16 hex digits of the sha256 of all that decides the result."""
        whole = [self.commit, dict(self.data), self.params, self.lock, list(self.models)]
        return digest_of(whole)[:16]

    def as_json(self) -> dict[str, Any]:
        return {
            "commit": self.commit,
            "data": dict(self.data),
            "params": self.params,
            "lock": self.lock,
            "models": list(self.models),
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Work:
    """One retrain under way."""

    key: str
    snapshot: Snapshot
    folder: Path
    """``<state>/mlruns/retraining/<key>``: journal, logs, decisions. It outlives the worktree."""
    attempt: int
    """From 1; a rerun after a kill or a failure is the next one."""
    reasons: Sequence[Reason] = ()


@dataclass(frozen=True)
class Decision:
    """Result of `promote` for one model."""

    model: str
    code: Exit
    """OK promoted, NO_OP already champion, REJECTED; another code: it could not be judged."""
    facts: Facts = field(default_factory=dict)
    """Version, champion before and after, rules with their numbers; ``message`` where it could not be judged."""


class Line(Protocol):
    """The pipeline that is retrained. The engine calls the methods from top to bottom.

    Every step may be called again after a kill at any moment, also in its middle, and must then complete what was
    begun (idempotent). It returns facts, or raises a GenfoundryError whose exit code becomes that of the retrain.
    """

    def sweep(self) -> Facts:
        """Clean up processes and worktrees of crashed retrains. Quick: it runs before every no-op."""

    def snapshot(self) -> Snapshot:
        """The inputs as they are now."""

    def ask(self, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
        """Which triggers fire; only for a scheduled retrain. ``work``: the data are there and hold their contracts.

        Called with ``work=None`` first, and again with ``work`` if the answer was ``waiting``.
        """

    def preflight(self, work: Work) -> Facts:
        """Check early what would fail late: disk, settings, tracking store, champions that can't be loaded."""

    def worktree(self, work: Work) -> Facts:
        """Create a worktree of the project at the commit."""

    def standing(self, work: Work) -> bool:
        """True while that copy is there; else all steps from ``worktree`` to ``record`` are done again."""

    def data(self, work: Work) -> Facts:
        """Check out the snapshot's data in the worktree."""

    def contracts(self, work: Work) -> Facts:
        """Check data and settings against their contracts, before anything trains (DataError)."""

    def train(self, work: Work) -> Facts:
        """Run the pipeline to its scores."""

    def record(self, work: Work) -> Facts:
        """Reconcile MLflow with the results; registers versions, moves no alias."""

    def promote(self, work: Work, model: str) -> Decision:
        """Compare one model with its champion, and move the alias if it is blessed."""

    def commit(self, work: Work) -> Facts:
        """Commit the results on a branch of their own."""

    def push(self, work: Work) -> Facts:
        """Push data and branch to the configured remotes."""

    def upkeep(self, work: Work) -> Facts:
        """Delete what the policy does not keep; a failure is noted and changes no outcome."""

    def tell(self, event: Facts) -> Sequence[str]:
        """Notify of an event and ping the heartbeat; returns failures, one line each."""


Step = Callable[[Line, Work], Facts]

PREPARE: Mapping[str, Step] = {
    "preflight": lambda line, work: line.preflight(work),
    "worktree": lambda line, work: line.worktree(work),
    "data": lambda line, work: line.data(work),
    "contracts": lambda line, work: line.contracts(work),
}
"""Steps before the triggers that need the data are asked, by their names in the journal, in order."""

BUILD: Mapping[str, Step] = {
    "train": lambda line, work: line.train(work),
    "record": lambda line, work: line.record(work),
}
"""Steps before the models are judged."""

KEEP: Mapping[str, Step] = {
    "commit": lambda line, work: line.commit(work),
    "push": lambda line, work: line.push(work),
    "upkeep": lambda line, work: line.upkeep(work),
}
"""Steps after the models were judged."""
