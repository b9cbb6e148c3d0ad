"""Perplexity per token of held-out documents (Jelinek et al. 1977, doi:10.1121/1.2016299).

``exp(total nats / total tokens)``: the number of equally likely tokens that would be as hard to guess. Every token of a
document is scored once, given the document's start and the tokens before it inside the window; the boundary token
that opens a document is given, not scored. It depends on the tokenizer, the window and the stride, which are part
of its protocol: compare tokenizers by bits per byte.
"""

import math
from collections.abc import Mapping
from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._checks import counts
from genfoundry.metrics._paired import Difference, paired_perplexity_difference
from genfoundry.metrics._text import perplexity_per_unit

TITLE = "Perplexity per token"
CAVEAT = "It depends on the tokenizer, the window and the stride: across tokenizers compare bits per byte."
COST = "milliseconds, once extract has scored the documents"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (1.0, math.inf)


class Config(Section):
    """No settings: window and stride belong to the evaluation section."""


def score(nats: Any, token_counts: Any, config: Config) -> Score:
    """At least 1; ``tokens`` is the number of scored tokens, ``count`` the number of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        token_counts: (N,) tokens scored in each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no scored token, a value that is not finite, or an overflow.
    """
    tokens = counts("perplexity: token_counts", token_counts)
    found = perplexity_per_unit(counts("perplexity: nats", nats), tokens, "perplexity", "tokens")
    return Score(found.value, len(tokens), found.se, {"tokens": int(tokens.sum())}, {"test": found.influence})


def difference(a: Mapping[str, Any], b: Mapping[str, Any], config: Config) -> Difference:
    """By the ratio over the same documents."""
    return paired_perplexity_difference(a["nats"], b["nats"], a["token_counts"])
