"""Perplexity per UTF-8 byte of held-out documents (lm-eval's ``byte_perplexity``; Gao et al. 2021, arXiv:2101.00027).

``exp(total nats / total bytes)`` = 2 to the power of bits per byte: the same fact on another scale, given for those who
compare with published values.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import counts
from genfoundry.metrics._paired import Difference, paired_perplexity_difference
from genfoundry.metrics._text import perplexity_per_unit

TITLE = "Perplexity per byte"
CAVEAT = "The same fact as bits per byte on another scale: 2 to its power."
COST = "milliseconds, once extract has scored the documents"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (1.0, math.inf)


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, byte_counts: Any, config: Config) -> Score:
    """At least 1; 256 is no knowledge; ``bytes`` is the number of bytes, ``count`` that of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        byte_counts: (N,) UTF-8 bytes of each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no bytes, a value that is not finite, or an overflow.
    """
    size = counts("byte_perplexity: byte_counts", byte_counts)
    found = perplexity_per_unit(counts("byte_perplexity: nats", nats), size, "byte_perplexity", "bytes")
    return Score(found.value, len(size), found.se, {"bytes": int(size.sum())}, {"test": found.influence})


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the ratio over the same documents."""
    return paired_perplexity_difference(a["nats"], b["nats"], a["byte_counts"])
