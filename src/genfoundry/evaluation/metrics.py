"""Registry of metrics: each file under ``metrics/``, and for files ``<family>_network.py`` one for each network.

A file's optional names have their defaults here. A family names its evidence ``network_features``,
``reference_network_features``, ``train_network_features``, ``network_logits``; the score of a network reads its own in
their place.
"""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError
from genfoundry.evaluation.networks import published
from genfoundry.metrics._paired import Difference, paired_score_difference

FAMILY = "_network"


@dataclass(frozen=True)
class Metric:
    """One metric, of one network where its file is a family's."""

    name: str
    module: ModuleType
    network: str = ""

    @cached_property
    def config(self) -> type[Section]:
        """Class of its options."""
        return self.module.Config

    @property
    def title(self) -> str:
        return self.module.TITLE + (f" ({self._network.TITLE})" if self.network else "")

    @property
    def caveat(self) -> str:
        return self.module.CAVEAT + (f" {self._network.CAVEAT}" if self.network else "")

    @property
    def higher_is_better(self) -> bool | None:
        """None where neither end is good."""
        return self.module.HIGHER_IS_BETTER

    @property
    def version(self) -> int:
        """Raised when the definition changes."""
        return self.module.VERSION

    @property
    def by_default(self) -> bool:
        """Whether it is computed where params.yaml does not name it."""
        return getattr(self.module, "BY_DEFAULT", True)

    @property
    def range(self) -> tuple[float, float]:
        """Values it can take."""
        return getattr(self.module, "RANGE", (-math.inf, math.inf))

    @property
    def ratio_to_floor(self) -> bool:
        """Whether the ratio to the floor means something: not where the floor is 0 but for noise."""
        return getattr(self.module, "RATIO_TO_FLOOR", True)

    @property
    def floor_is_held_out(self) -> bool:
        """Whether held-out records stand in for samples, since training records would be copies of themselves."""
        return getattr(self.module, "FLOOR", "") == "reference"

    @cached_property
    def asks(self) -> tuple[str, ...]:
        """Names of the evidence that its score takes."""
        return tuple(self._renamed(name) for name in self._own)

    @cached_property
    def _own(self) -> tuple[str, ...]:
        """The same as the file has them."""
        found = inspect.signature(self.module.score).parameters.values()
        return tuple(one.name for one in found if one.kind != one.KEYWORD_ONLY and one.name not in ("config", "name"))

    @cached_property
    def also(self) -> tuple[str, ...]:
        """Names of the evidence that its score takes where there is any: the keywords behind its options."""
        found = inspect.signature(self.module.score).parameters.values()
        return tuple(one.name for one in found if one.kind == one.KEYWORD_ONLY)

    @property
    def _network(self) -> ModuleType:
        return parts.load("networks", self.network)

    def _renamed(self, name: str) -> str:
        return name.replace("network_", f"{self.network}_") if self.network else name

    def score(self, evidence: Mapping[str, Any], config: Section) -> Score:
        """The score from evidence by name.

        Raises:
            DataError: The metric refuses it.
        """
        name = {"name": self.name} if self.network else {}
        found: Score = self.module.score(**self._given(evidence), config=config, **name)
        return found

    def difference(
        self, a: Mapping[str, Any], b: Mapping[str, Any], config: Section, scores: tuple[Score, Score]
    ) -> Difference:
        """First model's score less the second's, the sharpest that the metric allows.

        Args:
            a: The first model's evidence, by name; what is about test records is the same for both.
            b: The second's.
            config: Options.
            scores: The two scores, for metrics without a difference of their own.

        Raises:
            TooFewError: Too few rows for an error bar that holds.
        """
        own = getattr(self.module, "difference", None)
        if own is None:
            return paired_score_difference(*scores)
        found: Difference = own(self._given(a), self._given(b), config)
        return found

    def _given(self, evidence: Mapping[str, Any]) -> dict[str, Any]:
        found = {own: evidence[name] for own, name in zip(self._own, self.asks, strict=True)}
        return found | {name: evidence[name] for name in self.also if name in evidence}


def _all() -> dict[str, tuple[str, str]]:
    """File and network of each metric, by its name; a file of that very name comes before a family's."""
    files = parts.names("metrics")
    found = {file: (file, "") for file in files if not file.endswith(FAMILY)}
    for file in files:
        if file.endswith(FAMILY):
            given = getattr(parts.load("metrics", file), "NAMES", {})
            for network in published():
                found.setdefault(given.get(network, f"{file.removesuffix(FAMILY)}_{network}"), (file, network))
    return found


def metric_names() -> list[str]:
    """Names of all metrics, sorted."""
    return sorted(_all())


def load_metric(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ConfigError: There is none.
    """
    found = _all()
    if name not in found:
        raise ConfigError(f"unknown metric {name!r}{parts.nearest(name, sorted(found))}")
    file, network = found[name]
    return Metric(name, parts.load("metrics", file), network)
