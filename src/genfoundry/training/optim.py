"""Optimizers and learning rates, as pure functions of settings and step."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from genfoundry.settings import Optimizer, Schedule


def make_optimizer(parameters: Sequence[nn.Parameter], settings: Optimizer) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices only: gains and biases carry scale, not knowledge."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)


def rate_factor(schedule: Schedule, step: int, total: int) -> float:
    """Learning rate of a step as a share of its peak: linear warm-up, then decay to ``final`` at the last step."""
    if step < schedule.warmup:
        return (step + 1) / schedule.warmup
    if schedule.name == "constant":
        return 1.0
    done = (step - schedule.warmup) / max(total - 1 - schedule.warmup, 1)
    shape = 1 - done if schedule.name == "linear" else 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return schedule.final + (1 - schedule.final) * shape
