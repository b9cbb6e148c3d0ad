"""Plant copies, to set a threshold by them and to say which share of such copies the rule finds."""

from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.data.keepers import Rule, engine_of, index_of, join
from genfoundry.data.vectorjoin import cosine, local
from genfoundry.settings import Dedup
from genfoundry.specs import Sets

if TYPE_CHECKING:
    import pandas as pd

PLANTED = 600
"""Copies planted to calibrate a threshold and to measure recall."""

CALIBRATED = 0.01
"""Quantile of the planted copies' similarity that becomes the threshold."""

LEAST_COSINE = 0.9
"""No calibration goes below: unlike pictures reach about 0.9 (measured on CIFAR-10)."""


class Planted(NamedTuple):
    """What planting copies showed."""

    count: int
    """Planted copies that had to be found."""
    recall: float
    """Share of them that the rule finds."""


def calibrate(modality: ModuleType, config: Dedup, sample: "pd.DataFrame") -> tuple[Rule, Planted]:
    """The rule, and how many planted near copies it finds.

    A threshold of 0 becomes the 1 % quantile of the planted copies' similarity; half of the copies set it, the
    other half measure the recall.
    """
    chosen = sample.iloc[np.resize(np.arange(len(sample)), PLANTED)].reset_index(drop=True)
    edited = modality.perturb(chosen, np.random.Generator(np.random.PCG64(0)))
    before, after = modality.fingerprints(chosen, config), modality.fingerprints(edited, config)
    threshold = float(getattr(config, "threshold", 0.0))
    if isinstance(before, Sets):
        rule = Rule(threshold)
        number = len(before.ptr) - 1
        both = join([before, after])
        score = _jaccard(before, after)
        index = index_of(both, rule, engine_of(config))
        index.add(np.arange(number))
        matches = index.similar(np.arange(number, 2 * number))
        found = np.zeros(number, bool)
        found[matches.first[matches.second == matches.first - number] - number] = True
        planted = score >= rule.threshold
        return rule, Planted(int(planted.sum()), _share(found[planted]))
    score, near = cosine(before.vectors, after.vectors), local(before.details, after.details)
    comparable = (np.abs(before.vectors).sum(axis=1) > 0) & (near > -1)
    learn = np.arange(PLANTED) // 6 % 2 == 0
    if threshold == 0 and (learn & comparable).any():
        quantile = float(np.quantile(score[learn & comparable], CALIBRATED))
        threshold = max(LEAST_COSINE, np.floor(quantile * 1e4) / 1e4)
    rule = Rule(float(threshold or 1.0), float(getattr(config, "local", -1.0)))
    measured = ~learn & comparable
    found = (score >= rule.threshold) & (near >= rule.local)
    return rule, Planted(int(measured.sum()), _share(found[measured]))


def _share(found: np.ndarray) -> float:
    return round(float(found.mean()), 4) if len(found) else 1.0


def _jaccard(first: Sets, second: Sets) -> np.ndarray:
    """Jaccard index row by row, by plain set arithmetic: what the join is measured against."""
    scores = []
    for row in range(len(first.ptr) - 1):
        a = set(first.hashes[first.ptr[row] : first.ptr[row + 1]].tolist())
        b = set(second.hashes[second.ptr[row] : second.ptr[row + 1]].tolist())
        scores.append(len(a & b) / max(len(a | b), 1))
    return np.array(scores)
