"""Batches for the trainer: whole batches from memory-mapped arrays, each a pure function of seed and step."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset, get_worker_info

from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, GridSpec
from genfoundry.generation.generator import to_range
from genfoundry.nn.contract import Batch, GridBatch, TokenBatch
from genfoundry.training.examples import CONDITIONS, Data, DocumentData, GridData, TokenData


def open_data(arrays: Path, split: str, spec: DataSpec, context: int, heeds: Collection[str] = ()) -> Data:
    """The examples of a split: grids, or windows of ``context`` tokens.

    Args:
        arrays: Of the data set.
        split: Its name.
        spec: Of the data.
        context: Tokens of a window.
        heeds: Conditions that somebody heeds. Windows of the stream span documents, so that they have none: if there
            are any, each window lies in one document.
    """
    if isinstance(spec, GridSpec):
        return GridData(arrays, split, spec.asked)
    if heeds:
        return DocumentData(arrays, split, context, spec.boundary, spec.asked)
    return TokenData(arrays, split, context)


def to_batch(values: dict[str, Any], spec: DataSpec) -> Batch:
    """numpy arrays of one batch as the model's batch."""
    tensors = {name: torch.from_numpy(array) for name, array in values.items() if array is not None}
    conditions = {name.removeprefix(CONDITIONS): one for name, one in tensors.items() if name.startswith(CONDITIONS)}
    if isinstance(spec, GridSpec):
        return GridBatch(to_range(tensors["grid"], spec), tensors["index"], conditions)
    tokens = tensors["tokens"]
    mask = tensors.get("mask", torch.ones(tokens.shape)).to(torch.float32)
    return TokenBatch(tokens, mask, tensors["index"], conditions)


CHECK_EVERY = 10
"""Largest number of steps between checks of the loss: a run that diverges stops within as many."""


def burst_end(training: Training, step: int) -> int:
    """Steps done when the burst that contains step number ``step`` (from 0) ends; a function of settings and step.

    Bursts end where something is to be done between steps: a point of the curve, a validation, a picture, the end.
    """
    every = (training.log_every, training.val_every, picture_every(training), CHECK_EVERY)
    return min(training.steps, *((step // period + 1) * period for period in every))


def picture_every(training: Training) -> int:
    """Steps between pictures of samples."""
    return training.sample_every or max(training.steps // 4, 1)


class Stream(IterableDataset[list[Batch]]):
    """Bursts of batches from step ``start`` to the run's end; a rank gets its share of each global batch.

    Workers take bursts in turn, as the loader asks them in turn: the order does not depend on their number.
    """

    def __init__(self, data: Data, spec: DataSpec, training: Training, start: int) -> None:
        self.data, self.spec, self.training, self.start = data, spec, training, start
        self.rank, self.world = 0, 1

    def __iter__(self) -> Iterator[list[Batch]]:
        worker = get_worker_info()
        place, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        step, number = self.start, 0
        while step < self.training.steps:
            end = burst_end(self.training, step)
            if number % workers == place:
                yield [self.batch(each) for each in range(step, end)]
            step, number = end, number + 1

    def batch(self, step: int) -> Batch:
        """This rank's share of the batch of a step."""
        size, seed = self.training.batch, self.training.seed
        return to_batch(self.data.batch(step, size, seed, self.rank, self.world), self.spec)
