"""Contract of a feature network: names that its file defines, and the type that its ``load`` returns.

====================================  ==================================================================================
``TITLE``, ``CAVEAT``                 for people: they follow the title and the caveat of each score in its features
``LICENCE``                           of the weights
``PACKAGE``, ``EXTRA``                what must be installed (import name), and the extra that brings it; or empty
``TAKES``, ``takes(spec)``            which data it sees: in words, and of a data spec
``BATCH``, ``CLASSES``                rows at once; number of its logits, 0 without
``Config``                            its block ``reference.networks.<name>``
``locate(config, root, cache)``       ``Weights`` on this machine, their digest checked; paths are relative to root
``preprocessing(weights)``            how levels become its input, and which output is taken: part of each score's key
``load(weights, device)``             a ``Network`` in eval mode
====================================  ==================================================================================

Nothing else names a network: its features get the scores of every ``metrics/*_network.py`` (docs/metrics.md), its
logits those that ask for logits. Letters in tensor names: B batch, C channels, D features, K classes.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Embedded = tuple[np.ndarray, np.ndarray | None]
"""Features float32 (N, D) and logits float32 (N, K), or None for a network without classes."""


class Weights(NamedTuple):
    """Weights on this machine, their digest checked."""

    path: Path
    """File or folder."""
    digest: str
    """sha256 of the file of weights: the identity of the network."""
    config: str = ""
    """sha256 of a file that says how the same weights are read, such as config.json; empty where there is none."""


@contextmanager
def full_precision() -> Iterator[None]:
    """float32 as written, on a GPU too: its convolutions would round inputs to 10 bits (TF32), and pick by speed."""
    # cuBLAS reads it when it starts; without it, it refuses to be deterministic.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@dataclass(frozen=True)
class Network:
    """A network on its device, ready to embed stored levels."""

    dimension: int
    """Features, D."""
    prepare: Callable[[Tensor], Tensor]
    """Its input of stored levels (B, C, *shape), on the CPU."""
    forward: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Features float32 (B, D) and logits float32 (B, K), or None, of prepared levels."""
    device: str
    batch: int
    """Rows at once, the last batch filled up with zeros: a row's features don't depend on how many there are."""
    classes: int = 0
    """Logits, K; 0 for a network without classes."""
    settings: Callable[[], AbstractContextManager[Any]] = full_precision
    """What holds while it works."""

    def embed(self, levels: np.ndarray, advance: Callable[[int], None] = lambda rows: None) -> Embedded:
        """Features float32 (N, D) and logits float32 (N, K), or None, of stored levels (N, C, *shape).

        Args:
            levels: Of data that the network takes.
            advance: Called with the number of finished rows.
        """
        features = [np.zeros((0, self.dimension), np.float32)]
        logits = [np.zeros((0, self.classes), np.float32)]
        with torch.inference_mode(), self.settings():
            for start in range(0, len(levels), self.batch):
                count = min(self.batch, len(levels) - start)
                filled = np.zeros((self.batch, *levels.shape[1:]), levels.dtype)
                filled[:count] = levels[start : start + count]
                features_BD, logits_BK = self.forward(self.prepare(torch.from_numpy(filled)).to(self.device))
                features.append(features_BD[:count].cpu().numpy())
                if self.classes and logits_BK is not None:
                    logits.append(logits_BK[:count].cpu().numpy())
                advance(count)
        return np.concatenate(features), np.concatenate(logits) if self.classes else None


def identity(name: str, weights: Weights, dimension: int, preprocessing: str) -> dict[str, Any]:
    """Identity of a published network's features: two scores are comparable if it is equal."""
    found = {"name": name, "dimension": dimension, "preprocessing": preprocessing, "digest": weights.digest}
    return found | ({"config": weights.config} if weights.config else {})
