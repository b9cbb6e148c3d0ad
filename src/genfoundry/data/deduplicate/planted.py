"""Synthetic duplicates: edited copies of sampled records, to calibrate the threshold and measure recall."""

import math
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.specs import Sets, Vectors
from genfoundry.data.similarity.keepers import Rule, engine_of, index_of, join
from genfoundry.data.similarity.vectorjoin import Verifier

if TYPE_CHECKING:
    import pandas as pd

PLANTED = 600
"""Records of which synthetic duplicates are made, to calibrate a threshold and to measure recall."""

ROUNDS = 4
"""Synthetic duplicates of each picture: the 1 % quantile then rests on several of each edit."""

CALIBRATED = 0.01
"""Quantile of the synthetic duplicates' similarity that becomes the threshold."""

LEAST_COSINE = 0.65
"""Lower bound of the calibrated cosine; a thousandth of the pairs of CIFAR-10 are above it (measured)."""

ALIKE = 0.01
"""Largest share of sampled pictures that may have another one above the threshold: with more, the set is
full of look-alikes, and only benign copies can be separated from them."""


STRIDE = 16
"""Sampled pictures searched at a time: where all look alike, the first few suffice."""


class Planted(NamedTuple):
    """Recall measured on synthetic duplicates."""

    count: int
    """Synthetic duplicates that the rule should find."""
    recall: float
    """Share of them that the rule finds."""


def calibrate(modality: ModuleType, config: Dedup, sample: "pd.DataFrame") -> tuple[Rule, Planted]:
    """The similarity rule, and its recall on synthetic duplicates."""
    if isinstance(modality.fingerprints(sample.head(1), config), Sets):
        return _sets(modality, config, sample)
    return _vectors(modality, config, sample)


def _edited(modality: ModuleType, sample: "pd.DataFrame", copies: int) -> "tuple[pd.DataFrame, pd.DataFrame]":
    chosen = sample.iloc[np.resize(np.arange(len(sample)), copies)].reset_index(drop=True)
    return chosen, modality.perturb(chosen, np.random.Generator(np.random.PCG64(0)))


def _sets(modality: ModuleType, config: Dedup, sample: "pd.DataFrame") -> tuple[Rule, Planted]:
    before, after = (modality.fingerprints(table, config) for table in _edited(modality, sample, PLANTED))
    rule = Rule(float(getattr(config, "threshold", 0.0)))
    number = len(before.ptr) - 1
    score = _jaccard(before, after)
    index = index_of(join([before, after]), rule, engine_of(config))
    index.add(np.arange(number))
    matches = index.similar(np.arange(number, 2 * number))
    found = np.zeros(number, bool)
    found[matches.first[matches.second == matches.first - number] - number] = True
    planted = score >= rule.threshold
    return rule, Planted(int(planted.sum()), _share(found[planted]))


def _vectors(modality: ModuleType, config: Dedup, sample: "pd.DataFrame") -> tuple[Rule, Planted]:
    """Calibrate thresholds that are 0 on half of the synthetic duplicates; measure the recall on the other half.

    Two rules: the wide one finds 99 of 100 copies that were moved, mirrored or recoloured, the strict one 99 of 100 of
    those whose pixels stay in place. The wide one holds, unless the set is full of look-alikes at it.
    """
    originals, edited = (modality.fingerprints(t, config) for t in _edited(modality, sample, PLANTED * ROUNDS))
    pairs, copies = join([originals, edited]), len(originals.vectors)
    assert isinstance(pairs, Vectors)
    if not pairs.details.size:
        rule = Rule(config.threshold, config.threshold)  # type: ignore[attr-defined]
        return rule, Planted(0, 1.0)
    number = np.arange(copies)
    kind, comparable = number % len(modality.EDITS), np.abs(originals.vectors).sum(axis=1) > 0
    benign, learn = kind < modality.BENIGN, (number // len(modality.EDITS)) % 2 == 0
    closeness = _closeness(pairs, config.mirror)  # type: ignore[attr-defined]
    score = Verifier(pairs, -1.0, config.mirror).score(number, number + copies)  # type: ignore[attr-defined]
    reach = comparable & (kind != modality.EDITS.index("mirrored")) | comparable & config.mirror  # type: ignore[attr-defined]
    wide = Rule(
        _quantile(score[learn & reach & ~benign], config.threshold),  # type: ignore[attr-defined]
        max(LEAST_COSINE, _quantile(closeness[learn & reach], config.floor)),  # type: ignore[attr-defined]
        config.mirror,  # type: ignore[attr-defined]
    )
    still = learn & comparable & benign
    # Both of its limits are near what copies reach: half of the lost ones each.
    half = CALIBRATED / 2
    strict = Rule(
        _quantile(score[still], config.threshold, half),  # type: ignore[attr-defined]
        max(LEAST_COSINE, _quantile(closeness[still], config.floor, half)),  # type: ignore[attr-defined]
    )
    if config.threshold == 0 and _crowded(modality, config, sample, wide):  # type: ignore[attr-defined]
        wide, reach = strict, reach & benign
    measured = ~learn & reach
    found = (score >= wide.threshold) & (closeness >= wide.floor)
    return wide, Planted(int(measured.sum()), _share(found[measured]))


def _closeness(pairs: Vectors, mirror: bool) -> np.ndarray:
    """Cosine of each original and its copy, the better one of plain and mirrored."""
    from genfoundry.data.similarity.descriptor import MIRROR
    from genfoundry.data.similarity.vectorjoin import cosine

    first, second = np.split(pairs.vectors, 2)
    plain = cosine(first, second)
    return np.maximum(plain, cosine(first, second * MIRROR)) if mirror else plain


def _quantile(score: np.ndarray, given: float, share: float = CALIBRATED) -> float:
    """The given value, or the calibrated one if that is 0.

    Rounded down, so that its distance from 1 has two digits: where data grow by a little, it mostly stays as it is, and
    with it what was said of every pair.
    """
    if given or not len(score):
        return float(given or 1.0)
    distance = 1 - float(np.quantile(score, share))
    unit = 10.0 ** (math.floor(math.log10(max(distance, 1e-4))) - 1)
    return round(1 - math.ceil(round(distance / unit, 6)) * unit, 6)


def _crowded(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", rule: Rule) -> bool:
    """Whether more than ``ALIKE`` of the sampled pictures have another one above the threshold."""
    prints = modality.fingerprints(sample, config)
    index, rows = index_of(prints, rule), np.arange(len(sample))
    index.add(rows)
    found = 0
    for start in range(0, len(rows), STRIDE):
        found += len(np.unique(index.similar(rows[start : start + STRIDE]).first))
        if found > ALIKE * len(rows):
            return True
    return False


def _share(found: np.ndarray) -> float:
    return round(float(found.mean()), 4) if len(found) else 1.0


def _jaccard(first: Sets, second: Sets) -> np.ndarray:
    """Jaccard index row by row, by plain set arithmetic: the reference that the join is compared with."""
    scores = []
    for row in range(len(first.ptr) - 1):
        a = set(first.hashes[first.ptr[row] : first.ptr[row + 1]].tolist())
        b = set(second.hashes[second.ptr[row] : second.ptr[row + 1]].tolist())
        scores.append(len(a & b) / max(len(a | b), 1))
    return np.array(scores)
