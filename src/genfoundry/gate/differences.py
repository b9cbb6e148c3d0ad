"""Losses of a challenger by metric and by slice of the records."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from genfoundry.config.sections.evaluation import Slices
from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import TooFewError
from genfoundry.evaluation.evidence import Evidence
from genfoundry.evaluation.metrics import Metric
from genfoundry.evaluation.slices import cut, divisions, fewest, largest
from genfoundry.gate.rules import Loss
from genfoundry.metrics._paired import Difference

Chosen = Mapping[str, tuple[Metric, Section]]


def as_loss(metric: Metric, found: Difference) -> Difference:
    """Turned so that positive means the first model is worse."""
    return found.scaled(-1.0) if metric.higher_is_better else found


def gap(
    metric: Metric, options: Section, a: Mapping[str, Any], b: Mapping[str, Any], scores: tuple[Score, Score]
) -> Difference:
    """The paired difference; where there is too little for an error bar that holds, without one, with the reason."""
    try:
        return metric.difference(a, b, options, scores)
    except TooFewError as error:
        return Difference(scores[0].value - scores[1].value, math.nan, scores[0].count, f"no error bar: {error}")


def slice_losses(
    config: Slices, allowed: Mapping[str, float], chosen: Chosen, a: Evidence, b: Evidence, against: str
) -> Iterator[Loss]:
    """Losses of the first model on every slice that both have enough rows of.

    Args:
        config: Columns and least rows.
        allowed: By metric, how much worse a slice may be.
        chosen: Metrics that apply to both.
        a: The challenger's evidence.
        b: The other's, on the same records.
        against: Who that is.
    """
    theirs = dict(divisions(config, b))
    for column, groups in divisions(config, a):
        for group, _ in largest(groups):
            for name in allowed:
                if name not in chosen or chosen[name][0].higher_is_better is None:
                    continue
                metric, options = chosen[name]
                mine, other = cut(metric, a, groups, group), cut(metric, b, theirs[column], group)
                if mine is None or other is None or fewest(mine, other) < config.min_n:
                    continue
                scores = metric.score(mine, options), metric.score(other, options)
                try:
                    found = metric.difference(mine, other, options, scores)
                except TooFewError:
                    continue
                yield Loss(name, as_loss(metric, found), allowed[name], against, f"{column}={group}")
