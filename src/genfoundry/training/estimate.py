"""Estimate before a run starts: parameters, memory, disk and, where a trial is cheap, time."""

import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from genfoundry.core.errors import DiskError
from genfoundry.nn.contract import Batch, Step
from genfoundry.training.checkpoints import KEEP
from genfoundry.training.module import Trainee
from genfoundry.training.optim import state_bytes
from genfoundry.training.results import peak_memory
from genfoundry.training.steps import Sums

TRIAL_STEPS = 3
"""Steps of the trial: the first one warms up, the fastest of the others is the estimate."""

TRIAL_SHARE = 0.02
"""Largest share of the run that the trial may cost: runs below 150 steps are not timed before."""


def estimate(module: Trainee, batch: Batch, folder: Path) -> str:
    """The estimate in one line; ``batch`` is this rank's share of the first step's.

    Raises:
        DiskError: There is no room for the model and its checkpoints.
    """
    parameters = sum(parameter.numel() for parameter in module.model.parameters())
    weights = _bytes(module.model.state_dict().values())
    gradients = _bytes(one for one in module.model.parameters() if one.requires_grad)
    moments = sum(state_bytes(optimizer) for optimizer in module.all_optimizers)
    average = weights if module.averager else 0
    # A checkpoint also holds the best weights so far; a new one is there before the oldest goes.
    disk = weights + (KEEP + 1) * (2 * weights + moments + average)
    _room(folder, disk)
    said = [
        f"{parameters:,} parameters",
        f"memory {_size(weights)} weights + {_size(gradients)} gradients + {_size(moments)} optimizer"
        + f" + {_size(average)} average" * bool(average),
        f"disk {_size(disk)}",
    ]
    settings = module.training_settings
    if module.done == 0 and settings.steps * TRIAL_SHARE >= TRIAL_STEPS:
        seconds, activations, how = _trial(module, batch)
        said.insert(2, f"activations {_size(activations)} ({how})")
        said.append(f"about {_duration(seconds * settings.steps)} ({1000 * seconds:.1f} ms a step) and validations")
    return "; ".join(said)


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.3g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if seconds < 100 else f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"


def _room(folder: Path, needed: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DiskError(
            f"{folder}: the model and {KEEP + 1} checkpoints need {_size(needed)}, {_size(free)} are free; free some "
            "space (dvc gc -w), or set GENFOUNDRY_STATE to a larger disk"
        )


def _trial(module: Trainee, batch: Batch) -> tuple[float, int, str]:
    """Seconds of a step, bytes beside weights and moments at its peak, and how they were measured."""
    cuda = module.device.type == "cuda"
    batch = module.trainer.strategy.batch_to_device(batch, module.device)
    seconds = []
    with untouched(module):
        if cuda:
            torch.cuda.reset_peak_memory_stats(module.device)
        before = torch.cuda.memory_allocated(module.device) if cuda else peak_memory()
        for _ in range(TRIAL_STEPS):
            start = time.perf_counter()
            module.step(batch)
            if cuda:
                torch.cuda.synchronize(module.device)
            seconds.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(module.device) if cuda else peak_memory()
        moments = sum(state_bytes(optimizer) for optimizer in module.all_optimizers)
    activations = max(peak - before - moments - _bytes(module.model.parameters()), 0)
    return min(seconds[1:]), activations, "by the allocator" if cuda else "by the process's growth"


@contextmanager
def untouched(module: Trainee) -> Iterator[None]:
    """Undo, byte for byte, what steps before step 0 do: weights, buffers, moments, averages, counters, random state."""
    live = list(module.model.state_dict().values())
    held = [tensor.to("cpu", copy=True) for tensor in live]
    with torch.random.fork_rng(), module.unsynced():
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, before in zip(live, held, strict=True):
                    tensor.copy_(before)
            for optimizer in module.all_optimizers:
                optimizer.state.clear()
            module.begin()


@contextmanager
def _plain(units: Sequence[nn.Module]) -> Iterator[None]:
    """Blocks neither compiled nor recomputed, so that each operation of the model is counted once."""
    wrapped = {unit: unit.__dict__.pop("forward") for unit in units if "forward" in unit.__dict__}
    try:
        with torch.compiler.set_stance("force_eager"):
            yield
    finally:
        for unit, forward in wrapped.items():
            unit.forward = forward  # type: ignore[method-assign]


def flops_of(module: Trainee, batch: Batch) -> float:
    """Floating-point operations of losses and gradients of one step on this device: matrix products and attention."""
    from torch.utils.flop_counter import FlopCounterMode

    settings = module.training_settings
    batch = module.trainer.strategy.batch_to_device(batch, module.device)
    step = Step(module.done, settings.steps, settings.seed, settings.augment)
    buffers = [(buffer, buffer.clone()) for buffer in module.model.buffers()]
    sums, module.sums = module.sums, Sums()
    counter = FlopCounterMode(display=False)
    with torch.random.fork_rng(), module.unsynced(), _plain(module.model.units()), counter:
        batch = module.objective.prepare(batch, step)
        for name in module.objective.losses():
            module.gradient(name, batch, step)
    module.sums = sums
    for parameter in module.model.parameters():
        parameter.grad = None
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    return float(counter.get_total_flops())
