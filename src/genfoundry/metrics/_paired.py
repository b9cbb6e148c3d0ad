"""Differences of two models' scores with their uncertainty: public functions on arrays.

A difference is the first model's score less the second's. Two scores on the same held-out records, from samples with
the same seeds and labels, share much of their noise: the standard error of the difference is then far below that of
two separate scores, and the intervals of the two scores must not be laid side by side instead.

Each score is a smooth function of its rows, so its first-order change by row i is an influence psi_i, and
``se^2 = var(psi_A,i - psi_B,i) / n`` where row i of both models belongs together (the delta method; for the Frechet
distance the influence is that of the squared Wasserstein distance, see ``_frechet.py``). Rows of the reference are
shared by both models, so their part is the variance of the difference of the influences too.

Near equality the first order cancels and the second decides, which the delta method and the jackknife count twice
(Efron and Stein 1981, doi:10.1214/aos/1176345462). Both distances are compared without bias, ``2 F(n) - mean F(n/2)``
over random halves: the bias depends on the model, so that of two equally distant ones the narrower would win. That
statistic has the doubled second order in truth, so the delta method's variance is the right one. Halves, and the
Frechet distance's variances, are within labels where the number of each is fixed, of samples by design, of real records
where they are about equally many: else the spread between labels, which is no chance then, is taken for bias, as it
would be in halves of every other row, which lack every other label.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genfoundry.config.specs import Score
from genfoundry.core.errors import DataError, TooFewError
from genfoundry.metrics import _kernel
from genfoundry.metrics._checks import counts, label_numbers, per_unit, rows, same_length, same_width
from genfoundry.metrics._frechet import LEAST_PAIRED, frechet_extrapolated, halves
from genfoundry.metrics._tails import NO_TAIL, Tail, tail

LEAST_DOCUMENTS = 50
"""Fewest documents for the bound of a ratio (benchmarks/gate_operating.py)."""

LEAST_EFFECTIVE = 25
"""Fewest documents that count, ``(sum u)^2 / sum u^2``: the same where lengths differ."""

LEAST_PER_FEATURE = 10
"""Fewest rows per feature on each side for a Frechet distance without bias."""


@dataclass(frozen=True)
class Difference:
    """First model's score less the second's, with its standard error."""

    value: float
    se: float
    n: int
    """Independent units behind it: samples or documents."""
    method: str
    """How the standard error was computed, in words."""
    df: float = math.inf
    """Degrees of freedom of Student's t; infinite for the normal law."""
    above: Tail = NO_TAIL
    """What widens the bound above."""
    below: Tail = NO_TAIL
    """What widens the bound below."""

    def _quantile(self, probability: float) -> float:
        from scipy.special import ndtri, stdtrit

        return float(stdtrit(self.df, probability) if math.isfinite(self.df) else ndtri(probability))

    def upper(self, alpha: float) -> float:
        """Bound that the true difference exceeds with probability ``alpha``."""
        return self.value + self.above.bound(self.se, self._quantile(1 - alpha))

    def lower(self, alpha: float) -> float:
        """Bound that the true difference undercuts with probability ``alpha``."""
        return self.value - self.below.bound(self.se, self._quantile(1 - alpha))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval."""
        return self.lower((1 - level) / 2), self.upper((1 - level) / 2)

    def p_value(self, margin: float = 0.0) -> float:
        """Of the hypothesis that the true difference is ``margin`` or more; small speaks for less."""
        from scipy.special import ndtr, stdtr

        if self.se == 0:
            return 1.0 if self.value >= margin else 0.0
        z = self.above.statistic(self.value - margin, self.se)
        return float(stdtr(self.df, z) if math.isfinite(self.df) else ndtr(z))

    def scaled(self, factor: float) -> "Difference":
        """In another unit, or with a negative factor the other way round."""
        size = abs(factor)
        above, below = (tail._replace(shift=tail.shift * size) for tail in (self.above, self.below))
        if factor < 0:
            above, below = below, above
        return Difference(self.value * factor + 0.0, self.se * size, self.n, self.method, self.df, above, below)


def least_rows(width: int) -> int:
    """Fewest rows of so many features on each side of a Frechet distance with an error bar."""
    return max(4, LEAST_PER_FEATURE * width)


def _variance(values: np.ndarray) -> float:
    """Of the mean of float64 (N,)."""
    return float(values.var(ddof=1) / len(values))


def _joint(a: np.ndarray, b: np.ndarray, paired: bool) -> np.ndarray:
    """What each unit adds to the difference of two scores with these influences."""
    return a - b if paired else np.concatenate([a, -b])


def _of_influences(value: float, parts: Sequence[np.ndarray], n: int, method: str) -> Difference:
    """A difference whose error is a sum over independent units, with Hall's correction for skewness."""
    each = np.concatenate(parts)
    variance = float((each**2).sum())
    skew = float((each**3).sum()) / variance**1.5 if variance > 0 else 0.0
    above, below = Tail(skew=max(skew, 0.0)), Tail(skew=max(-skew, 0.0))
    return Difference(value, math.sqrt(variance), n, method, above=above, below=below)


def _pairable(metric: str, a: np.ndarray, b: np.ndarray, paired: bool) -> None:
    if paired and len(a) != len(b):
        raise DataError(
            f"{metric}: {len(a)} samples against {len(b)} can't be paired; draw as many, or give paired=False"
        )


def paired_frechet_difference(
    a: Any,
    b: Any,
    reference_a: Any,
    reference_b: Any = None,
    *,
    paired: bool = True,
    labels_a: Any = None,
    labels_b: Any = None,
    reference_labels: Any = None,
) -> Difference:
    """Frechet distance of ``a`` less that of ``b``, both without bias, by the influence of every row.

    Args:
        a: (N, D) features of the first model's samples.
        b: (N, D) of the second's; row i with the same seed and label as row i of ``a``.
        reference_a: (M, D) of held-out real records.
        reference_b: The second model's, where it is not the same: then the two are taken as independent.
        paired: Whether rows belong together; without, the numbers of samples may differ.
        labels_a: (N,) labels that ``a`` was asked for, where the number of each was fixed.
        labels_b: The same for ``b``.
        reference_labels: (M,) of ``reference_a``, and of ``reference_b`` where it is not given: looked at where there
            are about as many of each.

    Raises:
        TooFewError: Fewer than 10 rows per feature, or than 4 rows, on a side, or too many labels with one row.
        DataError: Unequal D, numbers that can't be paired, or a value that is not finite.
    """
    name = "paired_frechet_difference"
    x, y = rows(f"{name}: a", a), rows(f"{name}: b", b)
    r = rows(f"{name}: reference_a", reference_a)
    q = r if reference_b is None else rows(f"{name}: reference_b", reference_b)
    for other in (y, r, q):
        same_width(name, x, other)
    _pairable(name, x, y, paired)
    least, width = min(map(len, (x, y, r, q))), x.shape[1]
    if least < least_rows(width):
        raise TooFewError(
            f"{name}: {least} rows of {width} features; below {least_rows(width)} no error bar holds: draw more "
            "samples, hold more records out, or use fewer features"
        )
    first = frechet_extrapolated(x, r, labels_a, reference_labels)
    second = frechet_extrapolated(y, q, labels_b, reference_labels if reference_b is None else None)
    if math.isnan(first.se + second.se):
        raise TooFewError(
            f"{name}: most of the {least} rows are the only one of their label; below {LEAST_PAIRED:.0%} in pairs of "
            "one label no error bar holds: draw more samples, or of fewer labels"
        )
    parts = [
        _joint(first.influence, second.influence, paired),
        _joint(first.reference_influence, second.reference_influence, reference_b is None),
    ]
    word = "paired samples" if paired else "independent samples"
    return _of_influences(first.unclipped - second.unclipped, parts, len(x), f"bias removed; influence, {word}")


def _around(values: np.ndarray, centre: np.ndarray) -> _kernel._Rows:
    away, width = values - centre, len(centre)
    return _kernel._Rows(away / math.sqrt(width), away @ centre / width)


def _kernel_parts(x: np.ndarray, reference: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """What a model adds to the kernel distance, and jackknife pseudo-values by sample (N,) and reference row (M,).

    A pseudo-value is n times the whole less n - 1 times the rest without the row: their variance over n is the
    jackknife's (Arvesen 1969, doi:10.1214/aoms/1177697287).
    """
    n, m = len(x), len(reference)
    # Around the reference's mean for both models: what the kernel's split leaves out is then the same for both.
    centre = reference.mean(axis=0)
    e = float(centre @ centre) / len(centre) + 1
    mine, real = _around(x, centre), _around(reference, centre)
    within = _kernel._sums(mine, mine, e)[0] - _kernel._own_kernel(mine, e)
    across_x, across_r = _kernel._sums(mine, real, e)
    total, across = within.sum(), across_x.sum()
    own, cross = total / (n * (n - 1)), 2 * across / (n * m)
    without_x = (total - 2 * within) / ((n - 1) * (n - 2)) - 2 * (across - across_x) / ((n - 1) * m)
    without_r = own - 2 * (across - across_r) / (n * (m - 1))
    value = float(own - cross)
    return value, n * value - (n - 1) * without_x, m * value - (m - 1) * without_r


def paired_kernel_difference(
    a: Any, b: Any, reference: Any, *, paired: bool = True, labels_a: Any = None, labels_b: Any = None
) -> Difference:
    """Kernel distance (KID, kernel (x.y/D + 1)^3, all pairs) of ``a`` less that of ``b`` from one reference.

    The reference's own part cancels. The standard error is the jackknife of the U-statistics, a row left out of both
    models at once where rows are paired (Bounliphone et al. 2016, arXiv:1511.04581, test the same difference). Where
    the number of each label is fixed, pairs of one label are too few by 1/n: a bias, removed as the Frechet distance's.

    Args:
        a: (N, D) features of the first model's samples, standardised as they are to be compared.
        b: (N, D) of the second's.
        reference: (M, D) of held-out real records.
        paired: Whether row i of both has the same seed and label.
        labels_a: (N,) labels that ``a`` was asked for, where the number of each was fixed.
        labels_b: The same for ``b``.

    Raises:
        DataError: Fewer than six rows, unequal D, numbers that can't be paired, or a value that is not finite.
    """
    name = "paired_kernel_difference"
    x, y, r = rows(f"{name}: a", a, 6), rows(f"{name}: b", b, 6), rows(f"{name}: reference", reference, 6)
    same_width(name, x, r)
    same_width(name, y, r)
    _pairable(name, x, y, paired)

    def found(samples: np.ndarray, labels: Any) -> tuple[float, np.ndarray, np.ndarray]:
        value, own, shared = _kernel_parts(samples, r)
        parts = zip(halves(len(samples), label_numbers(name, labels, len(samples))), halves(len(r)), strict=True)
        half = sum(_kernel_parts(samples[one], r[other])[0] for one, other in parts) / 2
        # Over all rows, not within labels: with few rows of each that comes out too small (7 % promoted at 160 rows).
        return 2 * value - half, per_unit(own - own.mean()), per_unit(shared - shared.mean())

    (value_x, x_by_x, x_by_r), (value_y, y_by_y, y_by_r) = found(x, labels_a), found(y, labels_b)
    parts = [_joint(x_by_x, y_by_y, paired), _joint(x_by_r, y_by_r, True)]
    word = "paired samples" if paired else "independent samples"
    return _of_influences(value_x - value_y, parts, len(x), f"jackknife, {word}")


def paired_ratio_difference(nats_a: Any, nats_b: Any, units: Any) -> Difference:
    """Sum of the differences over the sum of units: nats per token, byte or word of the same documents.

    Documents are the independent units. The standard error is that of the ratio estimator (Cochran 1977, Sampling
    Techniques, section 6.4), each residual over 1 less its document's share of the units: the delete-one jackknife,
    and the same where all documents are of one length. Student's t has one degree of freedom less than documents
    that count, ``(sum u)^2 / sum u^2``. Each bound is widened by the tail of the residuals on its side (``_tails.py``).

    Args:
        nats_a: (N,) NLL of each document by the first model.
        nats_b: (N,) by the second.
        units: (N,) tokens, bytes or words of each, the same for both.

    Raises:
        TooFewError: Fewer than 50 documents, or than 25 that count.
        DataError: Unequal lengths, no unit, or a value that is negative or not finite.
    """
    name = "paired_ratio_difference"
    first, second, size = (
        counts(f"{name}: {what}", values) for what, values in (("nats_a", nats_a), ("nats_b", nats_b), ("units", units))
    )
    same_length(name, [("nats_a", first), ("nats_b", second), ("units", size)])
    n = len(size)
    if n < LEAST_DOCUMENTS:
        raise TooFewError(f"{name}: {n} documents; below {LEAST_DOCUMENTS} no error bar holds, hold more out")
    if size.sum() == 0:
        raise DataError(f"{name}: {n} documents hold 0 units; are all documents empty?")
    total = float(size.sum())
    gaps, share = first - second, size / total
    value, effective = float(gaps.sum() / total), 1 / float((share**2).sum())
    if effective < LEAST_EFFECTIVE:
        raise TooFewError(
            f"{name}: {n} documents count as {effective:.3g} of one length; below {LEAST_EFFECTIVE} no error bar "
            "holds, hold more out or cut the long ones"
        )
    away = gaps - value * size
    se = math.sqrt((n - 1) / n * float(((away / (1 - share)) ** 2).sum())) / total
    above, below = (tail(sign * away / total, share) for sign in (1, -1))
    return Difference(value, se, n, "ratio over paired documents", effective - 1, above, below)


def paired_perplexity_difference(nats_a: Any, nats_b: Any, units: Any) -> Difference:
    """Difference of two perplexities, ``exp`` of the ratios above; its bounds have the sign of theirs.

    Arguments and errors as ``paired_ratio_difference``. The error bar is that of the ratio, times the slope of ``exp``
    between the two.
    """
    found, total = paired_ratio_difference(nats_a, nats_b, units), float(np.sum(units))
    first, second = (math.exp(float(np.sum(nats)) / total) for nats in (nats_a, nats_b))
    return found.scaled((first - second) / found.value if found.value else first)


def paired_mean_difference(a: Any, b: Any, *, paired: bool = True) -> Difference:
    """Difference of two means of one number for each sample or record, such as an indicator; Student's t.

    Args:
        a: (N,) numbers of the first model.
        b: (N,) of the second.
        paired: Whether entry i of both belongs together; else Welch's t, and the lengths may differ.

    Raises:
        DataError: Fewer than two entries, lengths that can't be paired, or a value that is not finite.
    """
    name = "paired_mean_difference"
    x, y = (rows(f"{name}: {what}", np.asarray(values).reshape(-1, 1))[:, 0] for what, values in (("a", a), ("b", b)))
    _pairable(name, x, y, paired)
    value = float(x.mean() - y.mean())
    variance = _variance(x - y) if paired else _variance(x) + _variance(y)
    if paired or variance == 0:
        df = float(len(x) - 1)
    else:
        df = variance**2 / (_variance(x) ** 2 / (len(x) - 1) + _variance(y) ** 2 / (len(y) - 1))
    word = "paired" if paired else "independent"
    return Difference(value, math.sqrt(variance), len(x), f"means of {word} numbers", df)


def paired_score_difference(a: Score, b: Score) -> Difference:
    """Of two scores by the influences they carry, unit by unit; as of two separate scores where units don't match.

    The second way is too wide for scores that share noise: it errs on the side of no difference. Biases that the scores
    know are removed.
    """
    n, value = min(a.count, b.count), (a.value - a.bias) - (b.value - b.bias)
    units = {unit: len(values) for unit, values in a.influence.items()}
    if units and units == {unit: len(values) for unit, values in b.influence.items()}:
        parts = [_joint(a.influence[unit], b.influence[unit], True) for unit in units]
        return _of_influences(value, parts, n, "influence, paired units")
    return Difference(value, math.hypot(a.se, b.se), n, "two separate scores (wide)")
