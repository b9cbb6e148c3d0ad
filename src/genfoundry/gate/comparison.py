"""Result of a comparison, as rows of a table and for decision.json."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from genfoundry.config.specs import Score
from genfoundry.gate.rules import Decision
from genfoundry.gate.subjects import Subject
from genfoundry.metrics._paired import Difference


@dataclass(frozen=True)
class Row:
    """One metric of both models."""

    metric: str
    higher_is_better: bool | None
    challenger: Score
    champion: Score | None = None
    beside: Mapping[str, float] = field(default_factory=dict)
    """The challenger's baselines: real data scored alike (``floor``), or n-gram models."""
    difference: Difference | None = None
    """Challenger less champion."""
    unequal: tuple[str, ...] = ()
    """Differences between the two protocols; if there are any, ``difference`` is None."""

    @property
    def words(self) -> str:
        """Which model is better by this metric, at 95 %."""
        if self.unequal:
            return f"not comparable: {self.unequal[0]}"
        if self.difference is None:
            return ""
        low, high = self.difference.interval()
        if not math.isfinite(low):
            return self.difference.method
        if low <= 0 <= high:
            return "can't be told apart"
        if self.higher_is_better is None:
            return "differ"
        return "challenger better" if (low > 0) == self.higher_is_better else "champion better"

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"challenger": _numbers(self.challenger), "words": self.words}
        if self.champion is not None:
            found["champion"] = _numbers(self.champion)
        found |= self.beside
        if self.difference is not None and math.isfinite(self.difference.se):
            low, high = self.difference.interval()
            found |= {"difference": self.difference.value, "se": self.difference.se, "low": low, "high": high}
            found["method"] = self.difference.method
        if self.unequal:
            found["unequal"] = list(self.unequal)
        return found


def _numbers(score: Score) -> dict[str, float]:
    known = {"se": score.se} if math.isfinite(score.se) else {}
    known |= {"bias": score.bias} if score.bias else {}
    return {"value": score.value, "n": score.count, **known}


@dataclass(frozen=True)
class Comparison:
    """The whole comparison."""

    challenger: Subject
    champion: Subject | None
    dataset: str
    primary: str
    rows: tuple[Row, ...]
    decision: Decision
    counts: Mapping[str, int] = field(default_factory=dict)
    """Records of the gate set: used, seen by a model, gone from the data, new since it was frozen."""
    better_than_best: bool = False
    """Whether the challenger's primary score is better than that of the best champion so far, on the same records."""
