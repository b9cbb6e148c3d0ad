"""How often the gate is wrong and how often it sees an improvement: python benchmarks/gate_operating.py [--cell NAME].

Simulation with fixed seeds through the public functions of the gate; prints the tables of docs/gate.md, each with its
seconds on one core. ``--cell`` runs one of them, ``--share 0.1`` a tenth of the trials. A rate is that of independent
comparisons, with its standard error.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from genfoundry.core.errors import TooFewError
from genfoundry.gate.looks import alpha_of_look
from genfoundry.gate.rules import Gate, Loss, guard
from genfoundry.metrics._distances import frechet_score
from genfoundry.metrics._paired import (
    Difference,
    paired_frechet_difference,
    paired_kernel_difference,
    paired_ratio_difference,
)
from genfoundry.metrics.kid_domain import standardised

ALPHA = 0.05
CLASSES = 10


class Rate:
    """A share with its standard error; shares of refused comparisons beside it."""

    def __init__(self) -> None:
        self.values: list[float] = []
        self.refused = 0

    def add(self, value: float) -> None:
        self.values.append(float(value))

    def __str__(self) -> str:
        values, count = np.array(self.values), len(self.values) + self.refused
        if not len(values):
            return "refused"
        share = values.sum() / count
        shown = f"{100 * share:.1f} ± {100 * values.std() / math.sqrt(count):.1f} %"
        return shown + (f" ({100 * self.refused / count:.0f} % refused)" if self.refused else "")


class Images(NamedTuple):
    """Law of two models and of real data: classes around their own means, with the spectrum 1 / sqrt(j).

    Samples have their labels in turn, as ``sample`` draws them; real records have random ones. N is a multiple of the
    classes: else models have other shares of them than the data, and two widths are not equally far.
    """

    n: int
    d: int
    width_a: float
    """Factor of all of the first model's features; 1 is the law of real data."""
    width_b: float
    shared: float = 0.0
    """Part of the variance that samples of one seed share."""
    rectified: bool = False
    """Behind a ReLU: skewed, half of it zeros."""
    real_in_turn: bool = False
    labelled: bool = True
    """Whether models heed labels; else they draw them at random."""
    classes: int = CLASSES
    apart: float = 1.0
    """Factor of the distances of the classes' means."""

    def centres(self) -> np.ndarray:
        """Means of the classes, float64 (C, D)."""
        spectrum = np.arange(1, self.d + 1) ** -0.25
        return self.apart * np.random.default_rng(0).standard_normal((self.classes, self.d)) * spectrum

    def draw(
        self, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
        """Features of both models and of real records, float64 (N, D), the samples' labels and the records'."""
        spectrum = np.arange(1, self.d + 1) ** -0.25
        centres, turn = self.centres(), np.arange(self.n) % self.classes

        def rows(width: float, labels: np.ndarray, noise: np.ndarray) -> np.ndarray:
            found = width * (centres[labels] + spectrum * noise)
            return found.clip(min=0) if self.rectified else found

        def labels(in_turn: bool) -> np.ndarray:
            return turn if in_turn else generator.integers(0, self.classes, self.n)

        real, common, *own = generator.standard_normal((4, self.n, self.d))
        a, b = (math.sqrt(self.shared) * common + math.sqrt(1 - self.shared) * part for part in own)
        asked = labels(self.labelled), labels(self.labelled)
        of_real = labels(self.real_in_turn)
        return (
            rows(self.width_a, asked[0], a),
            rows(self.width_b, asked[1], b),
            rows(1.0, of_real, real),
            turn if self.labelled else None,
            of_real,
        )

    def differences(self, metric: str, trials: int) -> Iterator[Difference]:
        """The gate's difference of both models in independent trials."""
        generator = np.random.default_rng([self.n, self.d, int(100 * self.width_a), int(100 * self.width_b)])
        for _ in range(trials):
            a, b, real, labels, of_real = self.draw(generator)
            if metric == "kid":
                (a, _), (b, real) = standardised(a, real), standardised(b, real)
                yield paired_kernel_difference(a, b, real, labels_a=labels, labels_b=labels)
            else:
                yield paired_frechet_difference(a, b, real, labels_a=labels, labels_b=labels, reference_labels=of_real)

    def rates(self, metric: str, trials: int) -> tuple[Rate, Rate]:
        """How often the first is promoted over the second, and the second over the first."""
        first, second = Rate(), Rate()
        try:
            for found in self.differences(metric, trials):
                first.add(found.upper(ALPHA) < 0)
                second.add(found.scaled(-1).upper(ALPHA) < 0)
        except TooFewError:
            # For all draws of a law alike.
            pass
        return first, second

    def equal(self, metric: str, trials: int) -> Rate:
        """How often one of two models of the same law is promoted over the other, over both directions."""
        rate = Rate()
        for found in self.differences(metric, trials):
            rate.add((float(found.upper(ALPHA) < 0) + float(found.scaled(-1).upper(ALPHA) < 0)) / 2)
        return rate


class Documents(NamedTuple):
    """Law of two models' likelihoods of n documents; the difference over all documents of that law is ``effect``.

    Two models of about 1.2 nats a byte differ by 0.05 from document to document: a choice, a little under
    half of the 0.11 by which the default transformer and its bigram differ on apidocs.
    """

    n: int
    lengths: str = "lognormal"
    """``equal``; ``lognormal`` (6.34, 1.21) as the 1,023 test documents of apidocs are; or an index of Pareto's law."""
    gaps: str = "symmetric"
    effect: float = 0.0

    def draw(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nats of challenger and champion, and bytes."""
        n, normal = self.n, generator.standard_normal(self.n)
        # Standing among the lengths, with mean 0 over all bytes of the law.
        if self.lengths == "equal":
            size, standing = np.full(n, 1000.0), np.zeros(n)
        elif self.lengths == "lognormal":
            size, standing = np.exp(6.34 + 1.21 * normal), normal - 1.21
        else:
            index = float(self.lengths)
            size = 80 * generator.random(n) ** (-1 / index)
            standing = np.log(size / 80) * (index - 1) - 1
        noise = generator.standard_t(4, n) / math.sqrt(2)
        gap = {
            "symmetric": noise,
            "worse with length": standing + noise / 2,
            "better with length": -standing + noise / 2,
            "a little worse with length": 0.3 * standing + noise,
            "worse far from the middle": standing**2 - 1 + noise / 2,
            "fails on the longest": (standing > 1) / 0.158655 - 1 + noise / 2,
            "skewed": np.exp(generator.standard_normal(n)) - math.exp(0.5),
        }[self.gaps]
        # What both pay cancels; a thousand nats a byte keep every draw above 0.
        return size * (1000 + 0.05 * gap - self.effect), size * 1000, size

    def rate(self, trials: int, alpha: float = ALPHA) -> Rate:
        """How often the challenger is promoted."""
        generator, rate = np.random.default_rng(self.n), Rate()
        for _ in range(trials):
            try:
                rate.add(paired_ratio_difference(*self.draw(generator)).upper(alpha) < 0)
            except TooFewError:
                rate.refused += 1
        return rate


def line(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(title: str, *cells: str) -> None:
    print(f"\n**{title}**\n")
    line(*cells)
    line(*["---"] * len(cells))


def equal_images(count: Callable[[int], int]) -> None:
    head(
        "Images: false promotion of an equal model, nominal 5 %, one look",
        *("metric", "N", "D", "labels in turn", "no labels", "real ones in turn too", "behind a ReLU"),
        *("80 % shared", "as good as real data"),
    )
    cells = (("fid", 320, 32), ("fid", 620, 32), ("fid", 640, 64), ("kid", 320, 32))
    for metric, n, d in cells:
        plain = Images(n, d, 1.1, 1.1)
        laws = [
            plain,
            plain._replace(labelled=False),
            plain._replace(real_in_turn=True),
            plain._replace(rectified=True),
            plain._replace(shared=0.8),
            Images(n, d, 1.0, 1.0),
        ]
        # The larger cells cost more: two laws of them keep the table to minutes.
        line(metric, n, d, *(law.equal(metric, count(1000)) for law in laws[: 6 if (metric, d) == ("fid", 32) else 2]))


def unlike_images(count: Callable[[int], int]) -> None:
    head(
        "Images: false promotion between models equally far from real data, nominal 5 %, one look",
        *("metric", "N", "D", "widths", "narrow one", "wide one"),
    )
    for law in (
        Images(320, 32, 0.9, 1.1),
        Images(620, 32, 0.9, 1.1),
        Images(620, 32, 0.9, 1.1, 0.8),
        Images(620, 32, 0.8, 1.2),
        Images(640, 64, 0.9, 1.1),
        Images(2000, 32, 0.9, 1.1),
    ):
        word = ", 80 % shared" if law.shared else ""
        rates = law.rates("fid", count(2000 if law.n <= 620 else 1000))
        line("fid", law.n, law.d, f"{law.width_a} and {law.width_b}{word}", *rates)


def far_labels(count: Callable[[int], int]) -> None:
    head(
        "Images: the same where labels are far apart, and 95 % intervals of the wide one that hold its true distance",
        *("N", "D", "labels", "apart", "real ones in turn too", "widths", "narrow one", "wide one", "intervals"),
    )
    for law in (
        Images(320, 32, 0.8, 1.2, real_in_turn=True),
        Images(620, 32, 0.9, 1.1, real_in_turn=True, apart=3.0),
        Images(620, 32, 0.9, 1.1, apart=3.0),
        Images(320, 32, 0.9, 1.1, classes=320, apart=2.0),
        Images(640, 32, 0.9, 1.1, classes=320, apart=2.0),
        Images(640, 32, 0.8, 1.2, classes=320, apart=2.0),
        Images(960, 32, 0.9, 1.1, classes=320, apart=2.0),
        Images(960, 32, 0.9, 1.1, classes=320, apart=2.0, real_in_turn=True),
    ):
        turn = "yes" if law.real_in_turn else "no"
        rates = law.rates("fid", count(1000))
        widths = f"{law.width_a} and {law.width_b}"
        wide = law._replace(width_a=law.width_b)
        line(law.n, law.d, law.classes, law.apart, turn, widths, *rates, coverage(wide, count(400)))


def power_images(count: Callable[[int], int]) -> None:
    head(
        "Images: power at 5 %, champion's spread 10 % too wide, challenger's as named",
        *("metric", "N", "D", "8 %", "5 %", "2 %"),
    )
    line("fid", 620, 32, *(Images(620, 32, 1 + wide, 1.1).rates("fid", count(400))[0] for wide in (0.08, 0.05, 0.02)))


def coverage(law: Images, trials: int) -> Rate:
    """How often the first model's 95 % interval holds its true distance."""
    rate, generator = Rate(), np.random.default_rng(law.n)
    # All features are a multiple of the real ones, so the distance is that of the widths.
    second = float((law.centres() ** 2).sum() / law.classes + (np.arange(1, law.d + 1) ** -0.5).sum())
    for _ in range(trials):
        a, _, real, labels, of_real = law.draw(generator)
        score = frechet_score("fid", a, real, labels, of_real)
        if math.isnan(score.se):
            rate.refused += 1
        else:
            low, high = score.interval
            rate.add(low <= (law.width_a - 1) ** 2 * second <= high)
    return rate


def interval(count: Callable[[int], int]) -> None:
    head(
        "Images: share of 95 % intervals of one model's Fréchet distance that hold the true one",
        *("N", "D", "widths 1.1", "0.9", "as good as real data"),
    )
    for n, d in ((320, 32), (500, 32)):
        rates = []
        for width in (1.1, 0.9, 1.0):
            rates.append(coverage(Images(n, d, width, 1.0), count(1000)))
        line(n, d, *rates)


TEXTS = [
    ("equal", "symmetric"),
    ("equal", "skewed"),
    ("lognormal", "symmetric"),
    ("lognormal", "worse with length"),
    ("lognormal", "a little worse with length"),
    ("lognormal", "better with length"),
    ("lognormal", "worse far from the middle"),
    ("lognormal", "fails on the longest"),
    ("lognormal", "skewed"),
    ("2.5", "worse with length"),
    ("2.5", "skewed"),
    ("1.5", "worse with length"),
    ("1.5", "skewed"),
    ("1.2", "worse with length"),
]


def equal_texts(count: Callable[[int], int]) -> None:
    sizes = (49, 50, 100, 200, 1000)
    head(
        "Bits per byte: false promotion of an equal model, nominal 5 %, one look",
        *("lengths", "gaps", *(f"{n} documents" for n in sizes)),
    )
    for lengths, gaps in TEXTS:
        word = lengths if lengths.isalpha() else f"Pareto, index {lengths}"
        line(word, gaps, *(Documents(n, lengths, gaps).rate(count(4000 if n < 1000 else 2000)) for n in sizes))


def power_texts(count: Callable[[int], int]) -> None:
    head(
        "Bits per byte: power at 5 %",
        *("documents", "lengths", "gaps", "0.5 % better", "1 % better", "2 % better"),
    )
    for n, lengths in ((50, "equal"), (200, "equal"), (200, "lognormal"), (1000, "lognormal")):
        for gaps in ("symmetric", "worse with length") if lengths == "lognormal" else ("symmetric",):
            laws = (Documents(n, lengths, gaps, 1.2 * gain) for gain in (0.005, 0.01, 0.02))
            line(n, lengths, gaps, *(law.rate(count(1000)) for law in laws))


def over_looks(title: str, looks: int, trials: int, trial: Callable[[int], Iterator[Difference]]) -> None:
    """Any promotion of an equal model over so many looks at one gate set: with spending, and all spent each time."""
    spent, naive = Rate(), Rate()
    for number in range(trials):
        found = list(trial(number))
        spent.add(any(one.upper(alpha_of_look(ALPHA, look)) < 0 for look, one in enumerate(found, start=1)))
        naive.add(any(one.upper(ALPHA) < 0 for one in found))
    line(title, looks, spent, naive)


def looks(count: Callable[[int], int]) -> None:
    head(
        "Any false promotion over many looks at one gate set",
        *("metric", "looks", "alpha spent over the looks", "5 % at every look"),
    )
    for many, trials in ((10, 1000), (50, 1000)):

        def texts(trial: int, many: int = many) -> Iterator[Difference]:
            # The documents and the champion stay; each night another equal challenger is held against it.
            generator, n = np.random.default_rng([many, trial]), 200
            size = np.exp(generator.normal(6.34, 1.21, n)).clip(80, 10_000)
            for _ in range(many):
                gap = 0.05 * generator.standard_t(4, n) / math.sqrt(2)
                yield paired_ratio_difference(size * (1000 + gap), size * 1000, size)

        over_looks("bits per byte, 200 documents", many, count(trials), texts)

    def images(trial: int) -> Iterator[Difference]:
        generator, law = np.random.default_rng(trial), Images(320, 32, 1.05, 1.05)
        _, champion, real, labels, of_real = law.draw(generator)
        for _ in range(10):
            challenger = law.draw(generator)[0]
            yield paired_frechet_difference(
                challenger, champion, real, labels_a=labels, labels_b=labels, reference_labels=of_real
            )

    over_looks("Fréchet, N 320, D 32", 10, count(300), images)


def guards(count: Callable[[int], int]) -> None:
    head(
        "Guards: share of comparisons in which any of 5 guards blocks, 0.05 allowed, one share truly fallen",
        *("N", "not at all", "by 0.05", "by 0.10", "by 0.15"),
    )
    for n in (200, 620, 2000):
        line(n, *(guard_rate(n, lost, 5, count(2000)) for lost in (0.0, 0.05, 0.10, 0.15)))


def guard_rate(n: int, lost: float, among: int, trials: int) -> Rate:
    """How often any of so many guards blocks: each a share near 0.7 over n samples, one truly fallen by ``lost``."""
    generator, rate, settings = np.random.default_rng(n), Rate(), Gate()
    for _ in range(trials):
        blocked = False
        for number in range(among):
            true = np.array([0.7 - (lost if number == 0 else 0.0), 0.7])
            challenger, champion = generator.binomial(n, true) / n
            se = math.sqrt((challenger * (1 - challenger) + champion * (1 - champion)) / n)
            loss = Loss(f"share {number}", Difference(champion - challenger, se, n, "two shares"), 0.05, "champion")
            blocked |= not guard(loss, settings.alpha / among).passed
        rate.add(blocked)
    return rate


CELLS = {
    "equal-images": equal_images,
    "unlike-images": unlike_images,
    "far-labels": far_labels,
    "power-images": power_images,
    "interval": interval,
    "equal-texts": equal_texts,
    "power-texts": power_texts,
    "looks": looks,
    "guards": guards,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cell", choices=CELLS, action="append", help="only this table; may be repeated")
    parser.add_argument("--share", type=float, default=1.0, help="of the trials")
    options = parser.parse_args()
    for name in options.cell or CELLS:
        started = time.process_time()
        CELLS[name](lambda full: max(20, round(full * options.share)))
        print(f"\n{name}: {time.process_time() - started:.0f} s", flush=True)
