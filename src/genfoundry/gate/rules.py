"""Rules that decide whether a challenger is blessed, as pure functions of measured losses.

A loss is a paired difference turned so that positive means the challenger is worse. All bounds are one-sided.

- Superiority: the loss's upper bound lies below ``-margin``. Non-inferiority: it lies below ``+margin``, for a reason,
  both against the present champion and against the best champion so far: measured from the last one alone, a small
  loss every night would add up without end.
- A guard fails when the estimated loss is beyond what is allowed and its lower bound is above 0. Asking that the bound
  itself be beyond the allowance would let a model through that is clearly worse by as much; the estimate alone would
  block one by noise. The bounds of all G guards are at ``alpha / G``, so that an equal model is blocked by any of
  them with probability alpha at most. They are not made stricter by the look: that would loosen them.
- By slice coverage is held, not recall: samples that scatter have large balls and thereby a high recall (Naeem et al.
  2020, arXiv:2002.09797, section 3), so a challenger that is better in every way loses recall in small slices (tried).
- Refusals hold for the first champion too: finite scores, copying, better than no model at all.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from genfoundry.config.specs import DataSpec, Key, Section
from genfoundry.core import parts
from genfoundry.evaluation.metrics import metric_names
from genfoundry.metrics._paired import Difference

BLESSED, NOT_BLESSED = "BLESSED", "NOT_BLESSED"

PRIMARY = {"grid": "fid_domain", "token": "bits_per_byte"}

Allowed = Annotated[float, Field(ge=0)]


class Gate(Section):
    """Rules by which a challenger replaces the champion."""

    alpha: float = Field(default=0.05, gt=0, le=0.5)
    """Probability, over all looks at one gate set, that a model that is no better is promoted."""
    rule: Literal["superior", "non_inferior"] = "superior"
    """superior: must be better by more than the margin; non_inferior: may be worse by less than the margin."""
    margin: float = Field(default=0.0, ge=0)
    """On the primary metric, in ``margin_unit``."""
    margin_unit: Literal["share", "absolute"] = "share"
    """share: of the value of the champion it is compared with; absolute: in the metric's own unit."""
    reason: str = ""
    """Why an equal model is wanted, such as fresher data or half the size; non_inferior asks for it."""
    primary: dict[Key, Key] = Field(default_factory=dict)
    """The metric that decides, by modality, or by ``grid`` and ``token`` for all modalities of that kind; by default
    fid_domain for grids, bits_per_byte for tokens.
    """
    guards: dict[Key, Allowed] = Field(
        default_factory=lambda: {
            "precision_domain": 0.05,
            "recall_domain": 0.1,
            "coverage_domain": 0.05,
            "class_balance": 0.05,
            "exact_copies": 0.005,
            "near_copies": 0.02,
            "copied_ngrams": 0.02,
        }
    )
    """How much worse than champion and best these may be, in the metric's own unit, as far as they apply."""
    copies: dict[Key, Allowed] = Field(
        default_factory=lambda: {"exact_copies": 0.01, "near_copies": 0.05, "copied_ngrams": 0.05}
    )
    """How far copying may be above that of held-out records scored alike, champion or not."""
    slices: dict[Key, Allowed] = Field(
        default_factory=lambda: {"precision_domain": 0.15, "coverage_domain": 0.15, "bits_per_byte": 0.1}
    )
    """How much worse any slice of ``evaluation.slices`` may be, in the metric's own unit."""

    def primary_of(self, spec: DataSpec) -> str:
        """Name of the metric that decides for such data."""
        return self.primary.get(spec.modality) or self.primary.get(spec.kind) or PRIMARY[spec.kind]

    @model_validator(mode="after")
    def _named_reason(self) -> "Gate":
        if self.rule == "non_inferior" and not (self.margin > 0 and self.reason.strip()):
            raise ValueError("rule non_inferior needs a margin above 0 and a reason")
        return self


def unknown_metrics(gate: Gate) -> list[str]:
    """Faults of the settings: names of metrics, and modalities, that do not exist."""
    kinds = [*PRIMARY, *parts.names("modalities")]
    found = [
        f"params.yaml: unknown modality 'gate.primary.{kind}'{parts.nearest(kind, kinds)}"
        for kind in gate.primary
        if kind not in kinds
    ]
    known = metric_names()
    for group in ("primary", "guards", "copies", "slices"):
        if group in gate.model_fields_set:
            values = getattr(gate, group)
            for name in values.values() if group == "primary" else values:
                if name not in known:
                    found.append(f"params.yaml: unknown metric 'gate.{group}.{name}'{parts.nearest(name, known)}")
    return found


@dataclass(frozen=True)
class Loss:
    """How much worse the challenger is by one metric."""

    metric: str
    difference: Difference
    """Positive: worse."""
    allowed: float
    """Positive: may be worse by as much, in the metric's own unit."""
    against: str
    """``champion`` or ``best``."""
    slice: str = ""


@dataclass(frozen=True)
class Rule:
    """One rule and the number that it was decided by."""

    name: str
    passed: bool
    words: str
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """BLESSED if every rule passed; ``facts`` say what was compared, by which look and settings."""

    rules: tuple[Rule, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def blessed(self) -> bool:
        return bool(self.rules) and all(rule.passed for rule in self.rules)

    @property
    def verdict(self) -> str:
        return BLESSED if self.blessed else NOT_BLESSED

    def as_json(self) -> dict[str, Any]:
        """For decision.json; numbers that are not finite are left out, their words remain."""
        rules = []
        for rule in self.rules:
            numbers = {name: value for name, value in rule.numbers.items() if math.isfinite(value)}
            rules.append({**asdict(rule), "numbers": numbers})
        return {"format": 1, "verdict": self.verdict, "rules": rules, **_finite(dict(self.facts))}


def _finite(value: Any) -> Any:
    """The value with None for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def superior(loss: Loss, alpha: float) -> Rule:
    """Better than the other by more than ``allowed``."""
    bound = loss.difference.upper(alpha)
    passed = math.isfinite(bound) and bool(bound < -loss.allowed)
    say = "better" if passed else "not shown to be better"
    more = f" by more than {loss.allowed:.4g}" if loss.allowed else ""
    return _rule("superior", loss, bound, -loss.allowed, passed, alpha, f"{say} than the {loss.against}{more}")


def non_inferior(loss: Loss, alpha: float) -> Rule:
    """Worse than the other by less than ``allowed``."""
    bound = loss.difference.upper(alpha)
    passed = math.isfinite(bound) and bool(bound < loss.allowed)
    say = "not worse" if passed else "not shown to be no worse"
    text = f"{say} than the {loss.against} by {loss.allowed:.4g} or more"
    return _rule("non_inferior", loss, bound, loss.allowed, passed, alpha, text)


def guard(loss: Loss, alpha: float) -> Rule:
    """Not worse than the other by more than ``allowed``, as far as that is no noise."""
    value, bound = loss.difference.value, loss.difference.lower(alpha)
    # Without an error bar the estimate decides alone: the safe side.
    sure = not math.isfinite(bound) or bound > 0
    # NaN is never above what is allowed: asked the other way round it would pass.
    passed = math.isfinite(value) and not (value > loss.allowed and sure)
    where = f" in slice {loss.slice}" if loss.slice else ""
    if passed:
        text = f"no clear loss beyond {loss.allowed:.4g} against the {loss.against}{where}"
    else:
        text = f"worse than the {loss.against} by {value:.4g}{where}, {loss.allowed:.4g} is allowed"
    return _rule("slice" if loss.slice else "guard", loss, bound, loss.allowed, passed, alpha, text)


def _rule(kind: str, loss: Loss, bound: float, limit: float, passed: bool, alpha: float, words: str) -> Rule:
    # Why there is no bound is part of a refusal.
    if not passed and not math.isfinite(bound):
        words += f"; {loss.difference.method}"
    numbers = {"loss": loss.difference.value, "se": loss.difference.se, "bound": bound, "limit": limit, "alpha": alpha}
    name = f"{kind}:{loss.metric}" + (f":{loss.slice}" if loss.slice else "")
    return Rule(f"{name}:{loss.against}", passed, f"{loss.metric}: {words}", numbers)


def decide(
    gate: Gate,
    alpha: float,
    primary: Sequence[Loss],
    guards: Sequence[Loss] = (),
    refusals: Sequence[Rule] = (),
    facts: Mapping[str, Any] | None = None,
) -> Decision:
    """The decision.

    Args:
        gate: Settings.
        alpha: What this look may spend.
        primary: Loss by the primary metric against the champion, and against the best champion so far where that is
            another; empty for the first champion, to which only refusals apply.
        guards: Losses by guard metrics and slices.
        refusals: Rules that hold whoever is champion.
        facts: Of the comparison, for decision.json.
    """
    rules = list(refusals)
    if gate.rule == "superior":
        # The best so far may have been rolled back for reasons no score shows: the champion is the one to beat.
        rules += [superior(loss, alpha) for loss in primary if loss.against == "champion"]
    else:
        rules += [non_inferior(loss, alpha) for loss in primary]
    families = [[loss for loss in guards if not loss.slice], [loss for loss in guards if loss.slice]]
    for family in families:
        rules += [guard(loss, gate.alpha / len(family)) for loss in family]
    return Decision(tuple(rules), facts or {})
