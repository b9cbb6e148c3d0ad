"""Normalisation of grids by name; batch statistics are those of the global batch, on any number of devices."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce

Norm = Literal["group", "batch", "layer"]
"""Group (Wu and He 2018, arXiv:1803.08494), batch (Ioffe and Szegedy 2015, arXiv:1502.03167), or layer normalisation
(Ba et al. 2016, arXiv:1607.06450), the latter over channels and places of an example."""


class BatchNorm(nn.Module):
    """Batch normalisation whose mean and variance are taken over all devices; torch's own refuses CPU tensors there.

    In a batch that is taken in parts (``training.accumulate``), each part has its own statistics.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, width: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, grid_BD: Tensor) -> Tensor:
        """Float (B, D, *shape) of the same shape."""
        mean_D, var_D = self._moments(grid_BD) if self.training else (self.running_mean, self.running_var)
        shape = (1, -1, *[1] * (grid_BD.ndim - 2))
        scale_D = self.weight / (var_D + self.eps).sqrt()
        shift_D = self.bias - mean_D * scale_D
        return grid_BD * scale_D.view(shape).to(grid_BD.dtype) + shift_D.view(shape).to(grid_BD.dtype)

    def _moments(self, grid_BD: Tensor) -> tuple[Tensor, Tensor]:
        values = grid_BD.float().transpose(0, 1).flatten(1)
        total = torch.stack(
            [values.sum(1), values.square().sum(1), torch.full_like(self.running_mean, values.shape[1])]
        )
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            total = all_reduce(total)
        mean_D = total[0] / total[2]
        var_D = (total[1] / total[2] - mean_D.square()).clamp(min=0)
        with torch.no_grad():
            unbiased_D = var_D * (total[2] / (total[2] - 1).clamp(min=1))
            self.running_mean.lerp_(mean_D, self.momentum)
            self.running_var.lerp_(unbiased_D, self.momentum)
        return mean_D, var_D


def norm(kind: Norm, width: int) -> nn.Module:
    """Normalisation of float (B, D, *shape) with ``width`` channels D; group takes 8 groups if they divide."""
    if kind == "batch":
        return BatchNorm(width)
    groups = 1 if kind == "layer" else next(count for count in (8, 4, 2, 1) if width % count == 0)
    return nn.GroupNorm(groups, width)
