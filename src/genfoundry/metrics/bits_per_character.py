"""Bits per character of held-out documents (Graves 2013, arXiv:1308.0850, section 3.1).

``total nats / ln 2 / total code points``, the unit of character models. A code point of most scripts beyond Latin is
two to four bytes, so languages compare no better by characters than by bytes; tokenizers compare by either.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import counts
from genfoundry.metrics._paired import Difference, paired_ratio_difference
from genfoundry.metrics._text import bits_per_unit

TITLE = "Bits per character"
CAVEAT = (
    "A character is a Unicode code point: normalising the text moves it, and languages differ in characters a word."
)
COST = "milliseconds, once extract has scored the documents"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, math.inf)


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, character_counts: Any, config: Config) -> Score:
    """Bits per character, at least 0; ``characters`` is the number of characters, ``count`` that of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        character_counts: (N,) code points of each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no characters, a value that is not finite, or an overflow.
    """
    size = counts("bits_per_character: character_counts", character_counts)
    found = bits_per_unit(counts("bits_per_character: nats", nats), size, "bits_per_character", "characters")
    return Score(found.value, len(size), found.se, {"characters": int(size.sum())}, {"test": found.influence})


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the ratio over the same documents."""
    return paired_ratio_difference(a["nats"], b["nats"], a["character_counts"]).scaled(1 / math.log(2))
