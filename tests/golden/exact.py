"""The definitions once more, in rational numbers or 50 digits, pair by pair and with nothing of genfoundry."""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import mpmath

Rows = Sequence[Sequence[float]]
mpmath.mp.dps = 50


def fractions(rows: Rows) -> list[list[Fraction]]:
    """Floats are rational numbers: nothing is rounded."""
    return [[Fraction(value) for value in row] for row in rows]


def number(value: Fraction) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator


def moments(rows: Rows) -> tuple[list[Fraction], list[list[Fraction]]]:
    """Mean, and covariance over n - 1."""
    table, n = fractions(rows), len(rows)
    mean = [sum(column, Fraction(0)) / n for column in zip(*table, strict=True)]
    away = [[value - centre for value, centre in zip(row, mean, strict=True)] for row in table]
    width = range(len(mean))
    return mean, [[sum((row[i] * row[j] for row in away), Fraction(0)) / (n - 1) for j in width] for i in width]


def root_trace(a: list[list[Fraction]], b: list[list[Fraction]]) -> mpmath.mpf:
    """Trace of the root of the product, by eigenvalues of the product that is not symmetric."""
    product = mpmath.matrix([[number(value) for value in row] for row in a]) * mpmath.matrix(
        [[number(value) for value in row] for row in b]
    )
    top = max(abs(value) for value in product) or mpmath.mpf(1)
    values = mpmath.eig(product / top, left=False, right=False) if len(a) > 1 else [product[0] / top]
    return mpmath.fsum(mpmath.sqrt(max(mpmath.re(value), 0)) for value in values) * mpmath.sqrt(top)


def frechet_of_moments(mean_x: Any, cov_x: Any, mean_y: Any, cov_y: Any) -> mpmath.mpf:
    shift = sum(((a - b) ** 2 for a, b in zip(mean_x, mean_y, strict=True)), Fraction(0))
    traces = sum((cov_x[i][i] + cov_y[i][i] for i in range(len(mean_x))), Fraction(0))
    return number(shift + traces) - 2 * root_trace(cov_x, cov_y)


def frechet(x: Rows, y: Rows) -> mpmath.mpf:
    """With D above N by the N x N matrix (XY')(XY')', which has the same eigenvalues."""
    (mean_x, cov_x), (mean_y, cov_y) = moments(x), moments(y)
    if len(mean_x) <= 6:
        return frechet_of_moments(mean_x, cov_x, mean_y, cov_y)
    away_x, away_y = (
        mpmath.matrix(
            [[number(value - centre) for value, centre in zip(row, mean, strict=True)] for row in fractions(rows)]
        )
        for rows, mean in ((x, mean_x), (y, mean_y))
    )
    product = away_x * away_y.T
    values = mpmath.eigsy(product * product.T, eigvals_only=True)
    cross = mpmath.fsum(mpmath.sqrt(max(value, 0)) for value in values)
    shift = sum(((a - b) ** 2 for a, b in zip(mean_x, mean_y, strict=True)), Fraction(0))
    traces = sum((cov_x[i][i] + cov_y[i][i] for i in range(len(mean_x))), Fraction(0))
    return number(shift + traces) - 2 * cross / mpmath.sqrt((len(x) - 1) * (len(y) - 1))


def inception(logits: Rows, parts: Sequence[int]) -> tuple[mpmath.mpf, mpmath.mpf]:
    """Mean and population deviation over parts of these sizes."""
    scores, start = [], 0
    for size in parts:
        rows = [[mpmath.exp(mpmath.mpf(value)) for value in row] for row in logits[start : start + size]]
        rows = [[value / mpmath.fsum(row) for value in row] for row in rows]
        mean = [mpmath.fsum(column) / size for column in zip(*rows, strict=True)]
        nats = [value * mpmath.log(value / centre) for row in rows for value, centre in zip(row, mean, strict=True)]
        scores.append(mpmath.exp(mpmath.fsum(nats) / size))
        start += size
    centre = mpmath.fsum(scores) / len(scores)
    return centre, mpmath.sqrt(mpmath.fsum((score - centre) ** 2 for score in scores) / len(scores))


def kernel_distance(x: Rows, y: Rows) -> Fraction:
    def kernel(a: list[Fraction], b: list[Fraction]) -> Fraction:
        return (sum((p * q for p, q in zip(a, b, strict=True)), Fraction(0)) / len(a) + 1) ** 3

    def within(rows: list[list[Fraction]]) -> Fraction:
        pairs = list(itertools.permutations(rows, 2))
        return sum((kernel(a, b) for a, b in pairs), Fraction(0)) / len(pairs)

    one, other = fractions(x), fractions(y)
    across = sum((kernel(a, b) for a in one for b in other), Fraction(0)) / (len(x) * len(y))
    return within(one) + within(other) - 2 * across


def squared(a: Sequence[Fraction], b: Sequence[Fraction]) -> Fraction:
    return sum(((p - q) ** 2 for p, q in zip(a, b, strict=True)), Fraction(0))


def neighbours(real: Rows, fake: Rows, k: int) -> list[Fraction]:
    """Precision, recall, density, coverage."""
    r, f = fractions(real), fractions(fake)

    def radii(rows: list[list[Fraction]]) -> list[Fraction]:
        return [sorted(squared(row, rows[j]) for j in range(len(rows)) if j != i)[k - 1] for i, row in enumerate(rows)]

    of_real, of_fake = radii(r), radii(f)
    in_real = [[squared(row, centre) <= radius for centre, radius in zip(r, of_real, strict=True)] for row in f]
    in_fake = [[squared(row, centre) <= radius for centre, radius in zip(f, of_fake, strict=True)] for row in r]
    return [
        Fraction(sum(map(any, in_real)), len(f)),
        Fraction(sum(map(any, in_fake)), len(r)),
        Fraction(sum(map(sum, in_real)), k * len(f)),
        Fraction(sum(map(any, zip(*in_real, strict=True))), len(r)),
    ]


def token_nats(logits: Rows, targets: Sequence[int]) -> list[mpmath.mpf]:
    """Price of each target."""
    found = []
    for row, target in zip(logits, targets, strict=True):
        # Relative to the target: exp of a gap of 1e5 is no matter for mpmath.
        found.append(mpmath.log(mpmath.fsum(mpmath.exp(mpmath.mpf(value) - mpmath.mpf(row[target])) for value in row)))
    return found
