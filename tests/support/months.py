"""A world for the scheduler and the engine: a clock that jumps, a line that takes microseconds, kills anywhere.

What is real: `retraining.engine`, `retraining.watch`, the rule `superior` of the gate and the paired difference it is
given, the policy of upkeep on worktrees and journals. What is made up: data that come, grow bad and
repeat; servers that fail; models whose true quality is known; how long a retrain takes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError, DivergedError, Exit, InfrastructureError, PreemptedError
from genfoundry.core.io import digest_of
from genfoundry.gate.rules import Loss, superior
from genfoundry.metrics._paired import paired_ratio_difference
from genfoundry.retraining import engine
from genfoundry.retraining.options import Schedule
from genfoundry.retraining.protocol import Asked, Decision, Facts, Reason, Request, Snapshot, Work
from genfoundry.retraining.schedule.watch import World, resume, watch
from genfoundry.state.journal import home
from genfoundry.upkeep import files
from genfoundry.upkeep.options import Keep

ALPHA = 0.05
DOCUMENTS = 60


class Kill(BaseException):
    """As SIGKILL: nothing after it runs."""


class JumpingClock:
    """A clock that the simulation moves; the machine may sleep, and the clock be set."""

    def __init__(self, start: datetime) -> None:
        self.moment = start
        self.jumps: list[tuple[datetime, timedelta]] = []
        """(when, by how much): forward as a machine that slept, or set forward; back as set back."""

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        # Whole seconds, as stamps are; a sleep is never shorter than asked for.
        self.moment += timedelta(seconds=max(1, round(seconds)))
        while self.jumps and self.jumps[0][0] <= self.moment:
            self.moment += self.jumps.pop(0)[1]


@dataclass
class Registry:
    """Models with their true quality (nats a document, lower is better), and who serves. Outlives every kill."""

    quality: dict[str, float] = field(default_factory=dict)
    champion: str | None = None
    previous: str | None = None
    promotions: list[tuple[str | None, str]] = field(default_factory=list)
    judged: dict[tuple[str, str], bool] = field(default_factory=dict)
    """(challenger, champion): blessed; one decision for each pair, as the real gate has it."""


@dataclass
class Luck:
    """What goes wrong, and when."""

    generator: np.random.Generator
    kills: float = 0.02
    """Probability of a kill at each crash point of the engine."""
    watch_kills: float = 0.01
    """The same at each write of the watch."""
    outage_until: datetime = datetime(2000, 1, 1, tzinfo=UTC)

    def happens(self, probability: float) -> bool:
        return bool(self.generator.random() < probability)


class DummyLine:
    """A line of microseconds over simulated data, servers and models."""

    def __init__(self, state: Path, clock: JumpingClock, luck: Luck, registry: Registry, data: "Data") -> None:
        self.state, self.clock, self.luck, self.registry, self.data_now = state, clock, luck, registry, data
        self.told: list[Facts] = []

    def sweep(self) -> Facts:
        return {}

    def snapshot(self) -> Snapshot:
        return Snapshot("c0", {"data.dvc": self.data_now.digest}, "p0", "l0", ("small",))

    def ask(self, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
        return Asked((Reason("slot", f"slot {request.slot}"),))

    def preflight(self, work: Work) -> Facts:
        if self.clock.now() < self.luck.outage_until:
            raise InfrastructureError("tracking server: no answer")
        return {}

    def _copy(self, work: Work) -> Path:
        return home(self.state) / "worktrees" / work.key

    def worktree(self, work: Work) -> Facts:
        self._copy(work).mkdir(parents=True, exist_ok=True)
        now = self.clock.now().timestamp()
        os.utime(self._copy(work), (now, now))
        return {}

    def standing(self, work: Work) -> bool:
        return self._copy(work).is_dir()

    def data(self, work: Work) -> Facts:
        (self._copy(work) / "data").write_text(work.snapshot.data["data.dvc"])
        return {}

    def contracts(self, work: Work) -> Facts:
        if self.data_now.bad:
            raise DataError("data: a column is gone")
        return {}

    def train(self, work: Work) -> Facts:
        if self.luck.happens(0.02):
            raise DivergedError("loss is not finite")
        if self.luck.happens(0.02):
            raise PreemptedError("stopped")
        (self._copy(work) / "model").write_text(work.key)
        return {}

    def record(self, work: Work) -> Facts:
        assert (self._copy(work) / "model").read_text() == work.key, "half-trained"
        # The model follows from its inputs: a rerun makes the same one.
        draw = np.random.Generator(np.random.PCG64(int(work.key, 16)))
        self.registry.quality.setdefault(work.key, 100 + self.data_now.quality + float(draw.normal(0, 1)))
        return {}

    def promote(self, work: Work, model: str) -> Decision:
        challenger, champion = work.key, self.registry.champion
        if champion == challenger:
            return Decision(model, Exit.NO_OP, {"version": challenger})
        if champion and not self._blessed(challenger, champion):
            return Decision(model, Exit.REJECTED, {"version": challenger})
        self.registry.previous = champion
        if self.luck.happens(0.05):
            raise Kill("between the aliases")
        self.registry.champion = challenger
        self.registry.promotions.append((champion, challenger))
        return Decision(model, Exit.OK, {"version": challenger, "champion_after": challenger})

    def _blessed(self, challenger: str, champion: str) -> bool:
        pair = (challenger, champion)
        if pair not in self.registry.judged:
            quality, draw = self.registry.quality, self.luck.generator
            shared = draw.normal(0, 10, DOCUMENTS)
            nats = [np.maximum(quality[name] + shared + draw.normal(0, 3, DOCUMENTS), 1) for name in pair]
            found = paired_ratio_difference(*nats, np.full(DOCUMENTS, 50.0))
            self.registry.judged[pair] = superior(Loss("bits_per_byte", found, 0.0, "champion"), ALPHA).passed
        return self.registry.judged[pair]

    def commit(self, work: Work) -> Facts:
        return {"branch": f"retrain/{work.key}"}

    def push(self, work: Work) -> Facts:
        return {}

    def upkeep(self, work: Work) -> Facts:
        return clean(self.state, KEEP, self.clock.now())

    def tell(self, event: Facts) -> Sequence[str]:
        self.told.append(event)
        return ("webhook: no answer",) if self.luck.happens(0.1) else ()


KEEP = Keep(retrains=20, worktrees=2)


def clean(state: Path, keep: Keep, now: datetime) -> Facts:
    """The policy of `genfoundry clean` on worktrees and journals."""
    worktrees = list(files._worktrees(state, state, keep, now))
    going = {what for _, what, _, _, _ in worktrees}
    for *_, act in [*worktrees, *files._journals(state, state, keep, now, None, going)]:
        act()
    return {}


@dataclass
class Data:
    """What data.dvc says now."""

    version: int = 0
    bad: bool = False
    quality: float = 0.0
    """How good a model of these data is, on the mean."""

    @property
    def digest(self) -> str:
        return digest_of([self.version, self.bad])

    def move(self, luck: Luck) -> None:
        """A night's news: often none, mostly new records, sometimes worse ones, now and then broken ones."""
        if luck.happens(0.7):
            self.version += 1
            self.bad = luck.happens(0.08)
            self.quality += float(luck.generator.normal(-0.03, 0.3))


class Retraining:
    """The child process: it runs the engine when its time is over, or up to a kill."""

    def __init__(self, months: "Months", slot: str) -> None:
        self.months, self.slot = months, slot
        self.until = months.clock.now() + timedelta(minutes=float(months.luck.generator.choice([5, 40, 200, 1000])))

    def poll(self) -> int | None:
        if self.months.clock.now() < self.until:
            return None
        return self.run()

    def run(self, stop_at: int | None = None) -> int:
        """Exit code; negative where it was killed. ``stop_at``: SIGTERM at that crash point."""
        points = 0

        def between(point: str) -> None:
            nonlocal points
            points += 1
            if points == stop_at:
                raise PreemptedError("SIGTERM")
            if self.months.luck.happens(0.005):
                self.months.asks_too()
            if self.months.luck.happens(self.months.luck.kills):
                raise Kill(point)

        request = Request(scheduled=True, slot=self.slot)
        try:
            outcome = engine.retrain(self.months.line, self.months.state, self.months.clock, request, between)
        except Kill:
            return -9
        except PreemptedError:
            return int(Exit.PREEMPTED)
        return int(outcome.code)

    def stop(self) -> int:
        return self.run(stop_at=int(self.months.luck.generator.integers(1, 20)))


class Months:
    """The whole world; ``live`` lets it run until so many slots have passed."""

    def __init__(self, state: Path, seed: int, schedule: Schedule, start: datetime) -> None:
        self.state, self.schedule = state, schedule
        self.luck = Luck(np.random.Generator(np.random.PCG64(seed)))
        self.clock, self.registry, self.data = JumpingClock(start), Registry(), Data()
        self.line = DummyLine(state, self.clock, self.luck, self.registry, self.data)
        self.stop_after = start
        self.children: list[Retraining] = []
        self.kills = self.stops = self.starts = self.busy = 0
        self.day = start.date()
        self.had_champion = False

    def begin(self, slot: datetime) -> Retraining:
        self.children.append(Retraining(self, slot.strftime("%Y-%m-%dT%H:%M:%SZ")))
        return self.children[-1]

    def asks_too(self) -> None:
        """A person starts a retrain while one runs."""
        outcome = engine.retrain(self.line, self.state, self.clock, Request(reason="impatient"))
        assert outcome.code == Exit.BUSY
        self.busy += 1

    def beat(self, facts: dict[str, Any]) -> None:
        """Each look: the world moves on, and what must never be is looked for."""
        if self.clock.now().date() != self.day:
            self.day = self.clock.now().date()
            self.data.move(self.luck)
            if self.luck.happens(0.04):
                self.luck.outage_until = self.clock.now() + timedelta(hours=float(self.luck.generator.uniform(1, 60)))
        self.had_champion |= self.registry.champion is not None
        assert not self.had_champion or self.registry.champion in self.registry.quality, "no champion"
        if facts["paused"] and self.luck.happens(0.2):
            resume(self.state)

    def stopping(self) -> bool:
        return self.clock.now() >= self.stop_after

    def world(self) -> World:
        return World(
            state=self.state, clock=self.clock, schedule=lambda: self.schedule, start=self.begin, tell=self.line.tell,
            beat=self.beat, stopping=self.stopping, say=lambda words: None, look_s=3600, poll_s=1200,
        )  # fmt: skip

    def live(self, until: datetime) -> None:
        """Start the watch again and again: it is stopped, killed, and the machine is off for a while."""
        draw = self.luck.generator
        while self.clock.now() < until:
            self.starts += 1
            self.stop_after = min(until, self.clock.now() + timedelta(days=float(draw.exponential(20))))
            self.children.clear()
            try:
                watch(self.world())
                self.stops += 1
            except Kill:
                self.kills += 1
                for child in self.children[-1:]:
                    if child.until > self.clock.now() and self.luck.happens(0.5):
                        child.run()  # an orphan goes on to its end
            if self.clock.now() < until and self.luck.happens(0.5):
                self.clock.sleep(float(draw.choice([60, 3600, 86400, 5 * 86400])))
        self.stop_after = until
