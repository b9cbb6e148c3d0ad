"""How far the classes of the samples are from those of the training records: total variation distance.

Half the sum of |p - q| over classes, p the shares that the data set's own network sees among the samples, q the
label shares of the training records (Levin and Peres 2017, Markov Chains and Mixing Times, doi:10.1090/mbk/107,
section 4.1). 0 is the same balance, 1 no class in common. The network's mistakes count as the model's: read it beside
the held-out records' value.
"""

import math
from typing import Any

import numpy as np

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import rows

TITLE = "Imbalance of generated against training classes"
CAVEAT = "Biased upwards by about sqrt(K/N); of a conditional model it mirrors what was asked for as well."
COST = "milliseconds"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, 1.0)


class Config(Section):
    """No settings."""


def score(logits: Any, train_labels: Any, config: Config) -> Score:
    """Distance in [0, 1]; ``missing`` is the number of training classes that no sample has.

    The standard error is the delta method's over both samples, the signs of the differences held fixed.

    Args:
        logits: (N, K) of the samples, before the softmax.
        train_labels: (L,) class numbers of the training records.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows, no label, a label outside K, or a logit that is not finite.
    """
    values, labels = rows("class_balance: logits", logits), np.asarray(train_labels)
    classes = values.shape[1]
    if len(labels) < 2 or labels.min() < 0 or labels.max() >= classes:
        raise DataError(f"class_balance: {len(labels)} train_labels for {classes} classes; give at least 2, from 0")
    seen = values.argmax(axis=1)
    p, q = np.bincount(seen, minlength=classes) / len(seen), np.bincount(labels, minlength=classes) / len(labels)
    sign = np.sign(p - q)
    influence = {}
    for unit, rows_of, shares in (("sample", seen, p), ("train", labels, q)):
        centred = (sign[rows_of] - sign @ shares) / 2
        influence[unit] = centred / math.sqrt(len(rows_of) * (len(rows_of) - 1))
    se = math.sqrt(sum(float((part**2).sum()) for part in influence.values()))
    # Training labels are the same for both models: what they add to the error is shared.
    missing = int(((p == 0) & (q > 0)).sum())
    return Score(float(np.abs(p - q).sum() / 2), len(seen), se, {"missing": missing}, influence)
