"""Normalisation of grids by name; batch statistics are those of the global batch, on any number of devices."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F

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
        """Float (B, D, *shape) of the same shape and dtype; statistics are float32 whatever the dtype."""
        if self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            return self._over_devices(grid_BD)
        running = (self.running_mean, self.running_var)
        return F.batch_norm(grid_BD, *running, self.weight, self.bias, self.training, self.momentum, self.eps)

    def _over_devices(self, grid_BD: Tensor) -> Tensor:
        values = grid_BD.float()
        axes, shape = [0, *range(2, values.ndim)], (1, -1, *[1] * (values.ndim - 2))
        count = values.new_tensor([values.numel() // values.shape[1]])
        sum_D, total = all_reduce(torch.cat([values.sum(axes), count])).split([values.shape[1], 1])
        mean_D = sum_D / total
        centred = values - mean_D.view(shape)
        # The mean goes first: the mean of squares less the squared mean loses all digits where the mean is large.
        var_D = all_reduce(centred.square().sum(axes)) / total
        with torch.no_grad():
            self.running_mean.lerp_(mean_D, self.momentum)
            self.running_var.lerp_(var_D * total / (total - 1), self.momentum)
        scale_D = self.weight * (var_D + self.eps).rsqrt()
        return (centred * scale_D.view(shape) + self.bias.view(shape)).to(grid_BD.dtype)


def norm(kind: Norm, width: int) -> nn.Module:
    """Normalisation of float (B, D, *shape) with ``width`` channels D; group takes 8 groups if they divide."""
    if kind == "batch":
        return BatchNorm(width)
    groups = 1 if kind == "layer" else next(count for count in (8, 4, 2, 1) if width % count == 0)
    return nn.GroupNorm(groups, width)
