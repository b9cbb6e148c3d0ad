"""A score as a record: value, standard error, count, protocol and baselines; reading and writing files of records."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genfoundry.config.specs import Score
from genfoundry.core.io import digest_of, read_json, write_json

SCORES, PROTOCOLS = "scores.json", "protocols.json"


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
        if self.score.bias:
            found["bias"] = self.score.bias
        if math.isfinite(self.score.se):
            found |= {"se": self.score.se, "low": low, "high": high}
        floor = self.rivals.get("floor")
        if floor and self.ratio and floor.value > 0:
            found["relative"] = self.score.value / floor.value
        return found


def write_scores_file(folder: Path, records: Sequence[Record]) -> None:
    """Publish ``scores.json``: by key what ``numbers`` gives."""
    write_json(folder / SCORES, {record.key: record.numbers() for record in records})


def write_protocols_file(folder: Path, records: Sequence[Record]) -> None:
    """Write ``protocols.json``: by key how each score was measured."""
    write_json(folder / PROTOCOLS, {record.key: dict(record.protocol) for record in records})


def read_scores_file(folder: Path) -> dict[str, dict[str, float]]:
    """Numbers of each score by its key; empty without a file."""
    return dict(read_json(folder / SCORES)) if (folder / SCORES).is_file() else {}


def read_protocols_file(folder: Path) -> dict[str, dict[str, Any]]:
    """Protocol of each score by its key; empty without a file."""
    return dict(read_json(folder / PROTOCOLS)) if (folder / PROTOCOLS).is_file() else {}
