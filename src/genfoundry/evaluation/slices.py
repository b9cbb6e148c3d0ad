"""Scores by group of records, to see for which groups a model is worse.

A group's score is the whole metric on the rows of that group alone. Samples belong to the class that was asked for,
or, of a model that can't be asked, to the one that the data set's network sees; other columns divide the test records
only.
Groups overlap in nothing but the training, so their intervals may be read side by side; with G groups about G/20 of the
95 % intervals miss by chance.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from genfoundry.config.sections.evaluation import Slices
from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.evaluation.evidence import CATALOGUE, Evidence, asked_for
from genfoundry.evaluation.metrics import Metric

MOST_GROUPS = 50
"""Largest groups of a column that are scored; the others are counted."""

LABEL = "label"

Groups = Mapping[str, np.ndarray]
"""Group of each row as str (N,), by what a row is: ``test``, and ``sample`` where the column is the label."""


def sliced(
    config: Slices, chosen: Mapping[str, tuple[Metric, Section]], evidence: Evidence
) -> dict[str, dict[str, Any]]:
    """Scores by column, group and metric, with what was left out and why.

    Args:
        config: Columns, metrics, least size.
        chosen: Metrics that apply to this model, with their options.
        evidence: About the model.

    Raises:
        DataError: A named column that the records don't have.
    """
    return {column: _column(config, groups, chosen, evidence) for column, groups in divisions(config, evidence)}


def divisions(config: Slices, evidence: Evidence) -> Iterator[tuple[str, Groups]]:
    """Columns that divide the test records, and their groups; of columns that divide alike the first.

    Raises:
        DataError: A named column that the records don't have.
    """
    table = evidence.table("index", "test.parquet").sort_values("row")
    seen: list[np.ndarray] = []
    for column in config.columns:
        if column not in table and column != LABEL:
            raise DataError(
                f"evaluation.slices.columns: the test records have no column {column!r}; "
                f"they have {', '.join(name for name in table if name not in ('row', 'sha256', 'id'))}"
            )
        if column not in table or table[column].isna().all():
            continue
        groups = {"test": table[column].astype(str).to_numpy(str)}
        if any(_same_groups(groups["test"], other) for other in seen):
            continue
        seen.append(groups["test"])
        if column == LABEL and (samples := _sample_groups(evidence)) is not None:
            groups["sample"] = samples
        yield column, groups


def largest(groups: Groups) -> list[tuple[str, int]]:
    """The groups with most test records, and how many they have, by name."""
    return sorted(Counter(groups["test"].tolist()).most_common(MOST_GROUPS))


def cut(metric: Metric, evidence: Evidence, groups: Groups, group: str) -> dict[str, np.ndarray] | None:
    """The metric's evidence for one group; None if the column does not divide all of it."""
    found: dict[str, np.ndarray] = {}
    for name in asked_for(metric):
        axis, values = str(CATALOGUE[name].axis), evidence[name]
        if axis not in groups or not isinstance(values, np.ndarray):
            return None
        found[name] = values[groups[axis] == group]
    return found


def fewest(*cuts: Mapping[str, np.ndarray]) -> int:
    """Rows of the smallest piece."""
    return min(len(values) for piece in cuts for values in piece.values())


def _sample_groups(evidence: Evidence) -> np.ndarray | None:
    names = np.array(evidence.spec.labels, dtype=str)
    if evidence.has("sample_labels"):
        return names[evidence["sample_labels"]]
    return names[evidence["logits"].argmax(axis=1)] if evidence.has("logits") else None


def _same_groups(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two columns divide the records alike, such as the label and the folder of that name."""
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    return len(pairs) == len(set(first.tolist())) == len(set(second.tolist()))


def _column(
    config: Slices, groups: Groups, chosen: Mapping[str, tuple[Metric, Section]], evidence: Evidence
) -> dict[str, Any]:
    every, found = len(set(groups["test"].tolist())), {}
    facts = {"groups": every, "not_scored": every - min(every, MOST_GROUPS), "too_small": 0}
    for group, size in largest(groups):
        scores = {}
        for name in config.metrics:
            if name not in chosen:
                continue
            metric, options = chosen[name]
            piece = cut(metric, evidence, groups, group)
            if piece is not None and fewest(piece) >= config.min_n:
                scores[name] = _numbers(metric.score(piece, options))
        facts["too_small"] += not scores
        found[group] = {"n": size, **scores}
    return {"scores": found, "counts": facts, "spread": _spread(found)}


def _numbers(score: Score) -> dict[str, float]:
    low, high = score.interval
    bar = {"se": score.se, "low": low, "high": high} if np.isfinite(score.se) else {}
    known = {"bias": score.bias} if score.bias else {}
    return {"value": score.value, "n": score.count, **known, **bar}


def _spread(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By metric: the lowest and the highest group, and how far they are apart."""
    found = {}
    for metric in sorted({name for scores in groups.values() for name in scores if name != "n"}):
        values = {name: scores[metric]["value"] for name, scores in groups.items() if metric in scores}
        low, high = min(values, key=lambda name: values[name]), max(values, key=lambda name: values[name])
        found[metric] = {"lowest": low, "highest": high, "gap": values[high] - values[low]}
    return found
