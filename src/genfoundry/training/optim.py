"""Optimizers and learning rates, as pure functions of settings and step."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from genfoundry.config.sections.training import Optimizer, Schedule
from genfoundry.core.errors import ConfigError
from genfoundry.training.muon import Muon

WSD_HOLD = 0.8
"""Share of the run before the decay where settings leave it open: a fifth of the steps suffices (arXiv:2405.18392)."""


def make_optimizers(
    parameters: Sequence[nn.Parameter], hidden: Sequence[nn.Parameter], settings: Optimizer
) -> list[torch.optim.Optimizer]:
    """Optimizers of one loss; each group keeps its peak learning rate as ``peak``.

    Gains and biases get no weight decay. With ``muon`` the hidden matrices get Muon's
    orthogonalised momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Raises:
        ConfigError: ``muon``, but the family names no hidden matrices among these parameters.
    """
    chosen = {id(parameter) for parameter in hidden} if settings.name == "muon" else set()
    matrices = [p for p in parameters if id(p) in chosen]
    if settings.name == "muon" and not matrices:
        raise ConfigError("training.optimizer.name is 'muon', but this family names no hidden matrices; use adamw")
    rest = [p for p in parameters if id(p) not in chosen]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    made: list[torch.optim.Optimizer] = []
    if groups and settings.name == "sgd":
        nesterov = settings.momentum > 0
        made.append(torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=nesterov, fused=True))
    elif groups:
        made.append(torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True))
    if matrices:
        more = {"weight_decay": settings.weight_decay, "momentum": settings.momentum}
        made.append(Muon(matrices, lr=settings.muon_lr, steps=settings.muon_steps, **more))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of an optimizer's moments once it has stepped: two of each weight for AdamW, one for Muon and momentum."""
    moments = {"AdamW": 2, "Muon": 1, "SGD": int(bool(optimizer.defaults.get("momentum")))}[type(optimizer).__name__]
    return moments * sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group["params"])


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to a share of its peak learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(schedule: Schedule, step: int, total: int) -> float:
    """Learning rate of a step as a share of its peak: warm-up, hold, then decay to ``final`` at the last step."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.name == "constant":
        return 1.0
    hold = schedule.hold or (WSD_HOLD if schedule.name == "wsd" else 0.0)
    start = max(schedule.warmup, int(hold * total))
    done = min(max(step - start, 0) / max(total - 1 - start, 1), 1.0)
    shape = {"linear": 1 - done, "wsd": 1 - math.sqrt(done), "cosine": 0.5 * (1 + math.cos(math.pi * done))}
    return schedule.final + (1 - schedule.final) * shape[schedule.name]
