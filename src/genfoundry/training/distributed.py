"""State and gradient norm of a model, in one process."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def full_state(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """``model`` and ``optimizers``: their whole states on the CPU."""
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return {"model": weights, "optimizers": [optimizer.state_dict() for optimizer in optimizers]}


def load_state(
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    model_state: dict[str, Tensor],
    optimizer_states: Sequence[dict[str, Any]],
) -> None:
    """Put whole states into a model and its optimizers."""
    model.load_state_dict(model_state)
    for optimizer, state in zip(optimizers, optimizer_states, strict=True):
        optimizer.load_state_dict(state)


def clip(parameters: Iterable[nn.Parameter], limit: float) -> Tensor:
    """Norm of all gradients, float32 scalar; scales them down to ``limit`` unless that is 0."""
    return nn.utils.clip_grad_norm_(parameters, limit or torch.inf)
