"""What each held-out document costs a language model, in nats, by windows that slide over it.

A document of L tokens is read as its boundary token and then these; the boundary is given and not scored, each of the
L tokens is scored exactly once, and no document sees another. Letters in tensor names: B windows, T tokens.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from genfoundry.errors import ConfigError, DataError
from genfoundry.evaluation.documents import Documents
from genfoundry.nn.contract import Likelihood
from genfoundry.settings import Evaluation

MOST_TOKENS = {"cpu": 2**11, "cuda": 2**15}
"""Tokens priced at once, at most: on a CPU 2,048 were 1.4 times as fast as 16,384, whose logits leave the cache."""

START_RULE = "boundary token given, not scored"


class Plan(NamedTuple):
    """How far a model looks back."""

    window: int
    """Tokens it reads at once, the boundary included."""
    stride: int
    """Tokens newly scored per window after the first."""


class Window(NamedTuple):
    """One reading: tokens ``begin`` to ``end`` of a document are given or scored; position 0 is its boundary."""

    document: int
    begin: int
    first: int
    """First position that is scored, after ``begin``."""
    end: int
    """Last position that is scored."""


def plan(config: Evaluation, context: int, where: str) -> Plan:
    """Window and stride of the settings, their defaults filled in from the model.

    Raises:
        ConfigError: A window beyond the model's context, or a stride that would skip tokens.
    """
    window = config.window or context
    if window > context:
        raise ConfigError(f"params.yaml: '{where}.window' is {window}: the model looks at {context} tokens; lower it")
    stride = config.stride or max(window // 2, 1)
    if stride > window:
        raise ConfigError(f"params.yaml: '{where}.stride' is {stride}: above the window of {window} it skips tokens")
    return Plan(window, stride)


def windows(token_counts: np.ndarray, chosen: Plan) -> Iterator[Window]:
    """Readings that score positions 1 to L of every document once each, the first window whole, then by stride."""
    for document, length in enumerate(token_counts.tolist()):
        begin = scored = 0
        while scored < length:
            end = min(begin + chosen.window, length)
            yield Window(document, begin, scored + 1, end)
            begin, scored = begin + chosen.stride, end


def _batches(readings: list[Window], batch: int, most_tokens: int) -> Iterator[list[Window]]:
    """Readings of like length together, so that little is padded."""
    group: list[Window] = []
    for reading in sorted(readings, key=lambda reading: reading.begin - reading.end):
        # The first of a group is its longest.
        longest = group[0].end - group[0].begin if group else 0
        if group and (len(group) == batch or (len(group) + 1) * longest > most_tokens):
            yield group
            group = []
        group.append(reading)
    if group:
        yield group


def price(
    model: Likelihood,
    documents: Documents,
    chosen: Plan,
    batch: int,
    device: str = "cpu",
    advance: Callable[[int], None] = lambda scored: None,
) -> np.ndarray:
    """Negative log-likelihood of each document, in nats: float64 (N,).

    Args:
        model: In eval mode, on ``device``; causal, so that padding behind a window does not move it.
        documents: Tokens to price.
        chosen: Window and stride.
        batch: Windows priced at once, at most.
        device: Where the model is.
        advance: Told the number of tokens newly scored after each batch.

    Raises:
        DataError: A document whose price is NaN or infinite.
    """
    totals = np.zeros(len(documents.offsets) - 1)
    most_tokens = MOST_TOKENS[device.split(":")[0]]
    for group in _batches(list(windows(documents.token_counts, chosen)), batch, most_tokens):
        longest = max(reading.end - reading.begin for reading in group)
        # Any token will do as padding: what stands behind is not seen from before.
        tokens_BT = np.zeros((len(group), longest + 1), np.int64)
        scored_BT = np.zeros((len(group), longest), bool)
        for row, (document, begin, first, end) in enumerate(group):
            start = documents.offsets[document]
            tokens_BT[row, : end - begin + 1] = documents.tokens[start + begin : start + end + 1]
            scored_BT[row, first - begin - 1 : end - begin] = True
        with torch.inference_mode():
            nats_BT = model.nats(torch.from_numpy(tokens_BT).to(device)).double().cpu().numpy()
        owners = np.array([reading.document for reading in group])
        totals += np.bincount(owners, np.where(scored_BT, nats_BT, 0).sum(axis=1), len(totals))
        advance(int(scored_BT.sum()))
    bad = np.flatnonzero(~np.isfinite(totals))
    if len(bad):
        raise DataError(
            f"extract: {len(bad)} of {len(totals)} test documents cost NaN or infinite nats, first in row {bad[0]}; "
            "the model has diverged: look at its loss curve, lower training.optimizer.lr"
        )
    return totals
