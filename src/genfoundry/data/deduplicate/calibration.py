"""Synthetic duplicates: edited copies of sampled records, to calibrate the threshold and measure recall."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.specs import Sets, Vectors
from genfoundry.data.similarity.keepers import Rule, engine_of, index_of, join
from genfoundry.data.similarity.setjoin import Matches
from genfoundry.data.similarity.vectorjoin import Index, Verifier

if TYPE_CHECKING:
    import pandas as pd

SYNTHETIC = 600
"""Records of which synthetic duplicates are made, to calibrate a threshold and to measure recall."""

ROUNDS = 4
"""Synthetic duplicates of each picture: the 1 % quantile then rests on several of each edit."""

CALIBRATED = 0.01
"""Quantile of the synthetic duplicates' similarity that becomes the threshold."""

SEVERAL = 1.5
"""Copies in the wild went through several edits: the threshold's distance from 1 is so many times that of 99 of 100
synthetic duplicates, which went through one or two. On contact sheets of CIFAR-10 pairs down to it are one shot."""

WEAK_ROUNDS = 60
"""Synthetic duplicates of each kind that recall alone is measured on."""

CANDIDATES, LEAST_SHARE = 4e6, 5e-4
"""Pairs of descriptors above the floor that a set may have, about (some minutes), and the share of all pairs from which
on this counts: photographs have less at the calibrated floor, tiny pictures much more."""

LEAST_COSINE = 0.65
"""Lower bound of the calibrated cosine; a thousandth of the pairs of CIFAR-10 are above it (measured)."""

LEAST_SCORE = 0.85
"""Lower bound of the calibrated threshold: on contact sheets of CIFAR-10, other shots become frequent below."""

NEARLY = 2
"""A picture that another one nearly resembles: up to so many times the threshold's distance from 1. True copies are
much closer, unlike pictures (of CIFAR-10: 99 % of pairs below 0.4) much further; look-alikes lie on both sides."""

ALIKE, ALIKE_ONCE = 0.01, 0.05
"""Largest shares of sampled pictures that may nearly resemble two others, or one (which a copy of a kind that the rule
misses does too): with more, the set is full of look-alikes, and only copies that keep each pixel in its place can be
separated from them."""

GROUP, GROUP_SHARE = 16, 0.05
"""Pictures that resemble one another, or share their ground, in number and as a share of the sample: larger groups are
no copies of one."""

FEW = 2
"""So many pictures may look alike in any sample."""

CLOSER = 0.7
"""Where look-alikes reach even the strict threshold, its distance from 1 is multiplied by this, until they don't."""

STRIDE = 16
"""Sampled pictures searched at a time: where all look alike, the first few suffice."""

MISSED = 0.5
"""Kinds of synthetic duplicates of which the rule finds less than this share are named."""


class Synthetic(NamedTuple):
    """Recall measured on synthetic duplicates."""

    count: int
    """Synthetic duplicates that were tried; of texts, those that the rule covers."""
    recall: float
    """Share of them that the rule finds; where there are kinds, the mean of all kinds."""
    kinds: dict[str, float] = {}  # noqa: RUF012 -- never changed
    """That share of each kind; empty where there is one kind."""
    crowded: bool = False
    """The set is full of look-alikes: the strict rule holds."""
    least: bool = False
    """The threshold is the least one; the calibrated one would be lower."""

    @property
    def missed(self) -> list[str]:
        """Kinds that the rule can't find."""
        return [kind for kind, share in self.kinds.items() if share < MISSED]


def calibrate(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", records: int = 0) -> tuple[Rule, Synthetic]:
    """The similarity rule, and its recall on synthetic duplicates.

    Args:
        modality: Makes fingerprints and synthetic duplicates.
        config: Limits that are given.
        sample: Clean records.
        records: Number of all records, by which the search is bounded; 0 for no bound.
    """
    if isinstance(modality.fingerprints(sample.head(1), config), Sets):
        return _sets(modality, config, sample)
    return _vectors(modality, config, sample, records)


def _edited(
    perturb: "Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]", sample: "pd.DataFrame", copies: int
) -> "tuple[pd.DataFrame, pd.DataFrame]":
    chosen = sample.iloc[np.resize(np.arange(len(sample)), copies)].reset_index(drop=True)
    return chosen, perturb(chosen, np.random.Generator(np.random.PCG64(0)))


def _sets(modality: ModuleType, config: Dedup, sample: "pd.DataFrame") -> tuple[Rule, Synthetic]:
    before, after = (modality.fingerprints(table, config) for table in _edited(modality.perturb, sample, SYNTHETIC))
    rule = Rule(float(getattr(config, "threshold", 0.0)))
    number = len(before.ptr) - 1
    score = _jaccard(before, after)
    index = index_of(join([before, after]), rule, engine_of(config))
    index.add(np.arange(number))
    matches = index.similar(np.arange(number, 2 * number))
    found = np.zeros(number, bool)
    found[matches.first[matches.second == matches.first - number] - number] = True
    synthetic = score >= rule.threshold
    return rule, Synthetic(int(synthetic.sum()), _share(found[synthetic]))


class _Copies(NamedTuple):
    """Synthetic duplicates of vectors, compared with their originals."""

    kind: np.ndarray
    """int64 (N,)."""
    score: np.ndarray
    """float64 (N,): verified, with mirrors where these count; -1 where that can't be."""
    closeness: np.ndarray
    """float64 (N,): cosine of the descriptors."""

    @classmethod
    def of(cls, modality: ModuleType, config: Dedup, tables: "tuple[pd.DataFrame, pd.DataFrame]", kinds: int) -> Self:
        pairs, number = join([modality.fingerprints(table, config) for table in tables]), np.arange(len(tables[0]))
        assert isinstance(pairs, Vectors)
        mirror = config.mirror  # type: ignore[attr-defined]
        score = Verifier(pairs, -1.0, mirror).score(number, number + len(number))
        return cls(number % kinds, score, _closeness(pairs, mirror))

    def found(self, rule: Rule) -> np.ndarray:
        return (self.score >= rule.threshold) & (self.closeness >= rule.floor)


def _vectors(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", records: int) -> tuple[Rule, Synthetic]:
    """Calibrate thresholds that are 0 on half of the synthetic duplicates; measure the recall on the other half.

    Two rules: the wide one finds copies of all kinds, the strict one 99 of 100 of those whose pixels stay in place. The
    wide one holds, unless the set is full of look-alikes at it. Copies that can't be verified say nothing of the
    threshold, but they count as missed.
    """
    given = config.threshold  # type: ignore[attr-defined]
    if not modality.fingerprints(sample.head(1), config).details.size:
        # Compared by cosine only, with the threshold of the settings.
        tables = _edited(modality.perturb, sample, SYNTHETIC)
        closeness = _closeness(join([modality.fingerprints(table, config) for table in tables]), mirror=False)
        return Rule(given, given), Synthetic(len(closeness), _share(closeness >= given))
    floor, mirror = config.floor, config.mirror  # type: ignore[attr-defined]
    kinds = modality.EDITS
    copies = _Copies.of(modality, config, _edited(modality.perturb, sample, SYNTHETIC * ROUNDS), len(kinds))
    learn = (np.arange(len(copies.kind)) // len(kinds)) % 2 == 0
    turned = copies.kind == kinds.index("mirrored")
    taught = learn & (copies.score >= 0) & (mirror | ~turned)
    calibrated = 1 - SEVERAL * (1 - _quantile(copies.score[taught], given))
    threshold = given or _rounded(max(LEAST_SCORE, calibrated))
    rule = Rule(threshold, max(LEAST_COSINE, _quantile(copies.closeness[taught], floor)), mirror)
    crowded = not given and _crowded(modality, config, sample, rule)
    if crowded:
        # Both of its limits are near what copies reach: half of the lost ones each.
        still, half = taught & (copies.kind < modality.BENIGN), CALIBRATED / 2
        calibrated = _quantile(copies.score[still], given, half)
        least = max(LEAST_COSINE, _quantile(copies.closeness[still], floor, half))
        rule = _apart(modality, config, sample, Rule(max(LEAST_SCORE, calibrated), least))
    if not floor:
        rule = rule._replace(floor=max(rule.floor, _bound(modality, config, sample, records)))
    measured = ~learn & (rule.mirror | ~turned)
    shares = {
        name: _share((copies.found(rule) & measured)[~learn & (copies.kind == n)]) for n, name in enumerate(kinds)
    }
    weak = _Copies.of(
        modality, config, _edited(modality.distort, sample, WEAK_ROUNDS * len(modality.WEAK)), len(modality.WEAK)
    )
    shares |= {name: _share(weak.found(rule)[weak.kind == n]) for n, name in enumerate(modality.WEAK)}
    least_holds = not given and rule.threshold == LEAST_SCORE > calibrated
    number, recall = int((~learn).sum()) + len(weak.kind), round(float(np.mean([*shares.values()])), 4)
    return rule, Synthetic(number, recall, shares, crowded, least_holds)


def _bound(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", records: int) -> float:
    """Cosine above which so many pairs of records stay as can be verified; -1 where all can."""
    from genfoundry.data.similarity.descriptor import MIRROR

    share = max(LEAST_SHARE, CANDIDATES / max(records * (records - 1) / 2, 1))
    first, second = np.triu_indices(len(sample), 1)
    if share >= 1 or not len(first):
        return -1.0
    vectors = modality.fingerprints(sample, config).vectors.astype(np.float64)
    close = vectors @ vectors.T
    if config.mirror:  # type: ignore[attr-defined]
        close = np.maximum(close, vectors @ (vectors * MIRROR).T)
    return round(float(np.quantile(close[first, second], 1 - share)), 2)


def _closeness(pairs: Sets | Vectors, mirror: bool) -> np.ndarray:
    """Cosine of each original and its copy, the better one of plain and mirrored."""
    assert isinstance(pairs, Vectors)
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
    return _rounded(float(np.quantile(score, share)))


def _rounded(limit: float) -> float:
    """Rounded down, so that its distance from 1 has two digits."""
    distance = 1 - limit
    unit = 10.0 ** (math.floor(math.log10(max(distance, 1e-4))) - 1)
    return round(1 - math.ceil(round(distance / unit, 6)) * unit, 6)


def _crowded(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", rule: Rule) -> bool:
    """Whether the sample is full of look-alikes at a rule."""
    pairs = _resembling(modality, config, sample, rule, ALIKE_ONCE, rule.threshold)
    return _full(pairs, rule.threshold, len(sample))


def _apart(modality: ModuleType, config: Dedup, sample: "pd.DataFrame", rule: Rule) -> Rule:
    """The rule with the threshold at which the sample is not full of look-alikes."""
    pairs, threshold = _resembling(modality, config, sample, rule, 1.0, -1.0), rule.threshold
    while _full(pairs, threshold, len(sample)) and threshold < 0.999:
        threshold = round(1 - (1 - threshold) * CLOSER, 4)
    return rule._replace(threshold=threshold)


def _resembling(
    modality: ModuleType, config: Dedup, sample: "pd.DataFrame", rule: Rule, most: float, ceiling: float
) -> Matches:
    """Pairs (row, row) of the sample that resemble each other at least nearly; of the first rows alone, once a larger
    share of the sample than ``most`` has more than ``GROUP`` partners. Pairs that share no more than their
    ground score ``ceiling`` at most.
    """
    rows = np.arange(len(sample))
    index = index_of(modality.fingerprints(sample, config), rule._replace(threshold=_near(rule.threshold)))
    assert isinstance(index, Index)
    index.verifier.ceiling = ceiling
    index.add(rows)
    parts, partners = [], np.zeros(len(rows), np.int64)
    for start in range(0, len(rows), STRIDE):
        found = index.similar(rows[start : start + STRIDE])
        parts.append(found)
        partners += np.bincount(found.first, minlength=len(rows)) + np.bincount(found.second, minlength=len(rows))
        if (partners > GROUP).sum() > max(FEW, most * len(rows)):
            break
    return Matches.of(parts)


def _near(threshold: float) -> float:
    return 1 - NEARLY * (1 - threshold)


def _full(pairs: Matches, threshold: float, number: int) -> bool:
    """Whether more pictures look alike than chance and copies explain, of ``number`` that were compared.

    Copies of one picture are a small group at the threshold; whatever is nearly like another of the same group is no
    look-alike, however far edits have moved the two apart.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = (np.concatenate(both) for both in ((pairs.first, pairs.second), (pairs.second, pairs.first)))
    score = np.tile(pairs.score, 2)
    same, near = score >= threshold, (score < threshold) & (score >= _near(threshold))
    links = coo_array((np.ones(same.sum(), bool), (first[same], second[same])), (number, number))
    group = connected_components(links, directed=False)[1]
    near &= group[first] != group[second]
    others = np.unique(np.stack([first[near], group[second[near]]]), axis=1)[0]
    partners = np.bincount(others, minlength=number)
    large = np.bincount(group)[group] > max(GROUP, GROUP_SHARE * number)
    twice, once = (partners > 1) | large, (partners > 0) | large
    return bool(twice.sum() > max(FEW, ALIKE * number) or once.sum() > max(FEW, ALIKE_ONCE * number))


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
