"""`genfoundry retrain` as a state machine over a pipeline, resumable after a kill at any point.

Order: lock, sweep, snapshot, key, triggers, then the steps, each journaled before and after; the outcome; one event;
notifications. A rerun of the same inputs goes on after the last step that ended; inputs that came to a
decision are a no-op with a link to it. Nothing here knows DVC, git or MLflow.

Exit code over several models, first that holds: the code of a model that could not be judged; 0 if one was promoted;
11 if one was rejected; 10.
"""

import math
import os
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfoundry.core.clock import Clock, stamp
from genfoundry.core.errors import Exit, GenfoundryError, PreemptedError
from genfoundry.core.processes import no_crash, start_of
from genfoundry.retraining.protocol import (
    BUILD,
    KEEP,
    PREPARE,
    Decision,
    Facts,
    Line,
    Reason,
    Request,
    Snapshot,
    Step,
    Work,
)
from genfoundry.state.events import append_event, read_events
from genfoundry.state.journal import Journal, home, lock_file, open_attempt, set_open
from genfoundry.state.locks import HeldError, held
from genfoundry.state.secrets import redact, redacted

IN_WORKTREE = ("worktree", "data", "contracts", "train", "record")
"""Steps that must run again once the worktree is gone."""
EVERY_TIME = ("preflight",)
"""Steps that run in every attempt, since their checks may no longer hold."""

NAMES = {
    Exit.OK: "promoted",
    Exit.ERROR: "error",
    Exit.NO_OP: "no_op",
    Exit.REJECTED: "rejected",
    Exit.BUSY: "busy",
    Exit.USAGE: "usage",
    Exit.BAD_DATA: "bad_data",
    Exit.DIVERGED: "diverged",
    Exit.DISK: "disk",
    Exit.INFRASTRUCTURE: "infrastructure",
    Exit.PREEMPTED: "preempted",
}
"""Names of outcomes in events, journals and messages; an attempt without an outcome was ``killed``."""

DECIDED = ("promoted", "rejected", "no_op")
"""Outcomes after which the same inputs, or the same slot, have nothing left to do."""

EVENT = "retrain"
"""Kind of the one event that every attempt ends with."""


@dataclass(frozen=True)
class Outcome:
    """How a retrain ended."""

    code: Exit
    name: str
    message: str
    """A line or more for a person."""
    key: str = ""
    facts: Facts = field(default_factory=dict)
    """``decisions``, ``branch``, ``prior``, ``quiet``, ..."""


def retrain(
    line: Line, state: Path, clock: Clock, request: Request, between: Callable[[str], None] = no_crash
) -> Outcome:
    """Retrain once, or return why not. Every call leaves exactly one event, its last one if it is killed.

    Args:
        line: What is retrained.
        state: The state root: lock, journals and events lie below its ``mlruns/``.
        clock: Time; only noted, never waited for, but for ``request.wait``.
        request: How it was asked for.
        between: Crash points, by name: ``locked``, ``swept``, ``snapshot``, ``asked``, ``<step>:begin``,
            ``<step>:end``, ``outcome``, ``event``, ``notified``.

    Returns:
        The outcome. A GenfoundryError of a step is an outcome; anything else is noted (``error``) and raised.
        A BaseException that is no Exception passes as a kill would: nothing more is written.
    """
    try:
        wait_s = math.inf if request.wait else 0.0
        with held(lock_file(state), "retrain", wait_s, clock, "wait for it (--wait)"):
            between("locked")
            return _Retrain(line, state, clock, request, between).run()
    except HeldError as error:
        return _skipped(line, state, clock, request, error)


def _skipped(line: Line, state: Path, clock: Clock, request: Request, error: HeldError) -> Outcome:
    """Another retrain runs: report and count it."""
    event = append_event(
        state, EVENT, clock.now(), outcome="busy", code=int(Exit.BUSY), slot=request.slot, holder=error.holder
    )
    line.tell(event)
    return Outcome(Exit.BUSY, "busy", str(error), facts={"holder": error.holder})


def outcome_of(decisions: Sequence[Decision]) -> Exit:
    """One exit code for the decisions on all models (see the module)."""
    codes = [decision.code for decision in decisions]
    unjudged = [code for code in codes if code not in (Exit.OK, Exit.NO_OP, Exit.REJECTED)]
    return next((code for code in (*unjudged, Exit.OK, Exit.REJECTED) if code in codes), Exit.NO_OP)


def reap(state: Path, clock: Clock) -> bool:
    """Record the end of an attempt that was killed; the lock is held. True if there was one."""
    found = open_attempt(state)
    if found:
        journal = Journal(home(state) / str(found["key"]))
        # It may have died after its outcome was noted, before or after the event.
        outcome = journal.outcome() or {}
        mine = outcome.get("attempt") == found["attempt"]
        event = outcome["event"] if mine else {**found, "outcome": "killed", "code": None}
        if not _noted(state, found):
            append_event(state, EVENT, clock.now(), **event)
        if not mine:
            journal.note(clock.now(), "attempt", "killed", attempt=found["attempt"])
    set_open(state, None)
    return bool(found)


def _noted(state: Path, attempt: Mapping[str, Any]) -> bool:
    """True if the event of that attempt was appended."""
    same = ("key", "attempt")
    return any(
        all(event.get(name) == attempt[name] for name in same)
        for event in read_events(state, EVENT, holding=str(attempt["key"]))
    )


class _Retrain:
    """One attempt, from the moment that the lock is held."""

    def __init__(self, line: Line, state: Path, clock: Clock, request: Request, between: Callable[[str], None]) -> None:
        self.line, self.state, self.clock, self.request, self.between = line, state, clock, request, between
        self.work: Work | None = None
        self.journal = Journal(home(state) / "none")
        self.quiet: list[str] = []

    def run(self) -> Outcome:
        try:
            outcome = self._attempt()
        except GenfoundryError as error:
            code = Exit(error.exit_code)
            outcome = Outcome(code, NAMES[code], str(error))
        except Exception as error:  # an unexpected error must leave its traceback in the journal
            text = "".join(traceback.format_exception(error))
            self._end(Outcome(Exit.ERROR, "error", f"{type(error).__name__}: {error}", facts={"trace": text}))
            raise
        return self._end(outcome)

    def _attempt(self) -> Outcome:
        self.line.sweep()
        reap(self.state, self.clock)
        self.between("swept")
        if self.request.slot and (before := self._slot_event()):
            return self._nothing(f"slot {self.request.slot} was run: {before['outcome']}", prior=before.get("key"))
        snapshot = self.line.snapshot()
        self.between("snapshot")
        self.journal = Journal(home(self.state) / snapshot.key)
        if prior := self._prior():
            words = f"the same data, code, settings and lock were retrained at {prior['at']}: {prior['outcome']}"
            return self._nothing(f"{words} ({self.journal.folder})", key=snapshot.key, prior=prior)
        reasons, waiting = self._reasons(snapshot, None)
        self.between("asked")
        if not reasons and not waiting:
            return self._nothing("no trigger fired", key=snapshot.key, quiet=self.quiet)
        self._open(snapshot, reasons)
        return self._steps(reasons)

    def _slot_event(self) -> dict[str, Any] | None:
        for event in read_events(self.state, EVENT, holding=self.request.slot):
            if event.get("slot") == self.request.slot and event.get("outcome") in DECIDED:
                return event
        return None

    def _prior(self) -> dict[str, Any] | None:
        """The decision that these inputs came to, if they did, and all that follows it was done."""
        found = self.journal.outcome()
        return found if found and found.get("outcome") in DECIDED and found.get("decisions") else None

    def _reasons(self, snapshot: Snapshot, work: Work | None) -> tuple[tuple[Reason, ...], bool]:
        if not self.request.scheduled:
            return (Reason("person", self.request.reason or "asked for by a person"),), False
        asked = self.line.ask(snapshot, self.request, work)
        self.quiet = list(asked.quiet)
        return tuple(asked.fired), asked.waiting and work is None

    def _nothing(self, words: str, key: str = "", **facts: Any) -> Outcome:
        return Outcome(Exit.NO_OP, "no_op", words, key, facts)

    def _open(self, snapshot: Snapshot, reasons: Sequence[Reason]) -> None:
        attempt = self.journal.attempts + 1
        self.work = Work(snapshot.key, snapshot, self.journal.folder, attempt, reasons)
        because = [reason.as_json() for reason in reasons]
        marker = {"key": snapshot.key, "attempt": attempt, "slot": self.request.slot, "reasons": because}
        set_open(self.state, marker)
        who = {"host": socket.gethostname(), "pid": os.getpid(), "start": start_of(os.getpid())}
        self.journal.note(
            self.clock.now(), "attempt", "begin", attempt=attempt, **who, reasons=because, slot=self.request.slot,
            snapshot=snapshot.as_json(),
        )  # fmt: skip

    def _steps(self, reasons: Sequence[Reason]) -> Outcome:
        work = self._work()
        for name, step in PREPARE.items():
            self._step(name, step)
        if not reasons:
            reasons, _ = self._reasons(work.snapshot, work)
            if not reasons:
                return self._nothing("no trigger fired", key=work.key, quiet=self.quiet)
            self.work = work = Work(work.key, work.snapshot, work.folder, work.attempt, reasons)
            self.journal.note(self.clock.now(), "reasons", "end", reasons=[reason.as_json() for reason in reasons])
        for name, step in BUILD.items():
            self._step(name, step)
        decisions = [self._promote(model) for model in work.snapshot.models]
        code = outcome_of(decisions)
        kept: dict[str, Any] = {}
        for name, step in KEEP.items():
            kept |= self._step(name, step)
        values = [{"model": each.model, "decision": NAMES[each.code], **each.facts} for each in decisions]
        names = ", ".join(f"{each.model} {_words(each)}" for each in decisions)
        facts = {"decisions": values, **{name: kept[name] for name in ("branch", "kept") if name in kept}}
        return Outcome(code, NAMES[code], names or "no model to judge", work.key, facts)

    def _step(self, name: str, step: Step) -> dict[str, Any]:
        """Run a step, or reuse an earlier attempt's result if it is still valid."""
        work = self._work()
        before = self.journal.ended(name)
        if before and name == "worktree" and not self.line.standing(work):
            # Results in the worktree went with it, so these steps run again. One line: no kill can halve it.
            self.journal.note(self.clock.now(), "redo", "end", steps=IN_WORKTREE)
            before = None
        if before and name not in EVERY_TIME:
            return before
        self.journal.note(self.clock.now(), name, "begin", attempt=work.attempt)
        self.between(f"{name}:begin")
        facts = dict(step(self.line, work))
        self.journal.note(self.clock.now(), name, "end", **facts)
        self.between(f"{name}:end")
        return facts

    def _promote(self, model: str) -> Decision:
        work, name = self._work(), f"promote@{model}"
        before = self.journal.ended(name)
        if before:
            return Decision(model, Exit(before["code"]), before["facts"])
        self.journal.note(self.clock.now(), name, "begin", attempt=work.attempt)
        self.between(f"{name}:begin")
        decision = self.line.promote(work, model)
        if decision.code == Exit.PREEMPTED:
            raise PreemptedError(f"stopped while {model} was judged; run again, it goes on")
        judged = decision.code in (Exit.OK, Exit.NO_OP, Exit.REJECTED)
        facts = {"code": int(decision.code), "facts": dict(decision.facts)}
        self.journal.note(self.clock.now(), name, "end" if judged else "failed", **facts)
        self.between(f"{name}:end")
        return decision

    def _work(self) -> Work:
        assert self.work is not None
        return self.work

    def _end(self, outcome: Outcome) -> Outcome:
        """Outcome, event, notification: each at most once, whatever is killed between them."""
        now = stamp(self.clock.now())
        message = redact(outcome.message)
        event: dict[str, Any] = {"outcome": outcome.name, "code": int(outcome.code), "message": message}
        event |= {"key": outcome.key, "slot": self.request.slot, "reasons": [], **redacted(_short(outcome.facts))}
        if self.work:
            reasons = [reason.as_json() for reason in self.work.reasons]
            event |= {"key": self.work.key, "attempt": self.work.attempt, "reasons": reasons}
            closed = {"at": now, "outcome": outcome.name, "code": int(outcome.code), "attempt": self.work.attempt}
            closed |= {"decisions": outcome.facts.get("decisions", []), "event": event}
            self.journal.note(self.clock.now(), "attempt", "end", outcome=outcome.name, message=outcome.message,
                              **{name: value for name, value in outcome.facts.items() if name == "trace"})  # fmt: skip
            self.journal.close(closed)
            self.between("outcome")
        logged = append_event(self.state, EVENT, self.clock.now(), **event)
        self.between("event")
        set_open(self.state, None)
        failures = list(self.line.tell(logged))
        if self.work and failures:
            self.journal.note(self.clock.now(), "tell", "failed", failures=failures)
        self.between("notified")
        return Outcome(outcome.code, outcome.name, message, event["key"], {**outcome.facts, "untold": failures})


def _words(decision: Decision) -> str:
    """What happened to a model, in a few words."""
    facts, name = decision.facts, NAMES[decision.code].replace("_", " ")
    if decision.code == Exit.NO_OP:
        return f"unchanged (version {facts.get('version')} is the champion)"
    if decision.code in (Exit.OK, Exit.REJECTED):
        return f"version {facts.get('version')} {name}"
    return f"could not be judged ({facts.get('message', name)})"


def _short(facts: Facts) -> dict[str, Any]:
    """The facts of an outcome shortened for the event."""
    kept = {name: facts[name] for name in ("branch", "prior", "quiet") if facts.get(name)}
    if isinstance(kept.get("prior"), Mapping):
        kept["prior"] = {name: kept["prior"].get(name) for name in ("at", "outcome")}
    fields = ("model", "decision", "version", "champion_before", "champion_after")
    decisions = [{name: each[name] for name in fields if name in each} for each in facts.get("decisions", [])]
    return {**kept, **({"decisions": decisions} if decisions else {})}
