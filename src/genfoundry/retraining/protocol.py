"""What the retraining engine is told and what it asks for.

`line.py` is the real line; tests and simulations bring their own.

Stable: the engine, the embedded scheduler and the simulation meet here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from genfoundry.core.errors import Exit
from genfoundry.core.io import digest_of

Facts = Mapping[str, Any]
"""What a step found, as JSON values: it goes into the journal, and from there into the event."""


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
    """What the triggers say."""

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
    """What `promote` said of one model."""

    model: str
    code: Exit
    """OK promoted, NO_OP already champion, REJECTED; another code: it could not be judged."""
    facts: Facts = field(default_factory=dict)
    """Version, champion before and after, rules with their numbers; ``message`` where it could not be judged."""


class Line(Protocol):
    """What is retrained. The engine calls from top to bottom.

    Every step may be called again after a kill at any moment, also in its middle, and must then complete what was
    begun (idempotent). It returns facts, or raises a GenfoundryError whose exit code becomes that of the retrain.
    """

    def sweep(self) -> Facts:
        """Make an end of what dead retrains left: processes, worktrees. Quick: it runs before every no-op."""

    def snapshot(self) -> Snapshot:
        """The inputs as they are now."""

    def ask(self, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
        """Which triggers fire; only for a scheduled retrain. ``work``: the data are there and hold their contracts.

        Called with ``work=None`` first, and again with ``work`` if the answer was ``waiting``.
        """

    def preflight(self, work: Work) -> Facts:
        """Refuse what would fail late: disk, settings, tracking store, a champion that can't be loaded."""

    def worktree(self, work: Work) -> Facts:
        """An own copy of the project at the commit."""

    def standing(self, work: Work) -> bool:
        """True while that copy is there; else all steps from ``worktree`` to ``record`` are done again."""

    def data(self, work: Work) -> Facts:
        """Bring the data of the snapshot into the copy."""

    def contracts(self, work: Work) -> Facts:
        """Hold data and settings to their contracts, before anything trains (DataError)."""

    def train(self, work: Work) -> Facts:
        """Run the line to its scores."""

    def record(self, work: Work) -> Facts:
        """Make MLflow agree with what was made; registers, moves no alias."""

    def promote(self, work: Work, model: str) -> Decision:
        """Judge one model against its champion, and move the alias if it wins."""

    def commit(self, work: Work) -> Facts:
        """Keep what was made on a branch of its own."""

    def push(self, work: Work) -> Facts:
        """Copy data and branch to the remotes that are configured."""

    def upkeep(self, work: Work) -> Facts:
        """Delete what the policy does not keep; a failure is noted and changes no outcome."""

    def tell(self, event: Facts) -> Sequence[str]:
        """Notify whoever wants to know of an event, and ping the heartbeat; returns what failed, one line each."""
