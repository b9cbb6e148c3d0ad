"""Blocks that families share. Letters: B batch, T tokens, D width, N heads, K width of a head."""

from typing import Any

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


class _Mix(torch.autograd.Function):
    """The causal sum in place, forward and backward: on a CPU half the time of autograd's own padded copies."""

    @staticmethod
    def forward(ctx: Any, hidden_BTD: Tensor, weight_KD: Tensor) -> Tensor:
        ctx.save_for_backward(hidden_BTD, weight_KD)
        mixed_BTD = hidden_BTD * (1 + weight_KD[0])
        for back, weight_D in enumerate(weight_KD[1:], start=1):
            mixed_BTD[:, back:].addcmul_(hidden_BTD[:, :-back], weight_D)
        return mixed_BTD

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient_BTD,), (hidden_BTD, weight_KD) = gradients, ctx.saved_tensors
        to_hidden_BTD, to_weight_KD = gradient_BTD * (1 + weight_KD[0]), torch.empty_like(weight_KD)
        to_weight_KD[0] = (gradient_BTD * hidden_BTD).sum((0, 1))
        for back, weight_D in enumerate(weight_KD[1:], start=1):
            to_hidden_BTD[:, :-back].addcmul_(gradient_BTD[:, back:], weight_D)
            to_weight_KD[back] = (gradient_BTD[:, back:] * hidden_BTD[:, :-back]).sum((0, 1))
        return to_hidden_BTD.to(hidden_BTD.dtype), to_weight_KD


class CausalConvolution(nn.Module):
    """Depthwise causal convolution with a residual connection; starts as the identity."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(tokens, width))

    def forward(self, hidden_BTD: Tensor) -> Tensor:
        """Mixed tokens, (B, T, D)."""
        mixed: Tensor = _Mix.apply(hidden_BTD, self.weight)
        return mixed

    def step(self, hidden_BTD: Tensor, end_BTD: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same for further tokens behind the end that the last step gave back, and the new end."""
        whole_BTD = hidden_BTD if end_BTD is None else torch.cat([end_BTD, hidden_BTD], dim=1)
        # One token more than is looked at, so that the end is never empty.
        return self(whole_BTD)[:, -hidden_BTD.shape[1] :], whole_BTD[:, -len(self.weight) :]
