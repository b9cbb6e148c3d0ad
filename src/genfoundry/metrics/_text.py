"""Perplexity and the units of text: from nats and counts per document, from logits, by windows that slide.

All arithmetic is in float64; lists, numpy arrays of any dtype and torch tensors (bfloat16 included) are taken. Counts
stay exact up to 2**53 units, where accumulators in float32 stand still after 2**24.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.metrics._checks import as_float64, same_length
from genfoundry.metrics._ratio import Ratio, ratio
from genfoundry.metrics._windows import sliding_windows

MOST_NATS = 700.0
"""exp of more overflows float64 (at 709.8), its error bar a little earlier."""

BLOCK = 2**22
"""Logits held in float64 at once: 32 MB."""


def as_numbers(what: str, values: Any) -> np.ndarray:
    """Values as float64 or int64, of any shape, a torch tensor on any device included.

    Raises:
        DataError: Not numbers, or rows of unequal length.
    """
    if hasattr(values, "detach"):
        # numpy has no bfloat16: the tensor itself has to widen.
        values = values.detach().cpu()
        values = values.double().numpy() if values.is_floating_point() else values.numpy()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"{what} are no array ({error}); give rows of equal length") from None
    return array.astype(np.int64) if array.dtype.kind in "iub" else as_float64(what, array)


def as_tokens(what: str, values: Any) -> np.ndarray:
    """Token numbers as int64, of any shape.

    Raises:
        DataError: As ``as_numbers``, or floats: their fractions would be cut off.
    """
    array = as_numbers(what, values)
    # An empty list has no type of its own: numpy makes it float64.
    if array.size and array.dtype.kind == "f":
        raise DataError(f"{what} are floats, first {array.flat[0]}; give token numbers of an integer type")
    return array.astype(np.int64)


def _columns(metric: str, nats: Any, units: Any, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N,), checked.

    Raises:
        DataError: No document, unequal lengths, a value that is negative, NaN or infinite, or no unit at all.
    """
    found = []
    for name, values in (("nats", nats), (unit, units)):
        column = np.atleast_1d(as_numbers(f"{metric}: {name}", values)).astype(np.float64)
        if column.ndim != 1 or not len(column):
            raise DataError(f"{metric}: {name} have shape {column.shape}; give one number for each document")
        bad = np.flatnonzero(~np.isfinite(column) | (column < 0))
        if len(bad):
            raise DataError(
                f"{metric}: {name} are NaN, infinite or negative for {len(bad)} of {len(column)} documents, first for "
                f"row {bad[0]} ({column[bad[0]]}); look at the model that scored them"
            )
        found.append(column)
    same_length(metric, [("nats", found[0]), (f"{unit[:-1]}_counts", found[1])])
    if found[1].sum() == 0:
        raise DataError(f"{metric}: 0 {unit} were scored in {len(found[1])} documents; do all hold 0 {unit}?")
    return found[0], found[1]


def bits_per_unit(nats: Any, units: Any, metric: str = "bits_per_unit", unit: str = "units") -> Ratio:
    """Bits for each unit of text: sum of nats / ln 2 / sum of units, with the standard error over documents.

    Args:
        nats: (N,) negative log-likelihood of each document, or one number.
        units: (N,) bytes, characters, words or tokens of each.
        metric: Name that opens an error message.
        unit: Name of the units in it, in the plural.

    Raises:
        DataError: No document, no unit, unequal lengths, or a value that is negative or not finite.
    """
    total, size = _columns(metric, nats, units, unit)
    return _finite(metric, ratio(total / math.log(2), size), unit)


def perplexity_per_unit(nats: Any, units: Any, metric: str = "perplexity", unit: str = "units") -> Ratio:
    """exp(sum of nats / sum of units), at least 1, with the standard error over documents by the delta method.

    Args:
        nats: (N,) negative log-likelihood of each document, or one number.
        units: (N,) scored tokens, words, bytes or characters of each.
        metric: Name that opens an error message.
        unit: Name of the units in it, in the plural.

    Raises:
        DataError: No document, no unit, unequal lengths, a value that is negative or not finite, or a perplexity
            beyond the largest float64.
    """
    total, size = _columns(metric, nats, units, unit)
    rate = _finite(metric, ratio(total, size), unit)
    if rate.value > MOST_NATS:
        raise DataError(
            f"{metric}: {rate.value:.4g} nats a {unit[:-1]} overflow; the model has diverged, or take bits per byte"
        )
    value = math.exp(rate.value)
    return _finite(metric, Ratio(value, value * rate.se, value * rate.influence), unit)


def _finite(metric: str, found: Ratio, unit: str) -> Ratio:
    if not math.isfinite(found.value) or math.isinf(found.se):
        raise DataError(f"{metric}: the sum over {unit} overflows; look at the model that scored the documents")
    return found


def text_scores(nats: Any, tokens: Any, words: Any, utf8_bytes: Any, characters: Any) -> dict[str, Ratio]:
    """All scores of text from nats and unit counts of the same documents, by the names of the metrics.

    Args:
        nats: (N,) negative log-likelihood of each document.
        tokens: (N,) scored tokens.
        words: (N,) words, see ``count_units``.
        utf8_bytes: (N,) bytes.
        characters: (N,) code points.

    Raises:
        DataError: As ``perplexity_per_unit``.
    """
    return {
        "perplexity": perplexity_per_unit(nats, tokens, "perplexity", "tokens"),
        "word_perplexity": perplexity_per_unit(nats, words, "word_perplexity", "words"),
        "byte_perplexity": perplexity_per_unit(nats, utf8_bytes, "byte_perplexity", "bytes"),
        "bits_per_byte": bits_per_unit(nats, utf8_bytes, "bits_per_byte", "bytes"),
        "bits_per_character": bits_per_unit(nats, characters, "bits_per_character", "characters"),
    }


class Units(NamedTuple):
    """Sizes of a text."""

    words: int
    bytes: int
    characters: int


def count_units(text: str) -> Units:
    r"""Words, UTF-8 bytes and code points of a text.

    Words are the pieces between runs of white space of the original page, ``re.split(r"\s+", text)``, the rule of
    lm-eval's word perplexity: white space at an end leaves an empty piece, which counts, and so does the empty text.

    Raises:
        DataError: A lone surrogate, which UTF-8 can't hold.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise DataError(
            f"count_units: character {error.start} is half of a surrogate pair; repair the text's decoding"
        ) from None
    return Units(len(re.split(r"\s+", text)), size, len(text))


class Priced(NamedTuple):
    """Number of tokens with their NLL."""

    nats: float
    """Sum over the scored tokens."""
    units: int
    """Number of scored tokens."""
    each: np.ndarray
    """float64, one for each token; 0 for one that is not scored."""


def score_sliding(
    nats_fn: Callable[[np.ndarray], Any], tokens: Sequence[int], window: int, stride: int, start: int
) -> Priced:
    """NLL of a sequence longer than a model's window, each token scored once.

    Args:
        nats_fn: Takes int64 (T+1,) tokens and gives the (T,) NLLs in nats of all but the first.
        tokens: (L,) tokens, all of them scored, of an integer type.
        window: Most tokens given to ``nats_fn`` before the last, see ``sliding_windows``.
        stride: Tokens newly scored by each reading after the first.
        start: The start symbol before the first token; given, not scored.

    Raises:
        ConfigError: A window or stride that can't be.
        DataError: No tokens, tokens that are floats, a number of NLLs other than T, or an NLL that is NaN or infinite.
    """
    line = np.concatenate([[start], as_tokens("score_sliding: tokens", tokens)])
    each = np.zeros(len(line) - 1)
    for begin, first, end in sliding_windows(len(each), window, stride):
        prices = as_numbers("score_sliding: prices", nats_fn(line[begin : end + 1]))
        if prices.shape != (end - begin,):
            raise DataError(f"score_sliding: {end - begin + 1} tokens were priced with shape {prices.shape}; give one")
        each[first - 1 : end] = prices[first - begin - 1 :]
    return _priced("score_sliding", each, np.ones(len(each), bool))


def nats_from_logits(logits: Any, targets: Any, ignore_index: int | None = None) -> Priced:
    """Negative log-likelihood of the target tokens, by log-sum-exp in float64: finite at any gap of finite logits.

    Args:
        logits: (..., V) before the softmax, in any precision; minus infinity marks what can't be.
        targets: (...) token numbers below V, of an integer type.
        ignore_index: Target that is not scored, such as padding.

    Raises:
        DataError: Targets that are floats, shapes that don't fit, no token or none that is scored, a target outside V,
            a logit that is NaN or plus infinity, or a target that the model holds to be impossible.
    """
    where = "nats_from_logits"
    wanted = as_tokens(f"{where}: targets", targets)
    shape = tuple(logits.shape) if hasattr(logits, "shape") else np.shape(logits)
    if not shape or shape[:-1] != wanted.shape or shape[-1] == 0:
        raise DataError(f"{where}: logits have shape {shape}, targets {wanted.shape}; give (..., V) and (...)")
    flat = wanted.reshape(-1)
    scored = np.ones(len(flat), bool) if ignore_index is None else flat != ignore_index
    if not scored.any():
        reason = f"all {len(flat)} targets are ignore_index {ignore_index}" if len(flat) else "there are no targets"
        raise DataError(f"{where}: 0 tokens to score: {reason}; give at least one that counts")
    beyond = np.flatnonzero(scored & ((flat < 0) | (flat >= shape[-1])))
    if len(beyond):
        raise DataError(
            f"{where}: target {flat[beyond[0]]} at {beyond[0]} is outside V = {shape[-1]}; set ignore_index if it pads"
        )
    rows = logits.reshape(-1, shape[-1]) if hasattr(logits, "reshape") else np.reshape(logits, (-1, shape[-1]))
    each, step = np.zeros(len(flat)), max(BLOCK // shape[-1], 1)
    for start in range(0, len(flat), step):
        kept = start + np.flatnonzero(scored[start : start + step])
        if len(kept):
            block = as_numbers(f"{where}: logits", rows[start : start + step]).astype(np.float64)[kept - start]
            each[kept] = _log_sum_exp_gap(block, flat[kept], kept)
    return _priced(where, each.reshape(wanted.shape), scored)


def _log_sum_exp_gap(logits: np.ndarray, targets: np.ndarray, places: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    bad = np.flatnonzero(
        ~np.isfinite(top)
    )  # NaN and plus infinity win every maximum; minus infinity only where all are
    if len(bad):
        raise DataError(f"nats_from_logits: logits of token {places[bad[0]]} hold NaN or infinity; the model diverged")
    shifted = logits - top[:, None]
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]


def _priced(where: str, each: np.ndarray, scored: np.ndarray) -> Priced:
    bad = np.flatnonzero(~np.isfinite(each.reshape(-1)))
    if len(bad):
        raise DataError(f"{where}: token {bad[0]} costs {each.reshape(-1)[bad[0]]} nats; the model holds it impossible")
    if not scored.any():
        raise DataError(f"{where}: 0 tokens to score; give at least one")
    return Priced(float(each.sum()), int(scored.sum()), each)
