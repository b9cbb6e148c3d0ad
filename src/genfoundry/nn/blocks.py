"""Blocks that families share. Letters: B batch, T tokens, D width, N heads, K width of a head."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.nn import normalisation
from genfoundry.nn.dropout import Dropout


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with normalisation before each and dropout between, starting as the identity."""

    def __init__(self, width: int, norm: normalisation.Norm = "group", dropout: float = 0.0) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = normalisation.norm(norm, width), nn.Conv2d(width, width, 3, padding=1)
        self.norm_2, self.conv_2 = normalisation.norm(norm, width), nn.Conv2d(width, width, 3, padding=1)
        self.dropout = Dropout(dropout)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, grid_BDHW: Tensor) -> Tensor:
        hidden = self.conv_1(F.silu(self.norm_1(grid_BDHW)))
        return grid_BDHW + self.conv_2(self.dropout(F.silu(self.norm_2(hidden))))


def rotary(positions_T: Tensor, width: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of rotary position embedding (Su et al. 2021, arXiv:2104.09864): float32 (T, K/2) each."""
    frequencies = base ** (-torch.arange(0, width, 2, device=positions_T.device, dtype=torch.float32) / width)
    angles = positions_T.to(torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


def rotate(heads_BNTK: Tensor, cosines_TK: Tensor, sines_TK: Tensor) -> Tensor:
    """Turn pairs of coordinates (k, k + K/2) by their position's angle."""
    first, second = heads_BNTK.chunk(2, dim=-1)
    turned = torch.cat([first * cosines_TK - second * sines_TK, first * sines_TK + second * cosines_TK], dim=-1)
    return turned.to(heads_BNTK.dtype)
