"""The scoring that metrics of published networks share: only the features differ."""

from typing import Any

from genfoundry.config.specs import Score
from genfoundry.metrics._checks import two_sets
from genfoundry.metrics._frechet import frechet


def frechet_score(metric: str, network: str, features: Any, reference_features: Any) -> Score:
    """Frechet distance with its standard error by influence functions; ``relative_to_spread`` has no unit.

    Args:
        metric: Name for errors.
        network: Prefix of the evidence, for errors.
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    names = f"{network}_features", f"reference_{network}_features"
    x, y = two_sets(metric, features, reference_features, names)
    result = frechet(x, y)
    extra: dict[str, float] = {"n_reference": len(y)}
    if result.spread > 0:
        extra["relative_to_spread"] = result.distance / result.spread
    return Score(result.distance, len(x), result.se, extra)
