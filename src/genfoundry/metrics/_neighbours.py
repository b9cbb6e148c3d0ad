"""Precision, recall, density and coverage of generated samples, by balls around rows of features.

A ball around a row reaches, closed, to its k-th nearest other row of the same set. Precision: share of the samples in
a ball of real data; recall: share of real data in a ball of samples (Kynkaanniemi et al. 2019, arXiv:1904.06991,
equations 1 and 2). Density: balls of real data that hold a sample, over k; coverage: share of the balls of real data
that hold a sample (Naeem et al. 2020, arXiv:2002.09797, equations 3 and 4).

Standard errors are the jackknife, exactly: every row of either side is left out once, without computing anything
again. Where a row is gone its own ball is gone, and balls that it bounded reach to their next neighbour. They err
upwards (Efron and Stein 1981, doi:10.1214/aos/1176345462): 1.1 to 2.2 times the deviation over repeated experiments
of 300 to 600 rows.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._balls import Cloud, Neighbours, blocks, clouds, held, nearest_others
from genfoundry.metrics._checks import jackknifed, rows, two_sets, unit_of


class PRDC(NamedTuple):
    """Precision, recall and coverage in [0, 1]; density at least 0, about 1 for equal laws."""

    precision: float
    recall: float
    density: float
    coverage: float


class Estimates(NamedTuple):
    """The four numbers with their standard errors, NaN where a side has only k + 1 rows."""

    values: PRDC
    errors: PRDC
    real: dict[str, np.ndarray]
    """float64 (N,) by the names of the four: squares of this and the next sum to the error's."""
    fake: dict[str, np.ndarray]
    """float64 (M,)."""


class _Side(NamedTuple):
    """What the balls of one set say of the other; each number also with a row left out."""

    within: float
    """Share of the probes in a ball."""
    density: float
    coverage: float
    of_probes: tuple[np.ndarray, np.ndarray, np.ndarray]
    """float64 (P,): what each probe adds to the error of the three."""
    of_centres: tuple[np.ndarray, np.ndarray, np.ndarray]
    """float64 (C,): the same of each centre."""


class _Tally:
    """Counts over all pairs of C balls and P probes, gathered block by block."""

    def __init__(self, centres: int, probes: int) -> None:
        self.in_ball = np.zeros(centres, dtype=np.int64)
        """Probes in each ball."""
        self.in_wider = np.zeros(centres, dtype=np.int64)
        """Probes in it when it reaches one neighbour further."""
        self.balls = np.zeros(probes, dtype=np.int64)
        """Balls that hold each probe."""
        self.only = np.zeros(centres, dtype=np.int64)
        """Probes that this ball alone holds, and that no ball it bounds would hold without it."""
        self.gained = np.zeros(centres, dtype=np.int64)
        """Probes in no ball that are in one once this centre is gone, as a ball that it bounded is wider."""
        self.sole_probe = np.zeros(probes, dtype=np.int64)
        """Balls that hold this probe alone."""

    def add(self, part: slice, inside: np.ndarray, wider: np.ndarray, ids: np.ndarray) -> None:
        """Take in bool (part, C) of the balls and of the wider ones; ``ids`` (C, K) bound the balls."""
        hits = inside.sum(axis=1)
        self.balls[part] = hits
        self.in_ball += inside.sum(axis=0)
        self.in_wider += wider.sum(axis=0)
        self.only += self._lost(inside[hits == 1], wider[hits == 1], ids)
        probe, ball = np.nonzero(wider & (hits == 0)[:, None])
        pairs = np.unique((probe[:, None] * len(ids) + ids[ball]).ravel())
        self.gained += np.bincount(pairs % len(ids), minlength=len(ids))

    def _lost(self, inside: np.ndarray, wider: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Of probes in one ball each, bool (P, C): how many are in none once its centre is gone, int64 (C,)."""
        sole = inside.argmax(axis=1) if len(inside) else np.empty(0, dtype=np.int64)
        probe, ball = np.nonzero(wider & ~inside)
        kept = np.zeros(len(sole), dtype=bool)
        kept[probe[(ids[ball] == sole[probe, None]).any(axis=1)]] = True
        return np.bincount(sole[~kept], minlength=len(ids))

    def add_sole(self, part: slice, inside: np.ndarray) -> None:
        self.sole_probe[part] = inside[:, self.in_ball == 1].sum(axis=1)


def _tally(centres: Cloud, near: Neighbours, probes: Cloud, k: int) -> _Tally:
    tally = _Tally(len(centres.rows), len(probes.rows))
    radii, wider_radii = near.squared[:, k - 1], near.squared[:, min(k, near.squared.shape[1] - 1)]
    alone = []
    for part in blocks(len(probes.rows)):
        inside, wider = held(probes, centres, (radii, wider_radii), part)
        tally.add(part, inside, wider, near.ids[:, :k])
        alone.append((part, np.packbits(inside, axis=1)))
    for part, packed in alone:
        tally.add_sole(part, np.unpackbits(packed, axis=1, count=len(radii)).astype(bool))
    return tally


def _side(centres: Cloud, near: Neighbours, probes: Cloud, k: int) -> _Side:
    """Numbers of closed balls to the k-th neighbour in ``near``, which holds one more where there is one."""
    tally = _tally(centres, near, probes, k)
    c, p = len(centres.rows), len(probes.rows)
    covered, inside, total = int((tally.in_ball > 0).sum()), int((tally.balls > 0).sum()), int(tally.balls.sum())
    values = inside / p, total / (k * p), covered / c
    if near.squared.shape[1] == k:
        unknown = np.full(p, np.nan), np.full(c, np.nan)
        return _Side(*values, (unknown[0],) * 3, (unknown[1],) * 3)
    # Without one of the probes.
    rest = p - 1
    probe_within = (inside - (tally.balls > 0)) / rest
    probe_density = (total - tally.balls) / (k * rest)
    probe_coverage = (covered - tally.sole_probe) / c
    # Without one of the centres: its ball goes, and those that it bounds reach further.
    bounded = near.ids[:, :k].ravel()
    more = np.repeat(tally.in_wider - tally.in_ball, k)
    newly = np.repeat((tally.in_ball == 0) & (tally.in_wider > 0), k)
    centre_within = (inside - tally.only + tally.gained) / p
    centre_density = (total - tally.in_ball + np.bincount(bounded, weights=more, minlength=c)) / (k * p)
    centre_coverage = (covered - (tally.in_ball > 0) + np.bincount(bounded, weights=newly, minlength=c)) / (c - 1)
    of_probes = jackknifed(probe_within), jackknifed(probe_density), jackknifed(probe_coverage)
    of_centres = jackknifed(centre_within), jackknifed(centre_density), jackknifed(centre_coverage)
    return _Side(*values, of_probes, of_centres)


def estimates(real: np.ndarray, fake: np.ndarray, k: int) -> Estimates:
    """The four numbers of float64 (N, D) and (M, D), both with more than k rows, and their standard errors."""
    unit = unit_of(real, fake)
    around_real, around_fake = clouds(real / unit, fake / unit)
    near_real, near_fake = (
        nearest_others(cloud, min(k + 1, len(cloud.rows) - 1)) for cloud in (around_real, around_fake)
    )
    by_real = _side(around_real, near_real, around_fake, k)
    by_fake = _side(around_fake, near_fake, around_real, k)
    values = PRDC(by_real.within, by_fake.within, by_real.density, by_real.coverage)
    of_real = PRDC(by_real.of_centres[0], by_fake.of_probes[0], *by_real.of_centres[1:])._asdict()
    of_fake = PRDC(by_real.of_probes[0], by_fake.of_centres[0], *by_real.of_probes[1:])._asdict()
    errors = (np.sqrt((of_real[name] ** 2).sum() + (of_fake[name] ** 2).sum()) for name in PRDC._fields)
    return Estimates(values, PRDC(*map(float, errors)), of_real, of_fake)


def precision_recall_density_coverage(real: Any, fake: Any, k: int = 5) -> PRDC:
    """Precision, recall, density and coverage with closed balls to the k-th nearest other row.

    Args:
        real: (N, D) features of real records; a numpy array, a list or a torch tensor, of any width of number.
        fake: (M, D) features of samples by the same network. Compare only at equal N and M.
        k: Neighbours of a ball, below N and below M.

    Raises:
        DataError: Fewer than two rows on a side, k below 1 or not below N and M, unequal D, or a value that is
            NaN or infinite.
    """
    name = "precision_recall_density_coverage"
    x, y = two_sets(name, real, fake, ("real", "fake"))
    least = min(len(x), len(y))
    if not 1 <= k < least:
        raise DataError(f"{name}: k is {k} with {len(x)} real and {len(y)} fake rows; choose from 1 to {least - 1}")
    return estimates(x, y, k).values


class NeighbourConfig(Section):
    """Settings that the four metrics share."""

    k: int = Field(default=5, ge=1)
    """Neighbours that a ball reaches to; 5 by Naeem et al., who measured it. Fewer where a side has not k + 2 rows."""
    rows: int = Field(default=10_000, ge=3)
    """Most rows of a side: the cost grows with their square."""


_KEPT: OrderedDict[bytes, Estimates] = OrderedDict()
"""Last results by digest of their input: four metrics ask for the same numbers, of the model and of its floor."""

MOST_KEPT = 16


def _estimates_once(real: np.ndarray, fake: np.ndarray, k: int) -> Estimates:
    digest = blake2b(f"{real.shape} {fake.shape} {k}".encode())
    digest.update(np.ascontiguousarray(real).data)
    digest.update(np.ascontiguousarray(fake).data)
    key = digest.digest()
    if key not in _KEPT:
        _KEPT[key] = estimates(real, fake, k)
        if len(_KEPT) > MOST_KEPT:
            _KEPT.popitem(last=False)
    return _KEPT[key]


def chosen(count: int, wanted: int) -> np.ndarray:
    """Fixed random row numbers, sorted: all, or as many as wanted."""
    return np.sort(np.random.Generator(np.random.PCG64(0)).permutation(count)[:wanted])


def neighbour_score(metric: str, which: str, features: Any, reference_features: Any, config: NeighbourConfig) -> Score:
    """One of the four as a score, at equal numbers of rows: the larger side gives up rows, the same ones always.

    Raises:
        DataError: Fewer than three rows on a side, unequal D, or a value that is not finite.
    """
    names = ("features", "reference_features")
    fake, real = (
        rows(f"{metric}: {what}", part, 3) for what, part in zip(names, (features, reference_features), strict=True)
    )
    if fake.shape[1] != real.shape[1]:
        two_sets(metric, fake, real, names)
    count = min(len(fake), len(real), config.rows)
    k = min(config.k, count - 2)
    of_real, of_fake = chosen(len(real), count), chosen(len(fake), count)
    found = _estimates_once(real[of_real], fake[of_fake], k)
    # A row that was given up has no influence.
    influence = {"sample": np.zeros(len(fake)), "test": np.zeros(len(real))}
    influence["sample"][of_fake], influence["test"][of_real] = found.fake[which], found.real[which]
    value, se = getattr(found.values, which), getattr(found.errors, which)
    return Score(value, count, se, {"k": k, "n_reference": count}, influence)
