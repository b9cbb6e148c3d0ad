"""Perplexity per token of held-out documents (Jelinek et al. 1977, doi:10.1121/1.2016299).

``exp(total nats / total tokens)``: the number of equally likely tokens that would be as hard to guess. Every token of a
document is scored once, given the document's start and the tokens before it inside the window; the boundary token
that opens a document is given, not scored. It depends on the tokenizer, the window and the stride, which are part
of its protocol: compare tokenizers by bits per byte.
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


def score(nats: Any, token_counts: Any, config: Config) -> Score:
    """At least 1; ``tokens`` is the number of scored tokens, ``count`` the number of documents.

    Args:
        nats: (N,) negative log-likelihood of each document.
        token_counts: (N,) tokens scored in each.
        config: Nothing to set.

    Raises:
        DataError: Fewer than two documents, no scored token, or a sum that is not finite.
    """
    total, tokens = counts("perplexity: nats", nats), counts("perplexity: token_counts", token_counts)
    same_length("perplexity", [("nats", total), ("token_counts", tokens)])
    if tokens.sum() == 0:
        raise DataError(f"perplexity: 0 tokens were scored in {len(tokens)} documents; are all documents empty?")
    per_token = ratio(total, tokens)
    if per_token.value > 700:
        raise DataError(f"perplexity: {per_token.value:.4g} nats a token overflow; the model has diverged")
    value = math.exp(per_token.value)
    return Score(value, len(tokens), value * per_token.se, {"tokens": int(tokens.sum())})
