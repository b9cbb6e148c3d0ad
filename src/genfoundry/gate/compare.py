"""One model against another: every score side by side, the paired difference, and the gate's decision."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.config import params as settings
from genfoundry.config.params import Settings
from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.numerics import Numerics
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import read_spec
from genfoundry.core import pin
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import digest_of
from genfoundry.core.paths import DatasetPaths, state_root
from genfoundry.evaluation.scoring import applicable, compute
from genfoundry.gate import looks
from genfoundry.gate.comparison import Comparison, Row
from genfoundry.gate.differences import Chosen, as_loss, gap, slice_losses
from genfoundry.gate.evidence import HeldOut, Terms, measure, present_records
from genfoundry.gate.looks import Champion, GateSet, alpha_left, alpha_of_look
from genfoundry.gate.protocol import protocol_difference
from genfoundry.gate.rules import Decision, Gate, Loss, Rule, decide, unknown_metrics
from genfoundry.gate.subjects import Subject, common_dataset, resolve, seen_by
from genfoundry.metrics._paired import Difference
from genfoundry.metrics._record import Record
from genfoundry.tracking.store import open_store

COPYING_IS_ALONE = "judged against held-out records alone"


def compare(
    root: Path,
    challenger: str,
    champion: str | None,
    *,
    gate: Gate | None = None,
    trust_split: bool = False,
    rotate: str = "",
    forget_best: bool = False,
) -> Comparison:
    """Judge a challenger against a champion, or without one against refusals alone.

    Args:
        root: Workspace.
        challenger: Key of params.yaml, ``name/3``, ``name@alias`` or a model folder.
        champion: The same; None for the first champion.
        gate: Rules; None takes ``gate`` of params.yaml.
        trust_split: Let models take part that don't say which records they have seen.
        rotate: Reason to start a new gate set first; empty keeps the present one.
        forget_best: With ``rotate``, let go of the best champion so far.

    Raises:
        ConfigError: A model, metric or setting is unknown.
        DataError: The models weren't, or can't be, measured alike; the difference is named.
    """
    tree = settings.load(root)
    gate = gate or settings.parse(Gate, tree.gate, "gate")
    pin.require(settings.parse(Numerics, tree.numerics, "numerics").instructions)
    state = state_root(root)
    unknown = unknown_metrics(gate)
    if unknown:
        raise ConfigError("\n".join(unknown))

    def find(text: str) -> Subject:
        return resolve(text, root, tree, lambda: open_store(state, tree.project), state / "mlruns/gate/models")

    subjects = [find(text) for text in (challenger, champion) if text is not None]
    terms = _terms(root, tree, subjects, state)
    key = terms.dataset.key
    present = present_records(terms.dataset)
    if rotate:
        looks.rotate(state, key, present, rotate, forget_best)
    gate_set = _frozen(state, key, present, subjects[-1])
    best = _best(gate_set, subjects, find) if champion is not None else None
    everyone = [*subjects, *([best] if best else [])]
    seen = seen_by(everyone, trust_split)
    keep = np.isin(present, gate_set.hashes) & ~np.isin(present, seen)
    counts = _counts(present, gate_set.hashes, seen, keep)
    if counts["used"] < 2:
        raise DataError(f"gate set of {key}: {counts['used']} records that no model has seen are left ({counts})")
    return _Judge(gate, terms, subjects, best, keep, counts, state).judge()


def _frozen(state: Path, key: str, present: np.ndarray, champion: Subject) -> GateSet:
    """The gate set, frozen with the present records if there was none, with a first champion to remember."""
    with looks.opened(state, key) as gate_set:
        if not gate_set.number:
            gate_set.freeze(present, "first comparison")
        if champion.champion:
            gate_set.remember(Champion(champion.digest, champion.version), better_than_best=False)
    return gate_set


def _terms(root: Path, tree: Settings, subjects: Sequence[Subject], state: Path) -> Terms:
    key, like = common_dataset(subjects, tree)
    sampling, evaluation = (settings.model_section(tree, like, base) for base in (Sampling, Evaluation))
    execution = settings.parse(Execution, tree.execution, "execution")
    work = state / "mlruns/gate/work"
    return Terms(root, tree, DatasetPaths(root, key), like, sampling.of_protocol(), evaluation, execution, work)


def _best(gate_set: GateSet, subjects: Sequence[Subject], find: Any) -> Subject | None:
    """The best champion so far, where it is neither of the two."""
    best = gate_set.champion
    if best is None or best.digest in {subject.digest for subject in subjects}:
        return None
    try:
        found: Subject = find(best.version)
    except (ConfigError, DataError) as error:
        raise DataError(
            f"{best.version}, the best champion so far, can't be loaded: {error}; restore it, or let it go with "
            "genfoundry compare A B --rotate REASON --forget-best"
        ) from error
    return found


def _counts(present: np.ndarray, frozen: np.ndarray, seen: np.ndarray, keep: np.ndarray) -> dict[str, int]:
    inside = np.isin(present, frozen)
    return {
        "frozen": len(frozen),
        "used": int(keep.sum()),
        "seen": int((inside & np.isin(present, seen)).sum()),
        "gone": int((~np.isin(frozen, present)).sum()),
        "new": int((~inside).sum()),
    }


@dataclass
class _Judge:
    """Inputs and steps of one comparison."""

    gate: Gate
    terms: Terms
    subjects: Sequence[Subject]
    best: Subject | None
    keep: np.ndarray
    counts: Mapping[str, int]
    state: Path

    def judge(self) -> Comparison:
        spec = read_spec(self.terms.dataset.arrays)
        kind, primary = spec.kind, self.gate.primary_of(spec)
        challenger, champion = self.subjects[0], self.subjects[1] if len(self.subjects) > 1 else None
        facts = self._facts(primary)
        try:
            mine = self._evidence(challenger)
            chosen = self._chosen(mine, primary)
            records, failed = _computed(chosen, mine)
            if primary in failed:
                raise DataError(failed[primary])
        except DataError as error:
            # A model that samples NaN is rejected with the reason; it is no data error.
            refusal = Rule("measurable", False, f"{challenger.name} can't be measured: {error}")
            return self._told(primary, (), Decision((refusal,), facts))
        facts |= {"not_measured": failed}
        refusals = list(_refusals(self.gate, kind, primary, records))
        if champion is None:
            rows = tuple(_row(name, chosen, records[name], None, None) for name in records)
            refusals += [_unmeasured(name, failed[name]) for name in failed if name in self.gate.copies]
            facts |= {"scores": _scores(rows)}
            return self._told(primary, rows, decide(self.gate, self.gate.alpha, [], [], refusals, facts))
        losses: list[Loss] = []
        guards: list[Loss] = []
        rows = ()
        for against, other in (("champion", champion), ("best", self.best)):
            if other is None:
                continue
            theirs = self._evidence(other)
            named = chosen if against == "champion" else _needed(chosen, primary, self.gate)
            found, lacking = self._rows(named, records, mine, theirs)
            losses += self._primary(found[primary], against, chosen)
            more, notes = self._guards(found, against, chosen)
            # A metric that neither model has enough data for, such as long copies among short samples, is left out.
            notes += [
                _unmeasured(name, failed[name]) for name in failed if name in self.gate.guards and name not in lacking
            ]
            guards += more
            refusals += notes
            both = {name: part for name, part in chosen.items() if name in found and not found[name].unequal}
            slices = self.terms.evaluation.slices
            guards += slice_losses(slices, self.gate.slices, both, mine, theirs, against)
            rows = rows or tuple(found.values())
        look = self._look(champion, records[primary])
        alpha = alpha_of_look(self.gate.alpha, look)
        spent = {"number": look, "alpha": alpha, "left": alpha_left(self.gate.alpha, look)}
        decision = decide(self.gate, alpha, losses, guards, refusals, facts | {"look": spent, "scores": _scores(rows)})
        return self._told(primary, rows, decision, losses[-1].difference.value < 0)

    def _evidence(self, subject: Subject) -> HeldOut:
        paths, dataset = measure(subject, self.terms)
        return HeldOut(paths, dataset, self.keep, self._records_digest())

    def _records_digest(self) -> str:
        kept = present_records(self.terms.dataset)[self.keep]
        return digest_of(kept.astype(">u8").tobytes().hex())

    def _chosen(self, evidence: HeldOut, primary: str) -> Chosen:
        where = f"models.{self.terms.like}.evaluation.metrics"
        chosen = applicable(self.terms.evaluation, evidence, where)
        if primary not in chosen:
            raise ConfigError(f"params.yaml: 'gate.primary': {primary!r} does not apply to {self.subjects[0].name}")
        return chosen

    def _rows(
        self, chosen: Chosen, records: Mapping[str, Record], mine: HeldOut, theirs: HeldOut
    ) -> tuple[dict[str, Row], dict[str, str]]:
        """Rows of the metrics that the challenger has, and why the other lacks some."""
        applies = applicable(self.terms.evaluation, theirs, f"models.{self.terms.like}.evaluation.metrics")
        others, lacking = _computed({name: part for name, part in chosen.items() if name in applies}, theirs)
        found = {}
        for name, record in records.items():
            if name not in chosen:
                continue
            other, between = others.get(name), None
            if other is not None and not protocol_difference(record.protocol, other.protocol):
                metric, options = chosen[name]
                between = gap(metric, options, mine, theirs, (record.score, other.score))
            found[name] = _row(name, chosen, record, other, between)
        return found, lacking

    def _primary(self, row: Row, against: str, chosen: Chosen) -> list[Loss]:
        if row.difference is None or row.champion is None:
            why = "; ".join(row.unequal) or "it does not apply to both"
            raise DataError(f"{row.metric}: the models were not measured alike: {why}; they can't be compared")
        share = self.gate.margin_unit == "share"
        margin = self.gate.margin * (abs(row.champion.value) if share else 1.0)
        return [Loss(row.metric, as_loss(chosen[row.metric][0], row.difference), margin, against)]

    def _guards(self, rows: Mapping[str, Row], against: str, chosen: Chosen) -> tuple[list[Loss], list[Rule]]:
        losses, notes = [], []
        for name in self.gate.guards:
            if name not in rows:
                continue
            row = rows[name]
            if row.higher_is_better is None:
                raise ConfigError(f"params.yaml: 'gate.guards.{name}': neither end of it is better; choose another")
            if row.difference is None:
                why = "; ".join(row.unequal) or f"it does not apply to the {against}"
                alone = name in self.gate.copies
                text = f"{name}: no comparison with the {against} ({why})" + (f": {COPYING_IS_ALONE}" * alone)
                notes.append(Rule(f"guard:{name}:{against}", alone, text))
                continue
            losses.append(Loss(name, as_loss(chosen[name][0], row.difference), self.gate.guards[name], against))
        return losses, notes

    def _look(self, champion: Subject, record: Record) -> int:
        """Number of this look; a model against itself is no look."""
        with looks.opened(self.state, self.terms.dataset.key) as gate_set:
            if self.subjects[0].digest == champion.digest:
                return len(gate_set.looks) + 1
            return gate_set.look(self.subjects[0].digest, champion.digest, digest_of(record.protocol))

    def _facts(self, primary: str) -> dict[str, Any]:
        gate_set = looks.read(self.state, self.terms.dataset.key)
        named = dict(zip(("challenger", "champion"), self.subjects, strict=False)) | (
            {"best": self.best} if self.best else {}
        )
        return {
            "dataset": self.terms.dataset.key,
            "primary": primary,
            "models": {role: subject.as_json() for role, subject in named.items()},
            "gate_set": {"number": gate_set.number, "digest": gate_set.digest, **self.counts},
            "settings": self.gate.model_dump(mode="json"),
        }

    def _told(self, primary: str, rows: tuple[Row, ...], decision: Decision, better: bool = False) -> Comparison:
        champion = self.subjects[1] if len(self.subjects) > 1 else None
        key = self.terms.dataset.key
        return Comparison(self.subjects[0], champion, key, primary, rows, decision, self.counts, better)


def _computed(chosen: Chosen, evidence: HeldOut) -> tuple[dict[str, Record], dict[str, str]]:
    """Records by metric, and by those that refuse this evidence their reason."""
    found, failed = {}, {}
    for name, part in chosen.items():
        try:
            found[name] = compute(name, *part, evidence)
        except DataError as error:
            failed[name] = str(error)
    return found, failed


def _unmeasured(name: str, why: str) -> Rule:
    return Rule(f"measurable:{name}", False, f"{name} can't be measured: {why}")


def _needed(chosen: Chosen, primary: str, gate: Gate) -> Chosen:
    """Against the best champion only what rules look at is computed."""
    return {name: part for name, part in chosen.items() if name in {primary, *gate.guards, *gate.slices}}


def _row(name: str, chosen: Chosen, mine: Record, theirs: Record | None, between: Difference | None) -> Row:
    beside = {rival: score.value for rival, score in mine.rivals.items()}
    unequal = tuple(protocol_difference(mine.protocol, theirs.protocol)) if theirs else ()
    better = chosen[name][0].higher_is_better
    return Row(name, better, mine.score, theirs.score if theirs else None, beside, between, unequal)


def _scores(rows: Sequence[Row]) -> dict[str, Any]:
    return {row.metric: row.as_json() for row in rows}


def _refusals(gate: Gate, kind: str, primary: str, records: Mapping[str, Record]) -> Iterator[Rule]:
    """Rules that hold whoever is champion."""
    value = records[primary].score.value
    yield Rule("finite", math.isfinite(value), f"{primary} is a finite number: {value:.4g}", {"value": value})
    for name, limit in gate.copies.items():
        if name in records and "floor" in records[name].rivals:
            yield _copies(name, limit, records[name])
    extra = records[primary].score.extra
    if kind == "grid" and "relative_to_spread" in extra:
        share = extra["relative_to_spread"]
        text = f"{primary}: {share:.3g} of the real data's spread; one average picture, repeated, has 1"
        yield Rule("better_than_nothing", share < 1, text, {"value": share, "limit": 1.0})
    if "unigram" in records[primary].rivals:
        floor = records[primary].rivals["unigram"].value
        text = f"{primary}: {value:.4g}, word frequencies alone have {floor:.4g}"
        yield Rule("better_than_nothing", value < floor, text, {"value": value, "limit": floor})


def _copies(name: str, limit: float, record: Record) -> Rule:
    floor, se = record.rivals["floor"].value, record.score.se
    more = record.score.value - floor
    # Without an error bar the estimate decides alone: the safe side.
    sure = not math.isfinite(se) or more - 1.645 * se > 0
    text = f"{name}: {more:+.4g} against held-out records scored alike ({floor:.4g}), {limit:.4g} is allowed"
    # NaN is never above a limit: asked the other way round it would pass.
    passed = math.isfinite(more) and not (more > limit and sure)
    return Rule(f"copies:{name}", passed, text, {"value": more, "limit": limit})
