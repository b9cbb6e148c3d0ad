"""The scoring that distances between two sets of features share, and their paired differences: only features differ."""

from typing import Any

import numpy as np

from genfoundry.config.specs import Score
from genfoundry.metrics._checks import per_unit, two_sets
from genfoundry.metrics._frechet import frechet
from genfoundry.metrics._kernel import kernel_distance
from genfoundry.metrics._paired import Difference, paired_frechet_difference, paired_kernel_difference

SIDES = "features", "reference_features"


def frechet_score(metric: str, features: Any, reference_features: Any) -> Score:
    """Frechet distance with its standard error by influence functions; ``relative_to_spread`` has no unit.

    Args:
        metric: Name for errors.
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = two_sets(metric, features, reference_features, SIDES)
    result = frechet(x, y)
    extra: dict[str, float] = {"n_reference": len(y)}
    if result.spread > 0:
        extra["relative_to_spread"] = result.distance / result.spread
    influence = {"sample": per_unit(result.influence), "test": per_unit(result.reference_influence)}
    return Score(result.distance, len(x), result.se, extra, influence)


def frechet_difference(a: Any, b: Any, reference: Any) -> Difference:
    """Frechet distance of ``a`` (N, D) less that of ``b``, paired where both have as many samples."""
    return paired_frechet_difference(a, b, reference, paired=len(a) == len(b))


def kernel_score(x: np.ndarray, y: np.ndarray) -> Score:
    """Kernel distance of checked float64 (N, D) and (M, D), with the jackknife's standard error."""
    result = kernel_distance(x, y)
    influence = {"sample": result.influence, "test": result.reference_influence}
    return Score(result.value, len(x), result.se, {"n_reference": len(y)}, influence)


def kernel_difference(a: Any, b: Any, reference: Any) -> Difference:
    """Kernel distance of ``a`` (N, D) less that of ``b``, paired where both have as many samples."""
    return paired_kernel_difference(a, b, reference, paired=len(a) == len(b))
