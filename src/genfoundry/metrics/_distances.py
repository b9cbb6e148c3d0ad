"""The scoring that distances between two sets of features share, and their paired differences: only features differ."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from genfoundry.config.specs import Score
from genfoundry.metrics._checks import per_unit, strata_of, two_sets
from genfoundry.metrics._frechet import frechet, frechet_extrapolated, root_of_squares
from genfoundry.metrics._kernel import kernel_distance
from genfoundry.metrics._paired import (
    Difference,
    least_rows,
    paired_frechet_difference,
    paired_kernel_difference,
)

SIDES = "features", "reference_features"


def frechet_score(
    metric: str, features: Any, reference_features: Any, labels: Any = None, reference_labels: Any = None
) -> Score:
    """Frechet distance with its bias and standard error; ``relative_to_spread`` has no unit.

    Below ten rows a feature, or where most labels have one row, the bias is not known, and there is no error bar.

    Args:
        metric: Name for errors.
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        labels: (N,) that were asked for; the error bar is then that within labels.
        reference_labels: (M,) of the real records; the same where there are about as many of each.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = two_sets(metric, features, reference_features, SIDES)
    extra: dict[str, float] = {"n_reference": len(y)}
    value, se, bias, influence = math.nan, math.nan, 0.0, dict[str, np.ndarray]()
    if min(len(x), len(y)) < least_rows(x.shape[1]):
        plain = frechet(x, y)
        value, spread = plain.distance, plain.spread
    else:
        found = frechet_extrapolated(x, y, labels, reference_labels)
        value, se, spread = found.raw, found.se, found.spread
        if not math.isnan(se):
            bias, influence = value - found.distance, {"sample": found.influence, "test": found.reference_influence}
    if spread > 0:
        extra["relative_to_spread"] = value / spread
    return Score(value, len(x), se, extra, influence, bias)


def frechet_difference(a: Mapping[str, Any], b: Mapping[str, Any], features: str) -> Difference:
    """Frechet distance of ``a`` less that of ``b``, without bias, paired where both have as many samples.

    Args:
        a: Evidence about the first model, by name; its reference is that of both.
        b: About the second.
        features: Name of the samples' features (N, D).
    """
    return paired_frechet_difference(
        a[features],
        b[features],
        a[f"reference_{features}"],
        paired=len(a[features]) == len(b[features]),
        labels_a=a.get("sample_labels"),
        labels_b=b.get("sample_labels"),
        reference_labels=a.get("reference_labels"),
    )


def kernel_score(x: np.ndarray, y: np.ndarray, labels: Any = None) -> Score:
    """Kernel distance of checked float64 (N, D) and (M, D), with the jackknife's standard error, within labels (N,)."""
    result, n = kernel_distance(x, y), len(x)
    own = per_unit(result.influence * math.sqrt(n * (n - 1)), strata_of("kernel_score", labels, n))
    se = float(np.hypot(root_of_squares(own), root_of_squares(result.reference_influence)))
    influence = {"sample": own, "test": result.reference_influence}
    return Score(result.value, n, se, {"n_reference": len(y)}, influence)


def kernel_difference(a: Any, b: Any, reference: Any, labels_a: Any = None, labels_b: Any = None) -> Difference:
    """Kernel distance of ``a`` (N, D) less that of ``b``, paired where both have as many samples."""
    return paired_kernel_difference(a, b, reference, paired=len(a) == len(b), labels_a=labels_a, labels_b=labels_b)
