"""A score as a record: value, error bar, count, protocol, and what it is held against."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genfoundry.config.specs import Score
from genfoundry.core.io import digest_of


@dataclass(frozen=True)
class Record:
    """A score with all that makes it mean something."""

    name: str
    score: Score
    protocol: Mapping[str, Any]
    rivals: Mapping[str, Score]
    """Scores of the same metric for the floor or the baselines, by name."""
    ratio: bool = True
    """Whether the ratio to the floor means something: not where the floor is 0 but for noise."""
    range: tuple[float, float] = (-math.inf, math.inf)
    """Values the score can take; the interval ends there."""

    @property
    def key(self) -> str:
        """Metric and digest of the protocol: only scores of equal keys are comparable."""
        return f"{self.name}@{digest_of(self.protocol)[:8]}"

    def numbers(self) -> dict[str, float]:
        """The record as it stands in scores.json; an unknown error bar is left out."""
        low, high = (min(max(bound, self.range[0]), self.range[1]) for bound in self.score.interval)
        found = {"value": self.score.value, "n": self.score.count, **self.score.extra}
        found |= {name: rival.value for name, rival in self.rivals.items()}
        if math.isfinite(self.score.se):
            found |= {"se": self.score.se, "low": low, "high": high}
        floor = self.rivals.get("floor")
        if floor and self.ratio and floor.value > 0:
            found["relative"] = self.score.value / floor.value
        return found
