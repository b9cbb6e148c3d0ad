"""Share of samples in which the data set's own network sees the class that was asked for.

The conditional accuracy of Shmelkov et al. 2018 (arXiv:1807.09499, GAN-test). It says whether conditioning works, not
whether samples are good or varied; its ceiling, reported with it, is the network's accuracy on held-out records.
"""

import math
from typing import Any

import numpy as np

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import rows

TITLE = "Samples of the class that was asked for"
CAVEAT = "It may exceed real data's: a model that draws only textbook cases is easier to classify than reality."
COST = "milliseconds"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, 1.0)


class Config(Section):
    """No settings."""


def score(logits: Any, sample_labels: Any, config: Config) -> Score:
    """Share in [0, 1], with the standard error of a mean over samples.

    Args:
        logits: (N, K) of the samples, before the softmax.
        sample_labels: (N,) class numbers that were asked for.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two rows, unequal lengths, a class outside K, or a logit that is not finite.
    """
    values, labels = rows("label_agreement: logits", logits), np.asarray(sample_labels)
    if len(values) != len(labels):
        raise DataError(f"label_agreement: {len(values)} logits, {len(labels)} sample_labels; give both for each")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise DataError(
            f"label_agreement: sample_labels from {labels.min()} to {labels.max()}, but logits of {values.shape[1]} "
            "classes; make both from the same data set"
        )
    right = (values.argmax(axis=1) == labels).astype(np.float64)
    se = right.std(ddof=1) / math.sqrt(len(right))
    influence = {"sample": (right - right.mean()) / math.sqrt(len(right) * (len(right) - 1))}
    return Score(float(right.mean()), len(right), float(se), {}, influence)
