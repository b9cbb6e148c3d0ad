"""Choose the metrics that apply to a model, and compute their scores."""

import contextlib
import math
from collections.abc import Collection, Mapping
from typing import Any

from genfoundry.config.params import parse
from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import ConfigError, DataError, TooFewError
from genfoundry.core.io import publish_folder
from genfoundry.core.parts import nearest
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.details import write_details
from genfoundry.evaluation.evidence import Evidence, asked_for
from genfoundry.evaluation.influences import INFLUENCES, write_influences
from genfoundry.evaluation.metrics import Metric, load_metric, metric_names
from genfoundry.evaluation.nearest import write_nearest
from genfoundry.evaluation.rivals import rivals
from genfoundry.evaluation.slices import sliced
from genfoundry.metrics._record import Record, write_protocols_file, write_scores_file


def configured(metrics: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, tuple[Metric, Section]]:
    """The metrics and typed options that params.yaml names.

    Raises:
        ConfigError: An unknown metric or option; all faults at once.
    """
    found, faults, known = {}, [], metric_names()
    for name, options in metrics.items():
        if name not in known:
            faults.append(f"params.yaml: unknown metric '{where}.{name}'{nearest(name, known)}")
            continue
        metric = load_metric(name)
        try:
            found[name] = metric, parse(metric.config, options, f"{where}.{name}")
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def applicable(config: Evaluation, evidence: Evidence, where: str) -> dict[str, tuple[Metric, Section]]:
    """The metrics to compute: those named, and the others whose evidence is there, less those under ``skip``.

    Raises:
        ConfigError: A named metric that this model and data set can't have, an unknown one, or one also skipped.
        DataError: No metric applies.
    """
    named = configured(config.metrics, where)
    unknown = [name for name in config.skip if name not in metric_names()]
    if unknown:
        hint = nearest(unknown[0], metric_names())
        raise ConfigError(f"params.yaml: '{where.rpartition('.')[0]}.skip': unknown metric {unknown[0]!r}{hint}")
    both = [name for name in config.skip if name in config.metrics]
    if both:
        raise ConfigError(f"params.yaml: '{where}.{both[0]}' also stands under skip; choose one")
    faults = []
    for name, (metric, _) in named.items():
        if lacking := [item for item in asked_for(metric) if not evidence.has(item)]:
            faults.append(
                f"params.yaml: '{where}.{name}': needs {', '.join(lacking)}, not to be had for this model; remove it"
            )
    if faults:
        raise ConfigError("\n".join(faults))
    others = configured({name: {} for name in metric_names() if name not in {*named, *config.skip}}, where)
    found = named | {
        name: part
        for name, part in others.items()
        if part[0].by_default and all(evidence.has(item) for item in asked_for(part[0]))
    }
    if not found:
        raise DataError(f"{where}: no metric applies: there are neither features of samples nor scored documents")
    return found


def compute(name: str, metric: Metric, config: Section, evidence: Evidence) -> Record:
    """One record.

    Raises:
        DataError: The metric refuses the evidence, or its value is not finite.
    """
    names = asked_for(metric)
    own = {item: evidence[item] for item in names}
    # Real data in place of samples have labels of their own, in no fixed number.
    score = metric.score(own | {item: evidence[item] for item in metric.also if evidence.has(item)}, config)
    if not math.isfinite(score.value):
        raise DataError(f"{name}: the score is {score.value}; look at the samples and at the features' range")
    held_against: dict[str, Score] = {}
    for rival, replaced in rivals(evidence, names, metric.floor_is_held_out).items():
        # Real data may be too short where samples are not.
        with contextlib.suppress(TooFewError):
            held_against[rival] = metric.score(own | replaced, config)
    protocol = {
        "metric": name,
        "version": metric.version,
        "higher_is_better": metric.higher_is_better,
        "config": config.model_dump(mode="json"),
        **evidence.facts(names),
    }
    return Record(name, score, protocol, held_against, metric.ratio_to_floor, metric.range)


def write_scores(config: Evaluation, paths: ModelPaths, dataset: DatasetPaths) -> list[Record]:
    """Publish ``scores.json``, the picture, and ``evaluation/`` with the evidence behind them."""
    # Imported here so that checking settings does not load matplotlib.
    from genfoundry.evaluation.plots import write_plot

    evidence = Evidence(paths, dataset)
    chosen = applicable(config, evidence, f"models.{paths.key}.evaluation.metrics")
    records, not_measured = measure(chosen, evidence, set(config.metrics))
    slices = sliced(config.slices, chosen, evidence)
    write_plot(paths.reports / "evaluation.png", records, evidence)
    with publish_folder(paths.evaluation) as folder:
        write_nearest(folder, evidence)
        write_details(folder, slices, not_measured)
        write_influences(folder / INFLUENCES, {record.key: record.score.influence for record in records})
        write_protocols_file(folder, records)
    write_scores_file(paths.reports, records)
    return records


def measure(
    chosen: Mapping[str, tuple[Metric, Section]], evidence: Evidence, named: Collection[str]
) -> tuple[list[Record], dict[str, str]]:
    """Records in the order of their names, and why the other metrics have none.

    Raises:
        TooFewError: A metric that the settings name finds too little to measure.
        DataError: The evidence is wrong.
    """
    records, reasons = [], {}
    for name, (metric, options) in sorted(chosen.items()):
        try:
            records.append(compute(name, metric, options, evidence))
        except TooFewError as error:
            if name in named:
                raise
            reasons[name] = str(error)
    if not records:
        raise DataError(f"nothing could be measured: {'; '.join(reasons.values())}")
    return records, reasons
