"""The interface of a model: losses by name, samples by seed, and optional protocols (likelihood, latent space).

A family is one module ``models/<family>.py`` with ``Config`` and ``build(config, spec) -> Model``. Training sees
``losses`` and ``loss``, unless an objective (``objectives/<name>.py``) takes their place; sampling sees ``sample``;
evaluation asks for ``Likelihood``. Letters in tensor names: B batch, T tokens, V vocabulary, C channels, Z latent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

from genfoundry.config.params import SectionType, parse
from genfoundry.config.sections.augment import Augment
from genfoundry.nn.noise import normal, uniform

SEED_STREAM = 76
"""Noise stream from which seeds of samples are drawn."""


class TokenBatch(NamedTuple):
    """Windows of tokens: of the split's stream, or, where conditions are heeded, each of one document."""

    tokens: Tensor
    """int64 (B, T+1): inputs are ``[:, :-1]``, targets ``[:, 1:]``."""
    mask: Tensor
    """float32 (B, T+1): 1 where the token counts as a target."""
    index: Tensor
    """int64 (B,): global number of each example in the run, by which noise is keyed."""
    conditions: Mapping[str, Tensor] = {}
    """Of each example's document, by name as in the spec: (B, ...), as in ``GridBatch``; empty where nobody heeds any.
    """

    @property
    def labels(self) -> Tensor | None:
        """int64 (B,), or None without labels."""
        return self.conditions.get("label")


class GridBatch(NamedTuple):
    """Grids of numbers in the spec's range."""

    grid: Tensor
    """float32 (B, C, *shape)."""
    index: Tensor
    """int64 (B,): global number of each example in the run, by which noise is keyed."""
    conditions: Mapping[str, Tensor] = {}
    """Of each example, by name as in the spec: (B, ...). Classes int64 (B,); texts int64 (B, length), bytes from 1 and
    zeros behind them; numbers float32 (B,).
    """

    @property
    def labels(self) -> Tensor | None:
        """int64 (B,), or None without labels."""
        return self.conditions.get("label")


Batch = TokenBatch | GridBatch


@dataclass(frozen=True)
class Step:
    """Where in the run a loss is computed; also the source of its noise."""

    number: int
    """Steps done so far."""
    total: int
    """Steps of the whole run."""
    seed: int
    """Seed of the run; validation uses another one."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation that an adversarial family applies to its critic's images; others get augmented batches."""

    def normal(self, batch: Batch, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Standard normal float32 (B, *shape), equal for equal (seed, step, example), on any number of devices."""
        return normal(batch.index, (self.seed, self.number, stream), shape)

    def uniform(self, batch: Batch, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform in [0, 1) float32 (B, *shape), keyed alike."""
        return uniform(batch.index, (self.seed, self.number, stream), shape)

    def seeds(self, batch: Batch, copies: int = 1, stream: int = 0) -> Tensor:
        """Seeds of samples to draw in this step, keyed alike: int64 (B * copies,), those of an example together."""
        halves = uniform(batch.index, (self.seed, self.number, SEED_STREAM, stream), (copies, 2))
        whole = (halves.double() * 2**24).to(torch.int64)
        return (whole[..., 0] * 2**24 + whole[..., 1]).flatten()


class Loss(NamedTuple):
    """What is minimised, and its parts for the curves."""

    total: Tensor
    """float32 scalar: mean over the examples (grids) or target tokens (tokens) of the batch."""
    parts: Mapping[str, Tensor]
    """Scalars by name, detached."""


@dataclass(frozen=True)
class Requests:
    """Samples asked for: one seed each, so that a sample does not depend on its batch."""

    seeds: Tensor
    """int64 (B,)."""
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    """What is asked for, by name as in the spec: (B, ...), as in a batch."""
    prompts: Sequence[Sequence[int]] | None = None
    """Tokens to continue, one sequence a request, for token families."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The family's ``sampling`` section as a dict: length, temperature, ... or steps, guidance, ..."""
    stopped: Callable[[Sequence[int]], bool] | None = None
    """True for the tokens of a text that needs no more of them: holds a stop sequence."""

    @property
    def labels(self) -> Tensor | None:
        """int64 (B,), or None without labels."""
        return self.conditions.get("label")

    def section(self, kind: type[SectionType]) -> SectionType:
        """The options as a typed section; what is missing takes its default.

        Raises:
            ConfigError: The family does not know a field.
        """
        return parse(kind, self.options, "sampling", "a request")

    def normal(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Standard normal float32 (B, *shape), keyed by each request's seed."""
        return normal(self.seeds, (stream,), shape)

    def uniform(self, shape: Sequence[int], stream: int = 0) -> Tensor:
        """Uniform in [0, 1) float32 (B, *shape), keyed by each request's seed."""
        return uniform(self.seeds, (stream,), shape)


class Model(nn.Module):
    """Base of every family.

    A parameter with ``requires_grad`` False is frozen: no optimizer moves it, no average follows it, checkpoints leave
    it out, and it is published as it was when training began.
    """

    augments: ClassVar[bool] = False
    """True for a family whose loss applies ``step.augment`` itself (to real and generated images alike)."""

    heeds: Sequence[str] = ()
    """Names of the conditions that the model uses."""

    def __init__(self) -> None:
        super().__init__()
        self.components: Mapping[str, Model] = {}
        """Frozen models that this one is built on (a codec, a text encoder), by role; published inside of it."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # What moves the model to a device moves its components: they are no submodules, so that they are in no state.
        for component in self.components.values():
            component._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def losses(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Names of the losses and the parameters each one moves, in the order they step; one for most families."""
        return {"loss": list(self.parameters())}

    def hidden_matrices(self) -> Sequence[nn.Parameter]:
        """Two-dimensional weights between hidden states, for optimizers that treat them apart; none by default."""
        return []

    def units(self) -> Sequence[nn.Module]:
        """Repeated blocks, called as modules: what is compiled, recomputed and sharded one by one; none by default."""
        return []

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """One of ``losses`` on a batch."""
        raise NotImplementedError

    def sample(self, requests: Requests) -> Tensor | list[list[int]]:
        """One sample a request: float32 (B, C, *shape) in the spec's range, or token lists without boundary."""
        raise NotImplementedError


@runtime_checkable
class Likelihood(Protocol):
    """A family that can compute the NLL of tokens."""

    context: int
    """Most tokens the model can look at."""

    def nats(self, tokens: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Negative log-likelihood of ``tokens[:, 1:]`` given all before: float32 (B, T) for int64 (B, T+1).

        A family that heeds conditions gets those of each row, (B, ...) by name; others are called with tokens alone.
        """
        ...


def nats_of(model: Likelihood, tokens: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
    """NLL of each token, given the conditions that the model heeds."""
    return model.nats(tokens, conditions) if getattr(model, "heeds", ()) else model.nats(tokens)


@runtime_checkable
class Latent(Protocol):
    """A family with a latent space."""

    def encode(self, grid: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of each grid's latent: float32 (B, Z) each; labels int64 (B,) for a conditional one."""
        ...

    def decode(self, latent: Tensor, labels: Tensor | None = None) -> Tensor:
        """Mean grids of latents: float32 (B, C, *shape) in the spec's range."""
        ...
