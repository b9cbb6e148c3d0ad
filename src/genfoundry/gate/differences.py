"""The paired difference of two models by any metric, the sharpest that the metric allows."""

import math
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from genfoundry.config.sections.evaluation import Slices
from genfoundry.config.specs import Score, Section
from genfoundry.evaluation.evidence import Evidence
from genfoundry.evaluation.slices import cut, divisions, fewest, largest
from genfoundry.gate.rules import Loss
from genfoundry.metrics._paired import (
    LEAST_DOCUMENTS,
    Difference,
    paired_frechet_difference,
    paired_kernel_difference,
    paired_ratio_difference,
    paired_score_difference,
)
from genfoundry.metrics.kid_domain import standardised

FRECHET = {
    "fid_domain": "features",
    "fid": "inception_features",
    "fd_dinov2": "dinov2_features",
    "fd_clip": "clip_features",
}
KERNEL = {"kid_domain": "features", "kid": "inception_features"}
RATIO = {"bits_per_byte": "byte_counts", "bits_per_character": "character_counts"}

Chosen = Mapping[str, tuple[ModuleType, Section]]


def difference(
    name: str, config: Section, a: Mapping[str, Any], b: Mapping[str, Any], scores: tuple[Score, Score]
) -> Difference:
    """First model's score less the second's.

    Args:
        name: Of the metric.
        config: Its options.
        a: The first model's evidence, by name; what is about test records is the same for both.
        b: The second's.
        scores: The two scores, for metrics without a difference of their own.
    """
    if name in FRECHET:
        mine, real = FRECHET[name], f"reference_{FRECHET[name]}"
        return paired_frechet_difference(a[mine], b[mine], a[real], paired=len(a[mine]) == len(b[mine]))
    if name in KERNEL:
        mine, real = KERNEL[name], np.asarray(a[f"reference_{KERNEL[name]}"], np.float64)
        x, y = (np.asarray(evidence[mine], np.float64) for evidence in (a, b))
        if getattr(config, "standardise", False):
            (x, _), (y, real) = standardised(x, real), standardised(y, real)
        return paired_kernel_difference(x, y, real, paired=len(x) == len(y))
    if name in RATIO and len(a["nats"]) >= LEAST_DOCUMENTS:
        return paired_ratio_difference(a["nats"], b["nats"], a[RATIO[name]]).scaled(1 / math.log(2))
    return paired_score_difference(*scores)


def as_loss(metric: ModuleType, found: Difference) -> Difference:
    """Turned so that positive means the first model is worse."""
    return found.scaled(-1.0) if metric.HIGHER_IS_BETTER else found


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
                if name not in chosen or chosen[name][0].HIGHER_IS_BETTER is None:
                    continue
                metric, options = chosen[name]
                cuts = cut(metric, a, groups, group), cut(metric, b, theirs[column], group)
                least = LEAST_DOCUMENTS if name in RATIO else config.min_n
                if cuts[0] is None or cuts[1] is None or fewest(cuts[0], cuts[1]) < least:
                    continue
                scores = metric.score(**cuts[0], config=options), metric.score(**cuts[1], config=options)
                found = difference(name, options, cuts[0], cuts[1], scores)
                yield Loss(name, as_loss(metric, found), allowed[name], against, f"{column}={group}")
