"""What the tail of a sum's terms adds to a bound on it, where few of them carry it.

Student's t takes a mean's terms for nearly normal. Where one side has the longer tail, as when a model gets worse with
the length of a document and lengths differ widely, the largest terms are mostly missing from the data: the sum comes
out too low and its error bar too narrow, both at once. Three remedies, each 0 where the terms are symmetric:

- One unseen term is added: half of what is to be expected beyond the largest one, ``max / (1 - xi)``, with Hill's tail
  index (Hill 1975, doi:10.1214/aos/1176343247) and 1.5 of its standard errors, as far as the tail exceeds the other
  side's. Half and 1.5 are from trials: less fails for lengths of Pareto's law, more costs power.
- The quantile is Hall's, which corrects for skewness (Hall 1992, doi:10.1111/j.2517-6161.1992.tb01872.x):
  ``g(T) = T + k T^2 / 3 + k^2 T^3 / 27 + k / 6``, k the skewness over the root of n; only where it widens.
- The skewness is that of the terms, or, if that is more, of rates and sizes combined at random: a long document with a
  rare rate may be missing though both are there.
"""

import math
from typing import NamedTuple

import numpy as np

LARGEST_INDEX = 0.97
"""Of a tail; from 1 on there would be no mean."""


class Tail(NamedTuple):
    """How far one bound departs from Student's t, outwards."""

    shift: float = 0.0
    spread: float = 1.0
    """Factor of the standard error."""
    skew: float = 0.0
    """k above, at least 0."""

    def bound(self, se: float, quantile: float) -> float:
        """Distance of the bound from the value: g solved for T."""
        k = self.skew
        t = 3 / k * (1 - math.cbrt(1 - k * (quantile + k / 6))) if k > 1e-6 else quantile
        return self.shift + t * self.spread * se

    def statistic(self, above: float, se: float) -> float:
        """g of a value that lies so far above its hypothesis."""
        t, k = (above + self.shift) / (self.spread * se), self.skew
        return t + k * t**2 / 3 + k**2 * t**3 / 27 + k / 6


NO_TAIL = Tail()


def _skewness(values: np.ndarray, centre: float = 0.0) -> float:
    away = values - centre
    spread = float((away**2).mean())
    return float((away**3).mean()) / spread**1.5 if spread > 0 else 0.0


def tail(terms: np.ndarray, sizes: np.ndarray) -> Tail:
    """The tail on the positive side.

    Args:
        terms: float64 (N,), sum 0: what each unit adds to a ratio of sums less its share of it.
        sizes: float64 (N,), at least 0: each unit's share of the denominator; the term over it is a rate.
    """
    n, squares = len(terms), float((terms**2).sum())
    if squares == 0:
        return NO_TAIL
    k = max(5, round(math.sqrt(n)))
    largest = np.sort(terms)[::-1][: k + 1]
    index = LARGEST_INDEX
    if largest[k] > 0:
        index = min(index, (1 + 1.5 / math.sqrt(k)) * float(np.log(largest[:k] / largest[k]).mean()))
    unseen = 0.5 / (1 - index) * max(0.0, float(terms.max() + terms.min()))
    shift = unseen / (n + 1)
    augmented = np.append(terms, unseen) - shift
    there = sizes > 0
    rates = terms[there] / sizes[there]
    drawn = _skewness(rates, rates.mean()) * _skewness(sizes[there])
    skew = max(_skewness(augmented), drawn, 0.0) / math.sqrt(n + 1)
    return Tail(shift * n, math.sqrt(float((augmented**2).sum()) / squares), skew)
