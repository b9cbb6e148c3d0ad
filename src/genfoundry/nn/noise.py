"""Counter-based random numbers: a function of (keys, example, position), never of batch, rank or device count.

The mixer is splitmix64's finalizer (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195) over a Weyl sequence;
normals come from Box and Muller (1958). torch has no unsigned 64-bit arithmetic, so int64 wraps around.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shift(bits: Tensor, places: int) -> Tensor:
    """Logical right shift of int64."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shift(bits, 30)) * _MIX_1
    bits = (bits ^ _shift(bits, 27)) * _MIX_2
    return bits ^ _shift(bits, 31)


def _bits(index: Tensor, keys: Sequence[int], count: int) -> Tensor:
    """int64 (B, count) of random bits."""
    state = _mix(index.to(torch.int64) + _GOLDEN)
    for key in keys:
        state = _mix(state ^ (key * 2 + 1)) + _GOLDEN
    position = torch.arange(1, count + 1, device=index.device) * _GOLDEN
    return _mix(state[:, None] + position)


def uniform(index: Tensor, keys: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Uniform in [0, 1), float32 (B, *shape), for int64 ``index`` (B,) and integer keys below 2**62."""
    count = math.prod(shape)
    return (_shift(_bits(index, keys, count), 40).to(torch.float32) * 2**-24).view(-1, *shape)


def normal(index: Tensor, keys: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal, float32 (B, *shape), for int64 ``index`` (B,) and integer keys below 2**62."""
    count = math.prod(shape)
    bits = _bits(index, keys, count)
    # Two 24-bit uniforms from the two halves of each word; 1 - u keeps the logarithm finite.
    radius = (-2 * torch.log1p(-(_shift(bits, 40).to(torch.float32) * 2**-24))).sqrt()
    angle = (bits & 0xFFFFFF).to(torch.float32) * (2 * math.pi * 2**-24)
    return (radius * torch.cos(angle)).view(-1, *shape)
