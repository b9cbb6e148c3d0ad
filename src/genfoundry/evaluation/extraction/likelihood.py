"""NLL of each held-out document under a language model, in nats, by sliding windows.

A document of L tokens is read as its boundary token and then these; the boundary is given and not scored, each of the
L tokens is scored exactly once, and no document sees another. The last window of a document is filled to the left. A
model that heeds conditions is given the document's own. Letters in tensor names: B windows, T tokens.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.evaluation.extraction.documents import Documents
from genfoundry.metrics._windows import sliding_windows
from genfoundry.nn.contract import Likelihood, nats_of

MOST_TOKENS = {"cpu": 2**11, "cuda": 2**15}
"""Tokens scored at once, at most: on a CPU 2,048 were 1.4 times as fast as 16,384, whose logits leave the cache."""

RULES = {"start": "boundary token given, not scored", "last": "last window filled to the left"}
"""How a document is read, for the protocol of each score that rests on it."""


class Plan(NamedTuple):
    """Window and stride of the scoring, in tokens."""

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
        for span in sliding_windows(length, *chosen):
            yield Window(document, *span)


def batches(token_counts: np.ndarray, chosen: Plan, batch: int, device: str = "cpu") -> list[list[Window]]:
    """All readings in groups of like length, so that little is padded; the same groups for any number of devices.

    Args:
        token_counts: Scored tokens of each document, int64 (N,).
        chosen: Window and stride.
        batch: Windows in a group, at most.
        device: Kind of device they will run on, which bounds the tokens of a group.
    """
    most_tokens = MOST_TOKENS[device.partition(":")[0]]
    groups: list[list[Window]] = []
    longest = 0
    for reading in sorted(windows(token_counts, chosen), key=lambda reading: reading.begin - reading.end):
        if not groups or len(groups[-1]) == batch or (len(groups[-1]) + 1) * longest > most_tokens:
            # The first of a group is its longest.
            longest = reading.end - reading.begin
            groups.append([])
        groups[-1].append(reading)
    return groups


def scored(group: list[Window]) -> int:
    """Tokens that a group of readings scores."""
    return sum(reading.end - reading.first + 1 for reading in group)


def read(model: Likelihood, documents: Documents, device: str, group: list[Window]) -> np.ndarray:
    """Nats of the scored tokens of each reading: float64 (B,)."""
    longest = max(reading.end - reading.begin for reading in group)
    # Any token will do as padding: the model is causal.
    tokens_BT = np.zeros((len(group), longest + 1), np.int64)
    scored_BT = np.zeros((len(group), longest), bool)
    for row, (document, begin, first, end) in enumerate(group):
        start = documents.offsets[document]
        tokens_BT[row, : end - begin + 1] = documents.tokens[start + begin : start + end + 1]
        scored_BT[row, first - begin - 1 : end - begin] = True
    rows = [reading.document for reading in group]
    given = {name: torch.from_numpy(values[rows]).to(device) for name, values in documents.conditions.items()}
    with torch.inference_mode():
        nats_BT = nats_of(model, torch.from_numpy(tokens_BT).to(device), given).double().cpu().numpy()
    return np.where(scored_BT, nats_BT, 0).sum(axis=1)


def add_up(groups: list[list[Window]], nats: list[np.ndarray], count: int) -> np.ndarray:
    """Nats of each of ``count`` documents from those of its readings: float64 (count,).

    Raises:
        DataError: The NLL of a document is NaN or infinite.
    """
    totals = np.zeros(count)
    for group, found in zip(groups, nats, strict=True):
        totals += np.bincount([reading.document for reading in group], found, count)
    bad = np.flatnonzero(~np.isfinite(totals))
    if len(bad):
        raise DataError(
            f"extract: {len(bad)} of {count} test documents cost NaN or infinite nats, first in row {bad[0]}; "
            "the model has diverged: look at its loss curve, lower training.optimizer.lr"
        )
    return totals


def document_nats(
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
        documents: Tokens to score.
        chosen: Window and stride.
        batch: Windows scored at once, at most.
        device: Where the model is.
        advance: Called with the number of newly scored tokens after each batch.

    Raises:
        DataError: The NLL of a document is NaN or infinite.
    """
    groups = batches(documents.token_counts, chosen, batch, device)
    nats = []
    for group in groups:
        nats.append(read(model, documents, device, group))
        advance(scored(group))
    return add_up(groups, nats, len(documents.offsets) - 1)
