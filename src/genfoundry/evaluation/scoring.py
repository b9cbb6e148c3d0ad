"""Scores as records: value, error bar, count, protocol, and what they are held against."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from genfoundry import parts
from genfoundry.errors import ConfigError, DataError
from genfoundry.evaluation.evidence import CATALOGUE, Evidence
from genfoundry.evaluation.rivals import rivals
from genfoundry.io import digest_of, write_json
from genfoundry.paths import DatasetPaths, ModelPaths
from genfoundry.settings import Evaluation, parse
from genfoundry.specs import Score, Section


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

    @property
    def key(self) -> str:
        """Metric and digest of the protocol: only scores of equal keys are comparable."""
        return f"{self.name}@{digest_of(self.protocol)[:8]}"

    def numbers(self) -> dict[str, float]:
        """The record as it stands in scores.json; an unknown error bar is left out."""
        low, high = self.score.interval
        found = {"value": self.score.value, "n": self.score.count, **self.score.extra}
        found |= {name: rival.value for name, rival in self.rivals.items()}
        if math.isfinite(self.score.se):
            found |= {"se": self.score.se, "low": low, "high": high}
        floor = self.rivals.get("floor")
        if floor and self.ratio and floor.value > 0:
            found["relative"] = self.score.value / floor.value
        return found


def asked_for(metric: ModuleType) -> list[str]:
    """Names of the evidence that a metric's ``score`` takes.

    Raises:
        ConfigError: The catalogue does not hold one of them.
    """
    names = [name for name in inspect.signature(metric.score).parameters if name != "config"]
    for name in names:
        if name not in CATALOGUE:
            file, hint = metric.__name__.rpartition(".")[2], parts.nearest(name, list(CATALOGUE))
            raise ConfigError(f"metrics/{file}.py: score asks for evidence {name!r}{hint}")
    return names


def configured(metrics: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, tuple[ModuleType, Section]]:
    """Modules and typed options of the metrics that params.yaml names.

    Raises:
        ConfigError: An unknown metric or option; all faults at once.
    """
    found, faults = {}, []
    for name, options in metrics.items():
        if name not in parts.names("metrics"):
            faults.append(f"params.yaml: unknown metric '{where}.{name}'{parts.nearest(name, parts.names('metrics'))}")
            continue
        module = parts.load("metrics", name)
        try:
            found[name] = module, parse(module.Config, options, f"{where}.{name}")
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def applicable(config: Evaluation, evidence: Evidence, where: str) -> dict[str, tuple[ModuleType, Section]]:
    """The metrics to compute: those named, or all whose evidence is there.

    Raises:
        ConfigError: A named metric that this model and data set can't have, or an unknown one.
        DataError: No metric applies.
    """
    chosen = configured(config.metrics or {name: {} for name in parts.names("metrics")}, where)
    missing = {
        name: [item for item in asked_for(module) if not evidence.has(item)] for name, (module, _) in chosen.items()
    }
    if config.metrics:
        faults = [
            f"params.yaml: '{where}.{name}': needs {', '.join(lacking)}, not to be had for this model; remove it"
            for name, lacking in missing.items()
            if lacking
        ]
        if faults:
            raise ConfigError("\n".join(faults))
    found = {name: part for name, part in chosen.items() if not missing[name]}
    if not found:
        raise DataError(f"{where}: no metric applies: there are neither features of samples nor priced documents")
    return found


def compute(name: str, metric: ModuleType, config: Section, evidence: Evidence) -> Record:
    """One record.

    Raises:
        DataError: The metric refuses the evidence, or its value is not finite.
    """
    names = asked_for(metric)
    own = {item: evidence[item] for item in names}
    score = metric.score(**own, config=config)
    if not math.isfinite(score.value):
        raise DataError(f"{name}: the score is {score.value}; look at the samples and at the features' range")
    held_against: dict[str, Score] = {
        rival: metric.score(**own | replaced, config=config) for rival, replaced in rivals(evidence, names).items()
    }
    protocol = {
        "metric": name,
        "version": metric.VERSION,
        "higher_is_better": metric.HIGHER_IS_BETTER,
        "config": config.model_dump(mode="json"),
        **evidence.facts(names),
    }
    return Record(name, score, protocol, held_against, getattr(metric, "RATIO_TO_FLOOR", True))


def write_scores(config: Evaluation, paths: ModelPaths, dataset: DatasetPaths) -> list[Record]:
    """Publish ``scores.json``, ``protocols.json`` and ``evaluation.png``."""
    # Inside: who only checks settings must not pay for matplotlib.
    from genfoundry.evaluation.plots import write_plot

    evidence = Evidence(paths, dataset)
    chosen = applicable(config, evidence, f"models.{paths.key}.evaluation.metrics")
    records = [compute(name, metric, options, evidence) for name, (metric, options) in sorted(chosen.items())]
    write_plot(paths.reports / "evaluation.png", records, evidence)
    write_json(paths.reports / "protocols.json", {record.key: dict(record.protocol) for record in records})
    write_json(paths.reports / "scores.json", {record.key: record.numbers() for record in records})
    return records
