"""Frechet distance of generated from held-out real images in the features of the data set's own network.

Equation 6 of Heusel et al. 2017 (arXiv:1706.08500); arithmetic and error bar in ``_frechet.py``. It is not the FID of
papers, whose features are Inception's: values of different networks are not comparable, so the network's digest is
part of the protocol. Biased upwards by about D/n: compare at equal n, and read it against the floor, real training
data held against the same reference at the same n.
"""

from typing import Any

from genfoundry.metrics._checks import rows, same_width
from genfoundry.metrics._frechet import frechet
from genfoundry.specs import Score, Section

HIGHER_IS_BETTER = False
VERSION = 1


class Config(Section):
    """No settings: all features, all rows."""


def score(features: Any, reference_features: Any, config: Config) -> Score:
    """Squared distance, at least 0, in squared units of the features; ``relative_to_spread`` has no unit.

    Args:
        features: (N, D) of the generated samples.
        reference_features: (M, D) of held-out real records, by the same network.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows on a side, unequal D, or a value that is not finite.
    """
    x, y = rows("fid_domain: features", features), rows("fid_domain: reference_features", reference_features)
    same_width("fid_domain", x, y)
    result = frechet(x, y)
    extra: dict[str, float] = {"n_reference": len(y)}
    if result.spread > 0:
        extra["relative_to_spread"] = result.distance / result.spread
    return Score(result.distance, len(x), result.se, extra)
