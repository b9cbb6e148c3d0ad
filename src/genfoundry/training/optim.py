"""Optimizers and learning rates, as pure functions of settings and step."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from genfoundry.errors import ConfigError
from genfoundry.settings import Optimizer, Schedule


def make_optimizers(
    parameters: Sequence[nn.Parameter], hidden: Sequence[nn.Parameter], settings: Optimizer
) -> list[torch.optim.Optimizer]:
    """Optimizers of one objective; each group keeps its peak learning rate as ``peak``.

    AdamW decays matrices only: gains and biases carry scale, not knowledge. With ``muon`` the hidden matrices get
    Muon's orthogonalised momentum (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

    Raises:
        ConfigError: ``muon``, but the family names no hidden matrices among these parameters.
    """
    chosen = {id(parameter) for parameter in hidden} if settings.name == "muon" else set()
    matrices = [p for p in parameters if id(p) in chosen]
    if settings.name == "muon" and not matrices:
        raise ConfigError("training.optimizer.name is 'muon', but this family names no hidden matrices; use adamw")
    rest = [p for p in parameters if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    made: list[torch.optim.Optimizer] = []
    if groups:
        made.append(torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True))
    if matrices:
        made.append(torch.optim.Muon(matrices, lr=settings.muon_lr, weight_decay=settings.weight_decay))
    for optimizer in made:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return made


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
    start = max(schedule.warmup, int(schedule.hold * total))
    done = max(step - start, 0) / max(total - 1 - start, 1)
    shape = 1 - done if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return schedule.final + (1 - schedule.final) * shape
