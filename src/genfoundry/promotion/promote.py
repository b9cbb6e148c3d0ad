"""`genfoundry promote`: the challenger is judged against the champion, and takes its place if every rule passes.

Promoters of a project wait for each other. Aliases move under a second, short lock, so that a rollback never waits for
a judgement; whoever judged against a champion that was replaced meanwhile judges again.
"""

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from genfoundry.config import params as settings
from genfoundry.core import parts
from genfoundry.core.clock import stamp
from genfoundry.core.errors import BusyError, ConfigError, DataError, Exit, InfrastructureError
from genfoundry.core.io import digest_of, write_json
from genfoundry.core.paths import state_root
from genfoundry.gate.compare import compare
from genfoundry.gate.comparison import Comparison
from genfoundry.gate.rules import BLESSED, NOT_BLESSED, Decision, Gate, Rule
from genfoundry.promotion.champions import standing
from genfoundry.promotion.locks import judging, moving
from genfoundry.promotion.moves import PROMOTED, Move, begin, carry_out, pending, resume
from genfoundry.promotion.reconcile import Reconciled, reconcile
from genfoundry.promotion.servability import Served, serves
from genfoundry.promotion.story import decision_words, timeline
from genfoundry.state.events import append_event, read_events
from genfoundry.tracking import tags
from genfoundry.tracking.runs import user
from genfoundry.tracking.versions import PREVIOUS, Registered, Version, registry_errors

TRIES = 3
"""Judgements of one call, where the champion is replaced while they last."""


@dataclass(frozen=True)
class Wishes:
    """Options of the command line."""

    version: str = ""
    """Number of the version to promote; empty: what the workspace's line made."""
    rules: dict[str, Any] = field(default_factory=dict)
    """Instead of those of params.yaml."""
    trust_split: bool = False
    again: str = ""
    """Why a version that was rolled back from may be promoted again."""
    wait: float = 3600.0
    """Seconds to wait for another promoter of this project."""


@dataclass(frozen=True)
class Outcome:
    """How a promotion ended."""

    code: Exit
    facts: dict[str, Any]
    """For ``--json``."""
    found: Comparison | None = None
    """The comparison, if there was one."""
    notes: tuple[str, ...] = ()
    """What had to be repaired before."""


def promote(root: Path, key: str, wishes: Wishes, after: Callable[[str], None] = lambda step: None) -> Outcome:
    """Judge a model and make it champion if it is blessed.

    Args:
        root: Workspace.
        key: Model of params.yaml.
        wishes: Of the command line.
        after: Called with each finished step.

    Raises:
        ConfigError: No such model or version.
        DataError: The model was not made from the present state, or the two can't be measured alike.
        BusyError: Another promoter works longer than one wants to wait.
        InfrastructureError: The registry fails; what was decided is completed by the next call.
    """
    tree, state = settings.load(root), state_root(root)
    if key not in tree.models:
        raise ConfigError(f"params.yaml: no model {key!r}{parts.nearest(key, list(tree.models))}")
    with judging(state, wishes.wait, f"promote {key}"):
        found = reconcile(root)
        with registry_errors(found.store, f"promote {key}"):
            return _Promotion(root, state, key, wishes, found, after).run()


@dataclass
class _Promotion:
    """Inputs and steps of a promotion."""

    root: Path
    state: Path
    key: str
    wishes: Wishes
    open: Reconciled
    after: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def run(self) -> Outcome:
        registered = Registered(self.open.store, self.key)
        for _ in range(TRIES):
            challenger, word = self._challenger(registered)
            with self._moving():
                completed, words = resume(self.state, registered)
                self._note(words)
                champion, corrected = standing(self.state, registered)
                self._note(corrected)
            if completed and completed.kind == PROMOTED and completed.to == challenger.number:
                return Outcome(Exit.OK, dict(completed.decision), None, tuple(self.notes))
            if champion is not None and registered.version(champion).digest == challenger.digest:
                return self._already(challenger, champion)
            found, decision, served = self._judge(challenger, word, champion)
            self.after("judged")
            with self._moving():
                if not self._still(registered, champion, found):
                    self._note(f"champion is no longer version {champion}: judged again")
                    continue
                facts = self._facts(challenger, champion, found, decision, served)
                self._record(registered, challenger, facts)
                self.after("recorded")
                if decision.blessed:
                    self._move(registered, challenger, champion, found, facts)
                else:
                    self._reject(registered, challenger, facts)
            return Outcome(Exit.OK if decision.blessed else Exit.REJECTED, facts, found, tuple(self.notes))
        raise BusyError(
            f"promote {self.key}: the champion was replaced {TRIES} times while it was judged; run it again"
        )

    def _still(self, registered: Registered, champion: str | None, found: Comparison) -> bool:
        """Whether the champion that was judged against is champion, and nobody was killed on the way to another one."""
        judged = found.champion.version.rpartition("/")[2] if found.champion else None
        if pending(self.state, self.key) is not None:
            return False
        return standing(self.state, registered)[0] == champion == judged

    def _moving(self) -> AbstractContextManager[None]:
        return moving(self.state, self.open.store, self.open.tree.project, f"promote {self.key}")

    def _note(self, words: str) -> None:
        if words:
            self.notes.append(words)

    def _challenger(self, registered: Registered) -> tuple[Version, str]:
        """The version to promote, and the word by which it is compared."""
        mine = self.open.recorded.versions.get(self.key)
        if self.wishes.version and self.wishes.version != mine:
            return registered.version(self.wishes.version), f"{self.key}/{self.wishes.version}"
        if mine is None:
            stale = self.open.recorded.stale
            why = next((f"{address}: {stale[address]}" for address in self._line() if address in stale), "")
            raise DataError(f"promote {self.key}: the workspace has no present model ({why}); run dvc repro")
        return registered.version(mine), self.key

    def _line(self) -> list[str]:
        dataset = self.open.tree.models[self.key].dataset
        return [f"{stage}@{self.key}" for stage in ("train", "sample", "evaluate")] + [
            f"encode@{dataset}",
            f"reference@{dataset}",
        ]

    def _judge(
        self, challenger: Version, word: str, champion: str | None
    ) -> tuple[Comparison, Decision, Served | None]:
        gate = settings.parse(Gate, {**self.open.tree.gate, **self.wishes.rules}, "gate")
        # By its alias: so the gate knows that it is champion. Under the lock the number is checked.
        against = None if champion is None else f"{self.key}@champion"
        try:
            found = compare(self.root, word, against, gate=gate, trust_split=self.wishes.trust_split)
        except (InfrastructureError, DataError) as error:
            if against is not None and against in str(error):
                hint = "genfoundry rollback takes the one before it, docs/operations.md says what else can be done"
                raise type(error)(f"{error}; if that champion is lost: {hint}") from error
            raise
        if found.challenger.digest != challenger.digest:
            raise DataError(
                f"promote {self.key}: the model folder is {found.challenger.digest[:12]}, registered as version "
                f"{challenger.number} is {challenger.digest[:12]}: it was changed meanwhile; run the command again"
            )
        decision = found.decision
        rules = [*decision.rules, *self._rolled_back(challenger)]
        served = None
        if all(rule.passed for rule in rules):
            model, generator = found.challenger.model, found.challenger.generator
            served = serves(self.root, self.open.tree, self.key, model, generator)
            rules.append(served.as_rule())
        decision = Decision(tuple(rules), decision.facts)
        return replace(found, decision=decision), decision, served

    def _rolled_back(self, challenger: Version) -> list[Rule]:
        """Reject a version that was rolled back, whatever its scores, unless ``again`` gives a reason."""
        why = challenger.tags.get(tags.ROLLED_BACK)
        if why is None:
            return []
        if self.wishes.again:
            return [Rule("rolled_back", True, f"was rolled back ({why}), and is let in again: {self.wishes.again}")]
        return [Rule("rolled_back", False, f"was rolled back ({why}); promote it again with --again REASON")]

    def _facts(
        self,
        challenger: Version,
        champion: str | None,
        found: Comparison,
        decision: Decision,
        served: Served | None,
    ) -> dict[str, Any]:
        facts = decision.as_json()
        verdict, rules = facts.pop("verdict"), facts.pop("rules")
        facts.pop("format")
        refused = {"passed": None, "words": "not asked: a rule has refused it already"}
        return {
            "format": 1,
            "verdict": verdict,
            "outcome": "promoted" if decision.blessed else "rejected",
            "words": _words(challenger, champion, found, decision),
            "model": self.key,
            "version": challenger.number,
            "champion_before": champion,
            "champion_after": challenger.number if decision.blessed else champion,
            "rules": rules,
            "servability": served.as_json() if served else refused,
            "facts": facts,
        }

    def _already(self, challenger: Version, champion: str) -> Outcome:
        # Somebody may have set the alias by hand, to a version that was never judged or was refused.
        verdict = challenger.tags.get(tags.VERDICT, NOT_BLESSED)
        words = f"version {challenger.number} is champion already"
        if verdict != BLESSED:
            words += ", though no judgement that blessed it is recorded"
        facts = {
            "format": 1,
            "verdict": verdict,
            "outcome": "already_champion",
            "words": words,
            "model": self.key,
            "version": challenger.number,
            "champion_before": champion,
            "champion_after": champion,
            "rules": [{"name": "already_champion", "passed": verdict == BLESSED, "words": words, "numbers": {}}],
            "servability": {"passed": None, "words": "not asked"},
            "facts": {},
        }
        return Outcome(Exit.NO_OP, facts, None, tuple(self.notes))

    def _record(self, registered: Registered, challenger: Version, facts: dict[str, Any]) -> None:
        """The decision on the version: tags, description, and decision.json beside its files."""
        with tempfile.TemporaryDirectory() as folder:
            # The last one by this name, and each one by its own.
            for name in ("decision", f"decision-{decision_id(facts)[:12]}"):
                write_json(Path(folder) / f"{name}.json", facts)
            registered.attach(challenger.number, Path(folder), "promotion")
        registered.tag(challenger.number, {tags.VERDICT: facts["verdict"], tags.DECISION: decision_id(facts)})
        registered.describe(challenger.number, decision=decision_words(facts))

    def _move(
        self,
        registered: Registered,
        challenger: Version,
        champion: str | None,
        found: Comparison,
        facts: dict[str, Any],
    ) -> None:
        previous = registered.aliases().get(PREVIOUS)
        move = Move(
            id=uuid4().hex,
            kind=PROMOTED,
            key=self.key,
            to=challenger.number,
            before=champion,
            previous=champion or (previous if previous != challenger.number else None),
            previous_before=previous,
            at=stamp(),
            words=facts["words"],
            gate={
                "dataset": found.dataset,
                "digest": challenger.digest,
                "better_than_best": found.better_than_best,
            },
            facts={"decision": decision_id(facts), "digest": challenger.digest, "by": user()},
            decision=facts,
        )
        begin(self.state, move)
        carry_out(self.state, registered, move, self.after)

    def _reject(self, registered: Registered, challenger: Version, values: dict[str, Any]) -> None:
        decided = decision_id(values)
        if not any(event.get("decision") == decided for event in read_events(self.state, "rejected")):
            facts = {"model": self.key, "version": challenger.number, "before": values["champion_before"]}
            append_event(self.state, "rejected", **facts, words=values["words"], decision=decided, by=user())
        timeline(self.state, registered)


def decision_id(values: dict[str, Any]) -> str:
    """Id of a decision: a digest of challenger, champion and rules, so equal comparisons have equal ids."""
    facts = values["facts"]
    passed = {rule["name"]: rule["passed"] for rule in values["rules"]}
    asked = {name: facts.get(name) for name in ("models", "gate_set", "settings", "look")}
    return digest_of({"model": values["model"], "verdict": values["verdict"], "rules": passed, **asked})


def _words(challenger: Version, champion: str | None, found: Comparison, decision: Decision) -> str:
    """The decision in one line."""
    other = f"champion version {champion}" if champion else "the floors alone, as there is no champion"
    said = f"version {challenger.number} against {other}"
    row = next((row for row in found.rows if row.metric == found.primary), None)
    if row is not None:
        said += f": {row.metric} {row.challenger.value:.4g}"
        if row.champion is not None:
            said += f" against {row.champion.value:.4g}"
        if row.difference is not None:
            low, high = row.difference.interval()
            said += f", difference {row.difference.value:+.3g} (95 %: {low:+.3g} to {high:+.3g})"
    failed = [rule for rule in decision.rules if not rule.passed]
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        said += f"; refused: {failed[0].words}{more}"
    reason = decision.facts.get("settings", {}).get("reason")
    return said + (f"; reason: {reason}" if reason else "")
