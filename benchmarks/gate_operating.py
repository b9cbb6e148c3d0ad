"""How often the gate is wrong and how often it sees an improvement: python benchmarks/gate_operating.py [--quick].

Simulation with a fixed seed through the public functions of the gate; prints the table of docs/gate.md. For Frechet
and kernel distances models are drawn in pools: every ordered pair of a pool is one comparison, so that a few hundred
distances give tens of thousands of comparisons; the error of a rate is the spread over pools. One core, five minutes.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from genfoundry.gate.looks import alpha_of_look
from genfoundry.gate.rules import Gate, Loss, guard
from genfoundry.metrics._frechet import frechet
from genfoundry.metrics._paired import Difference, _kernel_parts, paired_ratio_difference

ALPHA = 0.05
BUDGETS = {"quick": 0.05, "full": 1.0}
"""Share of the pools and trials."""

Law = Callable[[np.random.Generator, int, int, float], np.ndarray]


def gaussian(generator: np.random.Generator, n: int, d: int, scale: float) -> np.ndarray:
    """Rows with the spectrum 1 / sqrt(j), as features have it; ``scale`` 1 is the law of real data."""
    return scale * generator.standard_normal((n, d)) / np.arange(1, d + 1) ** 0.25


def rectified(generator: np.random.Generator, n: int, d: int, scale: float) -> np.ndarray:
    """The same behind a ReLU: skewed, half of it zeros."""
    return gaussian(generator, n, d, scale).clip(min=0)


class Rate:
    """A share with its standard error over independent pools."""

    def __init__(self) -> None:
        self.pools: list[float] = []

    def add(self, share: float) -> None:
        self.pools.append(float(share))

    def __str__(self) -> str:
        values = np.array(self.pools)
        return f"{100 * values.mean():.1f} ± {100 * values.std(ddof=1) / math.sqrt(len(values)):.1f} %"


def mixed(common: np.ndarray, own: np.ndarray, share: float) -> np.ndarray:
    """Rows of two models with the same seeds: they share a part of their variance."""
    return math.sqrt(share) * common + math.sqrt(1 - share) * own


class Pool(NamedTuple):
    """All ordered comparisons of K models with one reference."""

    values: np.ndarray
    """float64 (K,): the metric, less a constant."""
    variance: np.ndarray
    """float64 (K, K): of the difference of two models' values."""

    def promoted(self, alpha: float) -> np.ndarray:
        """bool (K, K): row model beats column model."""
        return self.values[:, None] - self.values[None] < ndtri(alpha) * np.sqrt(self.variance)


def influences(samples: list[np.ndarray], real: np.ndarray, metric: str) -> list[tuple[float, np.ndarray, np.ndarray]]:
    """Value and influences (N,) and (M,) of each model."""
    if metric == "fid":
        found = [frechet(rows, real) for rows in samples]
        return [(one.distance, one.influence, one.reference_influence) for one in found]
    return [_kernel_parts(rows, real) for rows in samples]


def standardised(samples: list[np.ndarray], real: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    mean, deviation = real.mean(axis=0), real.std(axis=0, ddof=1)
    return [(rows - mean) / deviation for rows in samples], (real - mean) / deviation


def pool(samples: list[np.ndarray], real: np.ndarray, metric: str) -> Pool:
    """What the paired differences of all pairs would be, for the price of K distances (a test holds it to them)."""

    def parts(part: slice) -> tuple[np.ndarray, np.ndarray]:
        values, own, shared = zip(*influences([rows[part] for rows in samples], real[part], metric), strict=True)
        covariance = np.cov(np.stack(own)) / len(own[0]) + np.cov(np.stack(shared)) / len(shared[0])
        return np.array(values), np.diag(covariance)[:, None] + np.diag(covariance)[None] - 2 * covariance

    if metric == "kid":
        samples, real = standardised(samples, real)
    values, whole = parts(slice(None))
    halves = (parts(slice(0, None, 2))[1] + parts(slice(1, None, 2))[1]) / 2
    return Pool(values, np.clip(1.5 * whole - 0.25 * halves, 0.5 * whole, whole).clip(min=0))


def pools(law: Law, n: int, d: int, scales: list[float], shared: float, count: int, seed: int) -> Iterator[tuple]:
    """(samples, reference): one sample for each scale, from one noise in part, and real data of scale 1."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        real, common = law(generator, n, d, 1.0), gaussian(generator, n, d, 1.0) if shared else None
        samples = []
        for scale in scales:
            own = gaussian(generator, n, d, 1.0)
            rows = scale * (own if common is None else mixed(common, own, shared))
            samples.append(rows.clip(min=0) if law is rectified else rows)
        yield samples, real


def equal_rate(metric: str, law: Law, n: int, d: int, scale: float, shared: float, count: int) -> Rate:
    """How often one of two models of the same law is promoted over the other."""
    rate, size = Rate(), 6 if n == 5000 else 10
    for samples, real in pools(law, n, d, [scale] * size, shared, count, seed=n * 1000 + d):
        wins = pool(samples, real, metric).promoted(ALPHA)
        rate.add(wins[~np.eye(size, dtype=bool)].mean())
    return rate


def power(metric: str, n: int, d: int, better: float, worse: float, count: int) -> Rate:
    """How often the model of the better scale is promoted over that of the worse one."""
    rate, size = Rate(), 6
    for samples, real in pools(gaussian, n, d, [better] * size + [worse] * size, 0.0, count, seed=n * 1000 + d + 1):
        wins = pool(samples, real, metric).promoted(ALPHA)
        rate.add(wins[:size, size:].mean())
    return rate


def documents(generator: np.random.Generator, n: int, effect: float, tails: float) -> tuple[np.ndarray, ...]:
    """Nats of challenger and champion and bytes of n documents.

    Bytes are lognormal (6.34, 1.21), as the 1,023 test documents of apidocs are. A model pays 1.2 nats a byte, and two
    models differ by 0.05 from document to document, with a t law of ``tails``: a choice, a little under half of the
    0.11 by which the default transformer and its bigram differ on apidocs.
    """
    size = np.exp(generator.normal(6.34, 1.21, n)).clip(80, 20_000).round()
    champion = size * generator.normal(1.2, 0.15, n).clip(min=0.3)
    gap = 0.05 * generator.standard_t(tails, n) * math.sqrt((tails - 2) / tails)
    return (champion + size * (gap.clip(-0.3, 0.3) - effect)), champion, size


def text_rate(n: int, effect: float, tails: float, trials: int, alpha: float = ALPHA) -> Rate:
    generator, rate = np.random.default_rng(n), Rate()
    for _ in range(trials):
        rate.add(paired_ratio_difference(*documents(generator, n, effect, tails)).upper(alpha) < 0)
    return rate


def looks_rates(looks: int, trials: int, n: int = 200) -> tuple[Rate, Rate]:
    """Any promotion of an equal model over so many looks at one gate set: with spending, and all spent each time.

    The documents and the champion stay; each night another equal challenger is held against it.
    """
    spent, naive = Rate(), Rate()
    for trial in range(trials):
        generator = np.random.default_rng([looks, trial])
        _, champion, size = documents(generator, n, 0.0, 5)
        won = [False, False]
        for look in range(1, looks + 1):
            gap = 0.05 * generator.standard_t(5, n) * math.sqrt(3 / 5)
            found = paired_ratio_difference(champion + size * gap.clip(-0.3, 0.3), champion, size)
            won[0] |= found.upper(alpha_of_look(ALPHA, look)) < 0
            won[1] |= found.upper(ALPHA) < 0
        spent.add(won[0])
        naive.add(won[1])
    return spent, naive


def distance_looks(looks: int, count: int, n: int = 622, d: int = 32) -> tuple[Rate, Rate]:
    """The same for the Frechet distance: the champion is model 0 of a pool, the others come one a night."""
    spent, naive = Rate(), Rate()
    levels = [alpha_of_look(ALPHA, look) for look in range(1, looks + 1)]
    for samples, real in pools(gaussian, n, d, [1.05] * (looks + 1), 0.0, count, seed=looks):
        found = pool(samples, real, "fid")
        spent.add(any(found.promoted(alpha)[number, 0] for number, alpha in enumerate(levels, start=1)))
        naive.add(found.promoted(ALPHA)[1:, 0].any())
    return spent, naive


def guard_rate(n: int, lost: float, guards: int, trials: int, shared: float = 0.0) -> Rate:
    """How often any of so many guards blocks: each a share near 0.7 over n samples, one truly fallen by ``lost``."""
    generator, rate, settings = np.random.default_rng(n), Rate(), Gate()
    for _ in range(trials):
        blocked = False
        for number in range(guards):
            true = np.array([0.7 - (lost if number == 0 else 0.0), 0.7])
            common = generator.random((n, 1)) if generator.random() < shared else generator.random((n, 2))
            challenger, champion = (common < true).mean(axis=0)
            se = math.sqrt((challenger * (1 - challenger) + champion * (1 - champion)) / n)
            loss = Loss(f"share {number}", Difference(champion - challenger, se, n, "two shares"), 0.05, "champion")
            blocked |= not guard(loss, settings.alpha / guards).passed
        rate.add(blocked)
    return rate


def main(budget: float) -> None:
    started = time.monotonic()

    def count(full: int) -> int:
        return max(4, round(full * budget))

    def line(*cells: object) -> None:
        print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)

    print("\nFalse promotion of an equal model, nominal 5 %, one look\n")
    line("metric", "N", "D", "Gaussian", "behind a ReLU", "paired, 80 % shared", "as good as real data")
    line(*["---"] * 7)
    cells = [(n, d) for n in (622, 1000, 5000) for d in (32, 64)]
    for metric, sizes in (("fid", cells), ("kid", [(622, 32), (1000, 64)])):
        for n, d in sizes:
            runs = count(32 if n == 5000 else 60 if metric == "fid" else 30)
            options = [(gaussian, 1.1, 0.0), (rectified, 1.1, 0.0), (gaussian, 1.1, 0.8), (gaussian, 1.0, 0.0)]
            line(metric, n, d, *(equal_rate(metric, law, n, d, scale, part, runs) for law, scale, part in options))
    print("\nPower at 5 %: champion's spread 10 % too wide, challenger's as named\n")
    line("metric", "N", "D", "8 %", "5 %", "2 %")
    line(*["---"] * 6)
    for metric, n, d, runs in (
        ("fid", 622, 32, 40),
        ("fid", 622, 64, 40),
        ("fid", 1000, 64, 30),
        ("fid", 5000, 64, 6),
        ("kid", 1000, 64, 12),
    ):
        line(metric, n, d, *(power(metric, n, d, 1 + wide / 100, 1.1, count(runs)) for wide in (8, 5, 2)))
    print("\nBits per byte, nominal 5 %, one look\n")
    line("documents", "equal, normal", "equal, heavy tails", "0.5 % better", "1 % better", "2 % better")
    line(*["---"] * 6)
    for n in (50, 200, 1000):
        equal = (text_rate(n, 0.0, tails, count(20_000)) for tails in (50, 4))
        line(n, *equal, *(text_rate(n, 1.2 * gain, 5, count(2000)) for gain in (0.005, 0.01, 0.02)))
    print("\nAny false promotion over many looks at one gate set\n")
    line("metric", "looks", "alpha spent over the looks", "5 % at every look")
    line(*["---"] * 4)
    for looks, trials, runs in ((10, 2000, 300), (50, 1000, 120)):
        line("bits per byte, 200 documents", looks, *looks_rates(looks, count(trials)))
        line("Frechet, N 622, D 32", looks, *distance_looks(looks, count(runs)))
    print("\nGuards: share of comparisons in which any of 5 guards blocks, 0.05 allowed, one share truly fallen\n")
    line("N", "not at all", "by 0.05", "by 0.10", "by 0.15")
    line(*["---"] * 5)
    for n in (200, 622, 2000):
        line(n, *(guard_rate(n, lost, 5, count(4000)) for lost in (0.0, 0.05, 0.10, 0.15)))
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a twentieth of the trials")
    main(BUDGETS["quick" if parser.parse_args().quick else "full"])
