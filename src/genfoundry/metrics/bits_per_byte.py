"""Bits per byte of held-out documents (as used since Graves 2013, arXiv:1308.0850, for bytes; lm-eval's rule).

``total nats / ln 2 / total UTF-8 bytes``: the length of the text, compressed by the model, over its length as it is.
Bytes don't depend on the tokenizer, so models of different vocabularies compare on the same documents. Window
and stride still matter and are part of the protocol.
"""

import math
from typing import Any

from genfoundry.errors import DataError
from genfoundry.metrics._checks import counts, same_length
from genfoundry.metrics._ratio import ratio
from genfoundry.specs import Score, Section

HIGHER_IS_BETTER = False
VERSION = 1


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, byte_counts: Any, config: Config) -> Score:
    """Bits per byte, at least 0; 8 is no knowledge; ``bytes`` is the number of bytes, ``count`` that of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        byte_counts: (N,) UTF-8 bytes of each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no byte, or a sum that is not finite.
    """
    total, size = counts("bits_per_byte: nats", nats), counts("bits_per_byte: byte_counts", byte_counts)
    same_length("bits_per_byte", [("nats", total), ("byte_counts", size)])
    if size.sum() == 0:
        raise DataError(f"bits_per_byte: {len(size)} documents hold 0 bytes; are all documents empty?")
    per_byte = ratio(total / math.log(2), size)
    return Score(per_byte.value, len(size), per_byte.se, {"bytes": int(size.sum())})
