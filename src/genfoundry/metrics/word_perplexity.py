"""Perplexity per word of held-out documents (lm-eval's ``word_perplexity``; Merity et al. 2016, arXiv:1609.07843).

``exp(total nats / total words)``: all of a document's nats, those of its spaces and line ends too, spread over the
words of the original text, which are what stands between white space. It doesn't depend on the tokenizer.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import counts
from genfoundry.metrics._paired import Difference, paired_perplexity_difference
from genfoundry.metrics._text import perplexity_per_unit

TITLE = "Perplexity per word"
CAVEAT = "Words are what stands between white space: meaningless for scripts without it, and huge for code and tables."
COST = "milliseconds, once extract has scored the documents"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (1.0, math.inf)


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, word_counts: Any, config: Config) -> Score:
    """At least 1; ``words`` is the number of words, ``count`` that of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        word_counts: (N,) words of each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no words, a value that is not finite, or an overflow.
    """
    size = counts("word_perplexity: word_counts", word_counts)
    found = perplexity_per_unit(counts("word_perplexity: nats", nats), size, "word_perplexity", "words")
    return Score(found.value, len(size), found.se, {"words": int(size.sum())}, {"test": found.influence})


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the ratio over the same documents."""
    return paired_perplexity_difference(a["nats"], b["nats"], a["word_counts"])
