"""Batches for the trainer: whole batches from memory-mapped arrays, each a pure function of seed and step."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

from genfoundry.data.batches import GridData, TokenData
from genfoundry.nn.contract import Batch, GridBatch, TokenBatch
from genfoundry.sampling import to_range
from genfoundry.specs import DataSpec, GridSpec


def open_data(arrays: Path, split: str, spec: DataSpec, context: int) -> GridData | TokenData:
    """The examples of a split: grids, or windows of ``context`` tokens."""
    return GridData(arrays, split) if isinstance(spec, GridSpec) else TokenData(arrays, split, context)


def to_batch(values: dict[str, Any], spec: DataSpec) -> Batch:
    """numpy arrays of one batch as the model's batch."""
    tensors = {name: torch.from_numpy(array) for name, array in values.items() if array is not None}
    labels = tensors.get("labels")
    if isinstance(spec, GridSpec):
        return GridBatch(to_range(tensors["grid"], spec), labels, tensors["index"])
    tokens = tensors["tokens"]
    mask = tensors.get("mask", torch.ones(tokens.shape)).to(torch.float32)
    return TokenBatch(tokens, mask, labels, tensors["index"])


class Stream(IterableDataset[Batch]):
    """Batches ``start`` to ``total`` of a run; a rank gets its share of each global batch."""

    def __init__(
        self, data: GridData | TokenData, spec: DataSpec, size: int, seed: int, start: int, total: int
    ) -> None:
        self.data, self.spec, self.size, self.seed = data, spec, size, seed
        self.start, self.total, self.rank, self.world = start, total, 0, 1

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.start, self.total):
            yield to_batch(self.data.batch(step, self.size, self.seed, self.rank, self.world), self.spec)
