"""Reference of tokens: unigram and bigram models of the training split, the baselines of language models.

Both are counted over the same stream as the models learn, boundary tokens included, so that they score the same
events; their one smoothing number each is the best of a grid on the validation split.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genfoundry.config.specs import SPLITS, TokenSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import publish_folder, write_json
from genfoundry.evaluation.extraction.documents import Documents, read_documents
from genfoundry.metrics import bits_per_byte, perplexity

PSEUDO_COUNTS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0)
DISCOUNTS = (0.3, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)

CHUNK = 2**22
"""Pairs of tokens counted at once."""


class Bigrams(NamedTuple):
    """Different pairs of neighbours in a stream, and how often each occurs."""

    keys: np.ndarray
    """int64 (P,), sorted: first token * vocabulary + second token."""
    counts: np.ndarray
    """int64 (P,)."""


def count_bigrams(tokens: np.ndarray, vocab_size: int) -> Bigrams:
    """Bigrams of a stream, counted in pieces so that memory follows the number of different ones."""
    keys, counts = np.empty(0, np.int64), np.empty(0, np.int64)
    for start in range(0, len(tokens) - 1, CHUNK):
        piece = np.asarray(tokens[start : start + CHUNK + 1], dtype=np.int64)
        found, times = np.unique(piece[:-1] * vocab_size + piece[1:], return_counts=True)
        merged, place = np.unique(np.concatenate([keys, found]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([counts, times]), len(merged)).astype(np.int64)
        keys = merged
    return Bigrams(keys, counts)


class Unigram:
    """``p(w) = (c(w) + a) / (N + a V)``: additive smoothing (Lidstone 1920)."""

    def __init__(self, counts: np.ndarray, pseudo_count: float) -> None:
        smoothed = counts + pseudo_count
        self.probabilities = smoothed / smoothed.sum()

    def nats(self, before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each token; the token before it is ignored."""
        return -np.log(self.probabilities[tokens])


class Bigram:
    """Interpolated Kneser-Ney (Chen and Goodman 1999, doi:10.1006/csla.1999.0128, section 2.7).

    ``p(w|v) = max(c(v,w) - d, 0) / c(v) + d n(v) / c(v) * q(w)``, n(v) the number of different tokens after v, and q(w)
    the share of different pairs that end in w, with a pseudo-count of 1/2 so that no token is impossible.
    """

    def __init__(self, bigrams: Bigrams, vocab_size: int, discount: float) -> None:
        self.bigrams, self.vocab_size, self.discount = bigrams, vocab_size, discount
        first, second = np.divmod(bigrams.keys, vocab_size)
        self.after = np.bincount(first, bigrams.counts, vocab_size)
        self.different_after = np.bincount(first, minlength=vocab_size)
        endings = np.bincount(second, minlength=vocab_size) + 0.5
        self.continuation = endings / endings.sum()

    def nats(self, before: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Negative log-likelihood of each token given the one before it: float64, for int64 of equal length."""
        keys = before * self.vocab_size + tokens
        place = np.searchsorted(self.bigrams.keys, keys).clip(max=len(self.bigrams.keys) - 1)
        seen = np.where(self.bigrams.keys[place] == keys, self.bigrams.counts[place], 0)
        total = self.after[before]
        known = total > 0
        share = np.where(known, self.discount * self.different_after[before], 1) / np.where(known, total, 1)
        own = (seen - self.discount).clip(min=0) / np.where(known, total, 1)
        return -np.log(own + share * self.continuation[tokens])


def document_nats(model: Unigram | Bigram, documents: Documents) -> np.ndarray:
    """Nats of each document's tokens, the opening boundary given and not scored: float64 (N,)."""
    count = len(documents.offsets) - 1
    totals = np.zeros(count)
    owner = np.repeat(np.arange(count), np.diff(documents.offsets))
    starts = np.zeros(len(owner), bool)
    starts[documents.offsets[:-1]] = True
    for start in range(1, len(owner), CHUNK):
        stop = min(start + CHUNK, len(owner))
        scored = np.flatnonzero(~starts[start:stop]) + start
        before, tokens = (np.asarray(documents.tokens[rows], np.int64) for rows in (scored - 1, scored))
        totals += np.bincount(owner[scored], model.nats(before, tokens), count)
    return totals


def best_unigram(counts: np.ndarray, val: Documents) -> tuple[Unigram, float]:
    """The unigram model and pseudo-count with the lowest validation NLL; 1 where there are no validation documents."""
    models = {number: Unigram(counts, number) for number in PSEUDO_COUNTS}
    best = min(PSEUDO_COUNTS, key=lambda number: float(document_nats(models[number], val).sum()))
    best = best if val.token_counts.sum() else 1.0
    return models[best], best


def best_bigram(bigrams: Bigrams, vocab_size: int, val: Documents) -> tuple[Bigram, float]:
    """The bigram model and discount with the lowest validation NLL; 0.75 where there are no validation documents."""
    models = {number: Bigram(bigrams, vocab_size, number) for number in DISCOUNTS}
    best = min(DISCOUNTS, key=lambda number: float(document_nats(models[number], val).sum()))
    best = best if val.token_counts.sum() else 0.75
    return models[best], best


def _numbers(nats: np.ndarray, documents: Documents) -> dict[str, float]:
    return {
        "bits_per_byte": bits_per_byte.score(nats, documents.bytes, bits_per_byte.Config()).value,
        "perplexity": perplexity.score(nats, documents.token_counts, perplexity.Config()).value,
    }


def write_token_reference(arrays: Path, spec: TokenSpec, target: Path) -> dict[str, Any]:
    """Publish the counts and each test document's nats under both models; returns the numbers for the report."""
    documents = {split: read_documents(arrays, split) for split in SPLITS}
    for split in ("train", "test"):
        count, scored = len(documents[split].token_counts), documents[split].token_counts.sum()
        if count < 2 or scored == 0:
            raise DataError(
                f"{arrays}: {count} documents with {scored} tokens in split {split!r}; scores need at least 2: "
                "change the shares under split, or add data"
            )
    stream = documents["train"].tokens
    counts = np.bincount(stream, minlength=spec.vocab_size)
    bigrams = count_bigrams(stream, spec.vocab_size)
    unigram, pseudo_count = best_unigram(counts, documents["val"])
    bigram, discount = best_bigram(bigrams, spec.vocab_size, documents["val"])
    test = documents["test"]
    nats = {"unigram": document_nats(unigram, test), "bigram": document_nats(bigram, test)}
    with publish_folder(target) as folder:
        np.save(folder / "unigram_counts.npy", counts)
        np.save(folder / "bigram_keys.npy", bigrams.keys)
        np.save(folder / "bigram_counts.npy", bigrams.counts)
        for name, column in nats.items():
            np.save(folder / f"{name}_nats.npy", column)
        write_json(folder / "smoothing.json", {"unigram_pseudo_count": pseudo_count, "bigram_discount": discount})
    return {
        "unigram": {**_numbers(nats["unigram"], test), "pseudo_count": pseudo_count},
        "bigram": {**_numbers(nats["bigram"], test), "discount": discount, "different": len(bigrams.keys)},
        "documents": {split: len(held.token_counts) for split, held in documents.items()},
        "tokens": {split: int(held.token_counts.sum()) for split, held in documents.items()},
    }
