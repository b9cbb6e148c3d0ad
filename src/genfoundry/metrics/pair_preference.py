"""How often a model finds the first of two sentences likelier, that differ in the group they speak of.

Nangia et al. 2020 (arXiv:2010.00133), equation 3 and section 4, with the likelihood of the whole sentence, which a
left-to-right model has, in place of a masked one's pseudo-likelihood. One half is no preference. The pairs are the
user's: the score says as much about them as about the model.
"""

import math
from typing import Any

import numpy as np

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import rows

TITLE = "Preference for the first of two groups"
CAVEAT = "One half is no preference; it rests on the pairs given, and a rarer word costs more in any sentence."
COST = "milliseconds, once extract has scored the sentences"
HIGHER_IS_BETTER = None
VERSION = 1
RANGE = (0.0, 1.0)


class Config(Section):
    """No settings: the pairs stand under evaluation.templates."""


def score(pair_nats: Any, config: Config) -> Score:
    """Share of pairs in [0, 1], ties as halves; ``nats`` is the mean NLL of the second less that of the first.

    The standard error is that of a mean over pairs, each pair taken as independent.

    Args:
        pair_nats: (P, 2) nats of both sentences of each pair.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two pairs, not two columns, or an NLL that is not finite.
    """
    nats = rows("pair_preference: pair_nats", pair_nats)
    gaps = nats[:, 1] - nats[:, 0]
    first = np.where(gaps == 0, 0.5, (gaps > 0).astype(np.float64))
    se = first.std(ddof=1) / math.sqrt(len(first))
    mean_se = gaps.std(ddof=1) / math.sqrt(len(gaps))
    influence = {"pair": (first - first.mean()) / math.sqrt(len(first) * (len(first) - 1))}
    extra = {"nats": float(gaps.mean()), "nats_se": float(mean_se)}
    return Score(float(first.mean()), len(first), float(se), extra, influence)
