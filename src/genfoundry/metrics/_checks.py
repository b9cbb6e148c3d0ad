"""Input checks of all metrics: too few rows, wrong shapes, NaN and infinity."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError


def _numpy(values: Any) -> Any:
    """A torch tensor as a numpy array, anything else as it is."""
    if not hasattr(values, "detach"):
        return values
    values = values.detach().cpu()
    # numpy has no bfloat16: the tensor itself has to widen.
    return values.numpy() if str(values.dtype) == "torch.float32" else values.double().numpy()


def as_float64(what: str, values: Any) -> np.ndarray:
    """Any array of real numbers as float64: lists, numpy of every width, torch tensors of every kind and device.

    Raises:
        DataError: Not numbers, complex numbers, or lists of unequal lengths.
    """
    try:
        array = np.asarray(_numpy(values))
        if not (array.dtype == object or np.isrealobj(array)):
            raise TypeError("complex numbers")
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{what} are no array of real numbers ({error}); give rows of equal length") from error


def rows(what: str, values: Any, least: int = 2, narrow: bool = False) -> np.ndarray:
    """Values as float64 (N, D).

    Args:
        what: Metric and evidence, such as ``fid_domain: features``; opens every message.
        values: One row for each sample or record.
        least: Fewest rows that the metric can work with.
        narrow: Leave float32 as it is, for a caller that widens it block by block.

    Raises:
        DataError: Not two axes, fewer rows than ``least``, no columns, or a value that is NaN or infinite.
    """
    found = _numpy(values) if narrow else values
    array = found if narrow and getattr(found, "dtype", None) == np.float32 else as_float64(what, found)
    if array.ndim != 2 or (array.shape[1] == 0 and len(array) >= least):
        raise DataError(f"{what} have shape {array.shape}; give (rows, columns)")
    if len(array) < least:
        raise DataError(f"{what} have {len(array)} rows; give at least {least}")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(
            f"{what} hold NaN or infinity in {len(bad)} of {len(array)} rows, first in row {bad[0]}; "
            "look at these samples, and at the network that made the numbers"
        )
    return array


def same_width(
    metric: str,
    features: np.ndarray,
    reference: np.ndarray,
    names: tuple[str, str] = ("features", "reference_features"),
) -> None:
    """Refuse two sets of features that can't come from one network."""
    if features.shape[1] != reference.shape[1]:
        raise DataError(
            f"{metric}: {names[0]} have {features.shape[1]} columns, {names[1]} {reference.shape[1]}; "
            "make both with the same network"
        )


def two_sets(
    metric: str, x: Any, y: Any, names: tuple[str, str] = ("x", "y"), least: int = 2, narrow: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of rows of equal width, as float64 (N, D) and (M, D); ``narrow`` as in ``rows``.

    Raises:
        DataError: As ``rows`` and ``same_width``.
    """
    one, other = (rows(f"{metric}: {what}", part, least, narrow) for what, part in zip(names, (x, y), strict=True))
    same_width(metric, one, other, names)
    return one, other


def unit_of(*arrays: np.ndarray) -> float:
    """Power of two by which to divide, exactly, so that squares and cubes stay inside float64.

    1 where the largest size is between 2^-100 and 2^100, so that ordinary numbers are left as they are.
    """
    top = max((max(float(array.max()), -float(array.min())) for array in arrays if array.size), default=0.0)
    exponent = math.frexp(top)[1]
    return 1.0 if top == 0 or abs(exponent) <= 100 else math.ldexp(1.0, min(exponent, 1023))


def representable(metric: str, value: Any) -> Any:
    """The value, unless it is too large for float64.

    Raises:
        DataError: It is infinite or NaN, as finite input can only make it by overflow.
    """
    if not np.isfinite(value).all():
        raise DataError(f"{metric}: the result leaves float64 (1.8e308); divide both sets by one constant")
    return value


def per_unit(influence: np.ndarray, strata: np.ndarray | None = None) -> np.ndarray:
    """What a score keeps of the influences of N independent units, float64 (N,): their squares sum to its variance.

    Args:
        influence: float64 (N,), mean 0: N times the first-order change of the score by each unit.
        strata: int64 (N,), from ``strata_of``: only the variance within them counts (Cochran 1977, section 5.3).
    """
    n = len(influence)
    if strata is None:
        return influence / math.sqrt(n * (n - 1))
    size = np.bincount(strata)
    within = influence - (np.bincount(strata, influence) / size)[strata]
    return within * np.sqrt(size / (size - 1))[strata] / n


def strata_of(metric: str, labels: Any, count: int) -> np.ndarray | None:
    """Number of each row's stratum, int64 (N,): rows of one label, as many of each as were asked for.

    Labels with one row, whose variance can't be known, are one stratum. None where nothing is divided.

    Args:
        metric: Name for errors.
        labels: (N,) of any kind, or None.
        count: N.

    Raises:
        DataError: Another number of labels than rows.
    """
    if labels is None:
        return None
    found, size = _numbered(metric, labels, count)
    few = size < 2
    if few.any():
        if few.sum() < 2:
            few[np.argsort(size, kind="stable")[:2]] = True
        found = np.unique(np.where(few[found], -1, found), return_inverse=True)[1]
    return found.reshape(count) if found.max() else None


def balanced(metric: str, labels: Any, count: int) -> Any:
    """The labels (N,) of real records, where there are about as many of each; else None.

    Whether so many of each were chosen, as in published test sets, or records were drawn as they came, shows in their
    numbers: chosen are those that differ by at most 1, most rows not alone, or from 5 on by less than chance would in
    95 of 100 draws (chi-squared). Below, labels that happen to have no row would make drawn numbers look chosen.
    """
    if labels is None:
        return None
    size = _numbered(metric, labels, count)[1]
    expected = count / len(size)
    even = size.max() - size.min() <= 1 and 2 * size[size > 1].sum() >= count
    if not even and expected >= 5:
        from scipy.special import chdtr

        even = chdtr(len(size) - 1, ((size - expected) ** 2).sum() / expected) < 0.05
    return labels if even else None


def label_numbers(metric: str, labels: Any, count: int) -> np.ndarray | None:
    """Number of each row's label, int64 (N,), or None without labels; arguments and errors as ``strata_of``."""
    return None if labels is None else _numbered(metric, labels, count)[0].reshape(count)


def _numbered(metric: str, labels: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Number of each row's label, and rows of each label."""
    values = np.asarray(labels)
    if values.shape != (count,):
        raise DataError(f"{metric}: labels have shape {values.shape} for {count} rows; give one label for each row")
    _, found, size = np.unique(values, return_inverse=True, return_counts=True)
    return found, size


def jackknifed(without: np.ndarray) -> np.ndarray:
    """The same from the statistic without each of N units, float64 (N,): squares sum to the jackknife's variance."""
    return math.sqrt((len(without) - 1) / len(without)) * (without.mean() - without)


def counts(what: str, values: Any) -> np.ndarray:
    """Counts or sums, one for each document, as float64 (N,).

    Raises:
        DataError: Fewer than two, not one axis, or one that is negative, NaN or infinite.
    """
    array = as_float64(what, values)
    if array.ndim != 1 or len(array) < 2:
        raise DataError(f"{what} have shape {array.shape}; give one number for each of at least 2 documents")
    bad = np.flatnonzero(~np.isfinite(array) | (array < 0))
    if len(bad):
        raise DataError(
            f"{what} are NaN, infinite or negative for {len(bad)} of {len(array)} documents, "
            f"first for row {bad[0]} ({array[bad[0]]}); look at the model that scored them"
        )
    return array


def same_length(metric: str, named: Sequence[tuple[str, np.ndarray]]) -> None:
    """Refuse columns that can't belong to the same documents."""
    lengths = {name: len(column) for name, column in named}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{metric}: unequal numbers of documents: {lengths}; score all columns over the same documents")
