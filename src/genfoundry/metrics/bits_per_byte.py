"""Bits per byte of held-out documents (as used since Graves 2013, arXiv:1308.0850, for bytes; lm-eval's rule).

``total nats / ln 2 / total UTF-8 bytes``: the length of the text, compressed by the model, over its length as it is.
Bytes don't depend on the tokenizer, so models of different vocabularies compare on the same documents. Window
and stride still matter and are part of the protocol.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import counts
from genfoundry.metrics._paired import Difference, paired_ratio_difference
from genfoundry.metrics._text import bits_per_unit

TITLE = "Bits per byte"
CAVEAT = "Comparable across tokenizers, but only over the same documents, window and stride."
COST = "milliseconds, once extract has scored the documents"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, byte_counts: Any, config: Config) -> Score:
    """Bits per byte, at least 0; 8 is no knowledge; ``bytes`` is the number of bytes, ``count`` that of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        byte_counts: (N,) UTF-8 bytes of each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no bytes, a value that is not finite, or an overflow.
    """
    size = counts("bits_per_byte: byte_counts", byte_counts)
    found = bits_per_unit(counts("bits_per_byte: nats", nats), size, "bits_per_byte", "bytes")
    return Score(found.value, len(size), found.se, {"bytes": int(size.sum())}, {"test": found.influence})


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the ratio over the same documents."""
    return paired_ratio_difference(a["nats"], b["nats"], a["byte_counts"]).scaled(1 / math.log(2))
