"""Discretised likelihoods of pixels, for decoders of images: exact probabilities of the 256 levels, in nats.

A level stands for a cell of width 2/255 of the interval [-1, 1]; the lowest and the highest take the tails, so the
masses sum to one (Salimans et al. 2017, arXiv:1701.05517). Grey levels are no coin tosses: binary cross-entropy of them
is no likelihood (Loaiza-Ganem and Cunningham 2019, arXiv:1907.06845), so there is no Bernoulli law here.
Letters: B batch, C channels, H and W pixels, K components, R numbers that a law wants of each pixel.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Kind = Literal["logistic", "gaussian", "mixture"]

HALF = 1 / 255
"""Half the width of a level's cell."""

FIRST_LOG_SCALE = math.log(0.27)
"""Initial log scale: an eighth of the range is about the error of a blurred first guess."""


def log_mass_logistic(unit: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of levels in [-1, 1], exact and with a gradient however far the mean is."""
    scale = log_scale.exp()
    upper, lower = (unit - mean + HALF) / scale, (unit - mean - HALF) / scale
    # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)): no difference of nearly equal numbers.
    inner = F.logsigmoid(upper) + F.logsigmoid(-lower) + torch.log(-torch.expm1(-2 * HALF / scale))
    return _with_tails(unit, inner, F.logsigmoid(upper), F.logsigmoid(-lower))


def log_mass_gaussian(unit: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log probability of levels in [-1, 1], exact and with a gradient however far the mean is."""
    scale = log_scale.exp()
    upper, lower = (unit - mean + HALF) / scale, (unit - mean - HALF) / scale
    # By symmetry in the left tail, where the logarithm of the integral keeps its digits.
    flip = upper + lower > 0
    high, low = torch.where(flip, -lower, upper), torch.where(flip, -upper, lower)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    inner = log_high + torch.log(-torch.expm1((log_low - log_high).clamp(max=-1e-6)))
    return _with_tails(unit, inner, torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower))


def _with_tails(unit: Tensor, inner: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """Mass of the cell, but all below for the lowest level and all above for the highest."""
    return torch.where(unit < HALF - 1, below, torch.where(unit > 1 - HALF, above, inner))


class OneLaw(nn.Module):
    """One logistic or Gaussian law a pixel and channel, with one learned scale a channel (Rybkin et al. 2021,
    arXiv:2006.13202: so the weight of a KL term needs no tuning).
    """

    def __init__(self, kind: Literal["logistic", "gaussian"], channels: int) -> None:
        super().__init__()
        self.kind, self.inputs, self.uniforms = kind, channels, channels
        self.log_scale = nn.Parameter(torch.full((channels, 1, 1), FIRST_LOG_SCALE))

    def nats(self, unit_BCHW: Tensor, raw_BRHW: Tensor) -> Tensor:
        """Negative log-likelihood of each pixel, all channels together: float32 (B, H, W)."""
        log_mass = log_mass_logistic if self.kind == "logistic" else log_mass_gaussian
        return -log_mass(unit_BCHW, self.mean(raw_BRHW), self.log_scale.clamp(min=-7)).sum(1)

    def mean(self, raw_BRHW: Tensor) -> Tensor:
        """Float32 (B, C, H, W) in [-1, 1]."""
        return torch.tanh(raw_BRHW.float() / 2)

    def draw(self, raw_BRHW: Tensor, uniforms_BCHW: Tensor) -> Tensor:
        """Pixels drawn by uniforms in [0, 1): float32 (B, C, H, W) in [-1, 1]."""
        quantile = torch.logit if self.kind == "logistic" else torch.special.ndtri
        return (self.mean(raw_BRHW) + self.log_scale.exp() * quantile(uniforms_BCHW)).clamp(-1, 1)


class Mixture(nn.Module):
    """K discretised logistics a pixel, each with its own scale (Salimans et al. 2017, PixelCNN++).

    In a component, a channel's mean moves with the values of the channels before it.
    """

    def __init__(self, channels: int, components: int) -> None:
        super().__init__()
        self.channels, self.components = channels, components
        self.pairs = [(later, earlier) for later in range(channels) for earlier in range(later)]
        self.inputs, self.uniforms = components * (1 + 2 * channels + len(self.pairs)), 1 + channels

    def _split(self, raw_BRHW: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights (B, K, H, W), means and log scales (B, K, C, H, W), slopes (B, K, pairs, H, W)."""
        parts = raw_BRHW.float().unflatten(1, (self.components, -1))
        weights, means, scales, slopes = parts.split([1, self.channels, self.channels, len(self.pairs)], dim=2)
        return (
            weights[:, :, 0].log_softmax(1),
            torch.tanh(means / 2),
            (FIRST_LOG_SCALE + scales).clamp(min=-7),
            torch.tanh(slopes),
        )

    def _shifted(self, means: Tensor, slopes: Tensor, values: Tensor, channel: int) -> Tensor:
        """Mean of a channel given values (B, K or 1, C, H, W) of those before it: float32 (B, K, H, W)."""
        moved = (slopes[:, :, n] * values[:, :, d] for n, (c, d) in enumerate(self.pairs) if c == channel)
        return sum(moved, means[:, :, channel])

    def nats(self, unit_BCHW: Tensor, raw_BRHW: Tensor) -> Tensor:
        """Negative log-likelihood of each pixel, all channels together: float32 (B, H, W)."""
        log_weights, means, scales, slopes = self._split(raw_BRHW)
        values = unit_BCHW[:, None]
        shifted = torch.stack([self._shifted(means, slopes, values, c) for c in range(self.channels)], dim=2)
        log_mass_BKHW = log_mass_logistic(values, shifted, scales).sum(2)
        return -(log_weights + log_mass_BKHW).logsumexp(1)

    def mean(self, raw_BRHW: Tensor) -> Tensor:
        """Float32 (B, C, H, W) in [-1, 1]."""
        log_weights, means, _, slopes = self._split(raw_BRHW)
        values = means
        for channel in range(1, self.channels):
            values = values.clone()
            values[:, :, channel] = self._shifted(means, slopes, values, channel)
        return (log_weights.exp()[:, :, None] * values).sum(1).clamp(-1, 1)

    def draw(self, raw_BRHW: Tensor, uniforms_BCHW: Tensor) -> Tensor:
        """Pixels drawn by uniforms (B, 1 + C, H, W) in [0, 1): float32 (B, C, H, W) in [-1, 1]."""
        log_weights, means, scales, slopes = self._split(raw_BRHW)
        past = (uniforms_BCHW[:, :1] >= log_weights.exp().cumsum(1)).sum(1, keepdim=True)
        chosen = past.clamp(max=self.components - 1)[:, :, None]
        means, scales, slopes = (values.take_along_dim(chosen, 1) for values in (means, scales, slopes))
        drawn = torch.zeros_like(means)
        for channel in range(self.channels):
            noise = scales[:, :, channel].exp() * torch.logit(uniforms_BCHW[:, 1 + channel, None])
            drawn[:, :, channel] = (self._shifted(means, slopes, drawn, channel) + noise).clamp(-1, 1)
        return drawn[:, 0]


def law(kind: Kind, channels: int, components: int) -> OneLaw | Mixture:
    """The law of that name."""
    return Mixture(channels, components) if kind == "mixture" else OneLaw(kind, channels)
