"""Numerics of a training step: seeds, parts of a batch, precision, averaged weights, recomputed and compiled blocks."""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genfoundry.config.sections.augment import Augment
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, TokenSpec
from genfoundry.core.errors import ConfigError, DivergedError
from genfoundry.nn.contract import Batch, GridBatch, Model, Step, TokenBatch
from genfoundry.training.distributed import moving_state

AUGMENT_STREAM = 77
"""Stream of the uniform numbers that change images; families number theirs from 0."""


def seed_of(seed: int, step: int, rank: int) -> int:
    """Seed of torch's own generator for one step of one rank, in [0, 2**63).

    Odd multipliers (splitmix64's, doi:10.1145/2660193.2660195) keep neighbouring steps, ranks and seeds apart.
    """
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % 2**63


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed torch's generators on the CPU and the device; torch.manual_seed takes 190 us over absent ones."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def targets(batch: Batch) -> Tensor | int:
    """Number of examples (grids) or target tokens (tokens) over which a batch's loss is averaged."""
    return batch.mask[:, 1:].sum() if isinstance(batch, TokenBatch) else len(batch.index)


def in_parts(batch: Batch, parts: int, total: Tensor | int | None = None) -> list[tuple[Batch, Tensor | float]]:
    """A batch cut along its examples, each part with its share of the targets: weights of a mean over parts.

    Args:
        batch: This rank's.
        parts: How many.
        total: Targets of a rank, on average; by default those of this one.
    """
    if parts == 1 and total is None:
        return [(batch, 1.0)]
    total = targets(batch) if total is None else total
    cut = {name: one.tensor_split(parts) for name, one in batch.conditions.items()}
    conditions = [{name: rows[place] for name, rows in cut.items()} for place in range(parts)]
    columns = [column.tensor_split(parts) for column in batch[:-1]]
    pieces: list[Batch] = [type(batch)(*row) for row in zip(*columns, conditions, strict=True)]
    return [(piece, targets(piece) / total) for piece in pieces]


def augmented(batch: Batch, step: Step, limits: tuple[float, float]) -> Batch:
    """A batch of grids within ``limits`` with each image changed by its own random numbers."""
    from genfoundry.nn.augment import AUGMENT_DRAWS, augment

    assert isinstance(batch, GridBatch)
    uniforms = step.uniform(batch, (AUGMENT_DRAWS,), AUGMENT_STREAM)
    return batch._replace(grid=augment(batch.grid, step.augment, uniforms, *limits))


class Precision:
    """Autocast, and for float16 a loss scale against underflow (Micikevicius et al. 2018, arXiv:1710.03740).

    The scale follows torch's GradScaler: halved after a step whose gradient overflowed, doubled after ``GROWTH``
    good steps. Whether it overflowed is read off the global gradient norm, on which all ranks agree also where
    gradients are divided among them; GradScaler looks at each rank's own.
    """

    GROWTH = 2000
    LEAST = 1.0
    """A gradient that overflows float16 without any scaling is no accident of the scale."""

    def __init__(self, name: str) -> None:
        self.dtype = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(name)
        self.scaled = name == "16-mixed"
        self.scale = 2.0**16 if self.scaled else 1.0
        self.good = self.skipped = 0

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        return torch.autocast(device.type, self.dtype) if self.dtype else nullcontext()

    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.scaled and gradients:
            torch._foreach_mul_(gradients, 1 / self.scale)

    def fits(self, norm: Tensor) -> bool:
        """Whether a step with this gradient norm may be taken; one whose scaled gradient overflowed may not."""
        return not self.scaled or math.isfinite(norm)

    def update(self, fitted: bool) -> None:
        """Move the scale, once a step.

        Raises:
            DivergedError: Gradients overflow float16 unscaled.
        """
        if not self.scaled:
            return
        if fitted:
            self.good += 1
            if self.good % self.GROWTH == 0:
                self.scale *= 2
            return
        self.good, self.skipped, self.scale = 0, self.skipped + 1, self.scale / 2
        if self.scale < self.LEAST:
            raise DivergedError(
                "gradients overflow float16 at every loss scale down to 1; "
                "lower training.optimizer.lr, or set training.precision to bf16-mixed"
            )

    def state(self) -> dict[str, float]:
        return {"scale": self.scale, "good": self.good, "skipped": self.skipped}

    def restore(self, state: dict[str, float]) -> None:
        self.scale, self.good, self.skipped = state["scale"], int(state["good"]), int(state["skipped"])


class Averager:
    """Exponential moving average of a model's floating-point weights and buffers, frozen weights left out.

    Over the first steps the decay is (1 + step) / (10 + step), so that the fresh weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        # A state dict shares its tensors' memory with the model: looked up once, it follows every step.
        self.floats = [tensor for tensor in moving_state(model).values() if tensor.is_floating_point()]
        self.mean = [tensor.clone() for tensor in self.floats]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take up the weights that step number ``step`` (from 0) left."""
        torch._foreach_lerp_(self.mean, self.floats, 1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averaged and live weights; twice is as before."""
        for mean, live in zip(self.mean, self.floats, strict=True):
            held = live.clone()
            live.copy_(mean)
            mean.copy_(held)


def check_numerics(
    model: Model, losses: Iterable[str], training: Training, spec: DataSpec, family: str, key: str
) -> None:
    """Refuse settings that this family or these data cannot heed.

    Raises:
        ConfigError: The first of them, with its remedy.
    """
    where = f"params.yaml: 'models.{key}.training"
    for name in training.optimizers:
        if name not in losses:
            raise ConfigError(f"{where}.optimizers' names loss {name!r}; {family} has {', '.join(sorted(losses))}")
    if training.augment != Augment() and isinstance(spec, TokenSpec):
        raise ConfigError(f"{where}.augment' changes images, but {family} learns from tokens; remove it")
    if training.compile and training.determinism == "bitwise":
        raise ConfigError(
            f"{where}.compile' is true, but compiled code need not repeat its bytes; set determinism to fast"
        )
    for name in ("compile", "recompute"):
        if getattr(training, name) and not model.units():
            raise ConfigError(f"{where}.{name}' is true, but {family} names no repeated blocks; set it to false")


def prepare_units(model: Model, training: Training) -> None:
    """Compile the model's repeated blocks, or make them forget their activations, as the settings say."""
    for unit in model.units():
        if training.recompute:
            # On the instance: its class's forward is uncovered by deleting it, and no name in the state moves.
            unit.forward = _recomputed(unit.forward)  # type: ignore[method-assign]
        if training.compile:
            unit.compile()


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def recomputed(*values: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*values, **named)
        return checkpoint(forward, *values, use_reentrant=False, **named)

    return recomputed


class Sums:
    """Sums of scalars since the last point of the curve, kept on the device."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor, count: int = 1) -> None:
        """Add a scalar; the parts of one value come with a count of 1 in all."""
        if name in self.totals:
            self.totals[name].add_(value.detach())
            self.counts[name] += count
        else:
            self.totals[name], self.counts[name] = value.detach().float().clone(), count

    def means(self) -> Tensor:
        """float32 (names,), in the order of ``totals``."""
        return torch.stack([total / self.counts[name] for name, total in self.totals.items()])

    def faults(self) -> list[str]:
        """Sums that are not finite, in words, such as ``loss is nan``."""
        values = torch.stack(list(self.totals.values())).tolist() if self.totals else []
        pairs = zip(self.totals, values, strict=True)
        return [f"{name} is {value}" for name, value in pairs if not math.isfinite(value)]

    def clear(self) -> None:
        self.totals, self.counts = {}, {}
