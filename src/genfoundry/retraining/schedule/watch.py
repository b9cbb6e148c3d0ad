"""The embedded scheduler for one machine: starts a retrain at each slot, and counts skipped and missed slots.

A slot is run once or counted once, whatever is killed when: its number is on disk before its retrain starts, what is
counted is an event before the state moves on, and a start that finds a slot under way looks into the events for its
end. If there is none it starts the same slot again; the engine goes on, or says that it was run.

A slot that comes while a retrain runs is skipped. Of slots that were missed (machine asleep, watch not running) the
latest is made up for, within the catch-up window. After some failures in a row nothing starts until a person says
``--resume``. A clock that steps back repeats no slot.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from genfoundry.core.clock import Clock, stamp
from genfoundry.core.errors import ConfigError, Exit
from genfoundry.core.io import write_json
from genfoundry.retraining.engine import EVENT, NAMES
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.schedule.cron import Slots, slots_of
from genfoundry.state.events import append_event, read_events
from genfoundry.state.journal import home, read_whole

FORMAT = 1

LOOK_S = 60.0
"""Longest time between two looks: so soon a stepped clock or a machine that woke is noticed."""

POLL_S = 2.0
"""The same while a retrain runs."""

ON_TIME = timedelta(seconds=2 * LOOK_S)
"""A slot is on time within two looks, also without a catch-up window."""

AHEAD = timedelta(hours=25)
"""A last slot further ahead than this was a wrong clock: an hour or a day of summer time and zones is waited for."""

NO_FAILURE = {int(code) for code in (Exit.OK, Exit.NO_OP, Exit.REJECTED)}
NEITHER = {int(code) for code in (Exit.BUSY, Exit.PREEMPTED)}
"""Exit codes that neither count as a failure nor end a row of failures."""

UNFINISHED = ("killed", "busy", "preempted")
"""Outcomes of a slot's retrain after which a new start goes on with it."""


class Child(Protocol):
    """A retrain that was started."""

    def poll(self) -> int | None:
        """Its exit code (negative: the signal that ended it); None while it runs."""

    def stop(self) -> int:
        """Ask it to stop, wait until it did, and return its exit code."""


@dataclass(frozen=True)
class World:
    """Interfaces of the watch to the world; a simulation brings its own."""

    state: Path
    """The state root."""
    clock: Clock
    """``sleep`` returns early when ``stopping`` turns true."""
    schedule: Callable[[], Schedule]
    """The settings as they are now (ConfigError: unreadable, the last ones hold)."""
    start: Callable[[datetime], Child]
    """Starts the retrain of a slot."""
    tell: Callable[[dict[str, Any]], object]
    """Notifies of an event that a person should know."""
    beat: Callable[[dict[str, Any]], object]
    """Updates the heartbeat, at each look."""
    stopping: Callable[[], bool]
    """True once the process was asked to end."""
    say: Callable[[str], object] = print
    look_s: float = LOOK_S
    poll_s: float = POLL_S


def schedule_file(state: Path) -> Path:
    """Where the watch keeps its last slot."""
    return home(state) / "schedule.json"


def resume_file(state: Path) -> Path:
    """File by which a person resumes a paused watch; the watch deletes it."""
    return home(state) / "resume"


def resume(state: Path) -> None:
    """End the pause of a watch, whether it runs now or later."""
    path = resume_file(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def watch(world: World) -> Exit:
    """Keep the schedule until asked to stop.

    Returns:
        OK, or PREEMPTED if a retrain was stopped with it; the next start goes on with that slot.
    """
    keeper = Watch(world)
    keeper.load()
    while not world.stopping():
        keeper.look()
        world.clock.sleep(keeper.wait_s())
    return keeper.close()


class Watch:
    """State between two looks; all of it that must outlive a kill is in ``schedule.json``."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.child: Child | None = None
        self.slots, self.settings = Slots("0 3 * * *", "UTC"), Schedule()
        self.held: dict[str, Any] = {}
        self.known: tuple[Slots, str] | None = None
        self.coming: datetime | None = None

    def load(self) -> None:
        """Take up the state, and end what the last watch left half done."""
        self.settings = self.world.schedule()
        self.slots = slots_of(self.settings)
        now = stamp(self.world.clock.now())
        empty = {"format": FORMAT, "cron": "", "timezone": "", "last": now, "running": "", "failures": 0, "paused": ""}
        self.held = {**empty, **(read_whole(schedule_file(self.world.state)) or {})}
        for event in read_events(self.world.state, "missed"):
            # It was counted, and the watch was killed before its state said so.
            if event["after"] == self.held["last"]:
                self.held["last"] = event["until"]
        self._follow_schedule()
        if self.held["running"]:
            self._take_up(datetime.fromisoformat(self.held["running"]))

    def look(self) -> None:
        """Start, finish or count slots that are due now."""
        self._reload()
        self._heed_resume()
        self._mend_clock()
        if self.child and (code := self.child.poll()) is not None:
            self._ended(code)
        due = self._due_slots()
        if due and self.child:
            self._miss(due, "a retrain was running")
        elif due and self.held["paused"]:
            self._miss(due, "paused")
        elif due:
            self._run_latest(due)
        self.world.beat(self.facts())

    def facts(self) -> dict[str, Any]:
        """State of the watch for the heartbeat."""
        coming = self._coming()
        kept = {name: self.held[name] for name in ("last", "running", "failures", "paused")}
        return {"what": "watch", "next": stamp(coming) if coming else "", **kept}

    def wait_s(self) -> float:
        """Seconds until the next look."""
        longest, coming = self.world.poll_s if self.child else self.world.look_s, self._coming()
        if not coming:
            return longest
        return max(min((coming - self.world.clock.now()).total_seconds(), longest), 0.01)

    def close(self) -> Exit:
        """Stop a running retrain; its slot stays under way for the next start."""
        if not self.child:
            return Exit.OK
        self.world.say(f"stopping the retrain of slot {self.held['running']}")
        code = self.child.stop()
        if code == Exit.PREEMPTED or code < 0:
            return Exit.PREEMPTED
        self._ended(code)
        return Exit.OK

    def _last(self) -> datetime:
        return datetime.fromisoformat(self.held["last"])

    def _coming(self) -> datetime | None:
        """The slot after the last one; worked out once for each."""
        known = (self.slots, self.held["last"])
        if known != self.known:
            self.known, self.coming = known, next(self.slots.after(self._last()), None)
        return self.coming

    def _due_slots(self) -> list[datetime]:
        now, coming = self.world.clock.now(), self._coming()
        return list(self.slots.between(self._last(), now)) if coming and coming <= now else []

    def _save(self, **changes: Any) -> None:
        self.held |= changes
        write_json(schedule_file(self.world.state), self.held)

    def _event(self, kind: str, **facts: Any) -> dict[str, Any]:
        return append_event(self.world.state, kind, self.world.clock.now(), **facts)

    def _reload(self) -> None:
        try:
            settings = self.world.schedule()
            slots = slots_of(settings)
        except ConfigError as error:
            self.world.say(f"{error}; the schedule stays as it was")
            return
        self.settings, self.slots = settings, slots
        self._follow_schedule()

    def _follow_schedule(self) -> None:
        """A new schedule counts from now on: what it would have run before was never promised."""
        now = {"cron": self.slots.cron, "timezone": self.slots.timezone}
        if all(self.held[name] == value for name, value in now.items()):
            return
        if self.held["cron"]:
            due = list(Slots(self.held["cron"], self.held["timezone"]).between(self._last(), self.world.clock.now()))
            if due:
                self._miss(due, "the schedule was changed")
        self._event("schedule", **now)
        self._save(last=max(self.held["last"], stamp(self.world.clock.now())), **now)

    def _heed_resume(self) -> None:
        path = resume_file(self.world.state)
        if not path.is_file():
            return
        if self.held["paused"]:
            self._event("resumed", paused=self.held["paused"], failures=self.held["failures"])
            self._save(paused="", failures=0)
            self.world.say("resumed")
        path.unlink(missing_ok=True)

    def _mend_clock(self) -> None:
        now = self.world.clock.now()
        if self._last() > now + AHEAD:
            self._event("clock", last=self.held["last"])
            self.world.say(f"the last slot is {self.held['last']}, now is {stamp(now)}: the clock was wrong")
            self._save(last=stamp(now))

    def _miss(self, due: list[datetime], why: str) -> None:
        """Count slots that are not run: first as an event, then in the state (see ``load``)."""
        facts = {"first": stamp(due[0]), "until": stamp(due[-1]), "count": len(due), "after": self.held["last"]}
        self._event("missed", why=why, **facts)
        self.world.say(f"{len(due)} slots not run, {facts['first']} to {facts['until']}: {why}")
        self._save(last=facts["until"])

    def _run_latest(self, due: list[datetime]) -> None:
        latest, now = due[-1], self.world.clock.now()
        late = now - latest
        if late > max(timedelta(hours=self.settings.catch_up_h), ON_TIME):
            self._miss(due, "too late to make up for")
            return
        if due[:-1]:
            self._miss(due[:-1], "a later slot is made up for")
        self._save(last=stamp(latest), running=stamp(latest))
        self._begin(latest)

    def _begin(self, slot: datetime) -> None:
        self.world.say(f"retrain of slot {stamp(slot)}")
        try:
            self.child = self.world.start(slot)
        except OSError as error:
            self.world.say(f"the retrain could not be started: {error}")
            self._ended(int(Exit.INFRASTRUCTURE))

    def _take_up(self, slot: datetime) -> None:
        """A slot that was under way when the last watch died."""
        known = self._known_end(stamp(slot))
        window = timedelta(hours=self.settings.catch_up_h) + ON_TIME
        if known is not None:
            self._ended(known[0], noted=known[1])
        elif self.held["paused"] or self.world.clock.now() - slot > window:
            self._ended(int(Exit.PREEMPTED))
        else:
            self._begin(slot)

    def _known_end(self, slot: str) -> tuple[int, bool] | None:
        """(exit code, whether the watch has noted it) of a slot's retrain, from events; None if it did not end."""
        codes = {name: int(code) for code, name in NAMES.items()}
        found = None
        for event in read_events(self.world.state, EVENT, "slot", holding=slot):
            if event.get("slot") != slot:
                continue
            if event["kind"] == "slot":
                return int(event["code"]), True
            if event.get("outcome") not in UNFINISHED:
                found = codes.get(str(event.get("outcome")), int(Exit.ERROR)), False
        return found

    def _ended(self, code: int, noted: bool = False) -> None:
        """The retrain of the slot under way ended: noted once, failures counted."""
        slot, self.child = self.held["running"], None
        if not noted:
            self._event("slot", slot=slot, code=code)
        failures = 0 if code in NO_FAILURE else self.held["failures"] + (code not in NEITHER)
        paused = self.held["paused"]
        if failures >= self.settings.pause_after and not paused:
            paused = stamp(self.world.clock.now())
            words = f"{failures} failures in a row; nothing starts until someone says: genfoundry retrain --resume"
            event = self._event("paused", outcome="paused", slot=slot, failures=failures, code=code, message=words)
            self._save(running="", failures=failures, paused=paused)
            self.world.say(words)
            self.world.tell(event)
            return
        self._save(running="", failures=failures)
