"""Variational autoencoder for images (Kingma and Welling 2014, arXiv:1312.6114), convolutional.

The pixel's law is a discretised logistic with one learned scale a channel (Salimans et al. 2017, arXiv:1701.05517,
one component), or a Gaussian with one learned deviation (Rybkin et al. 2021, arXiv:2006.13202), so that the weight
of the KL term needs no tuning. Letters: B batch, C channels, H and W pixels, Z latent, D width.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.errors import ConfigError
from genfoundry.nn.blocks import ResidualBlock
from genfoundry.nn.contract import Batch, GridBatch, Loss, Model, Requests, Step
from genfoundry.specs import DataSpec, GridSpec, Section


class Config(Section):
    width: int = Field(default=64, ge=8, multiple_of=8)
    """Channels of the finest level, D; doubled at each halving of the image, up to four times D."""
    latent: int = Field(default=16, ge=1)
    """Length of the latent vector, Z."""
    blocks: int = Field(default=1, ge=1)
    """Residual blocks a level, on each side."""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL term (Higgins et al. 2017); 1 is the evidence bound."""
    beta_warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the run over which beta rises from zero, against unused latents (Bowman et al. 2016)."""
    likelihood: Literal["logistic", "gaussian"] = "logistic"
    conditional: bool = False
    """Condition on the label (Sohn et al. 2015)."""


def build(config: Config, spec: DataSpec) -> "VAE":
    """Make the model, or refuse data it cannot learn from."""
    if not isinstance(spec, GridSpec) or len(spec.shape) != 2:
        raise ConfigError(f"model vae: needs images (a grid of two axes), got {spec!r}; choose modality image")
    if config.conditional and not spec.labels:
        raise ConfigError("model vae: options.conditional is true, but the data set has no labels; set it to false")
    return VAE(config, spec)


def _levels(shape: tuple[int, ...]) -> int:
    """Halvings until the shorter side is at most 4 or odd."""
    count, side = 0, shape
    while min(side) > 4 and all(length % 2 == 0 for length in side):
        side, count = tuple(length // 2 for length in side), count + 1
    return count


class VAE(Model):
    """Encodes an image into a normal law over Z numbers and decodes them into a law over pixels."""

    def __init__(self, config: Config, spec: GridSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.num_classes = len(spec.labels) if config.conditional else 0
        levels = _levels(spec.shape)
        widths = [config.width * min(2**level, 4) for level in range(levels + 1)]
        small = tuple(length // 2**levels for length in spec.shape)
        flat = widths[-1] * math.prod(small)
        self.small = (widths[-1], *small)

        down: list[nn.Module] = [nn.Conv2d(spec.channels, widths[0], 3, padding=1)]
        up: list[nn.Module] = []
        for level, width in enumerate(widths):
            down += [ResidualBlock(width) for _ in range(config.blocks)]
            if level < levels:
                down.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
                up = (
                    [nn.Upsample(scale_factor=2), nn.Conv2d(widths[level + 1], width, 3, padding=1)]
                    + [ResidualBlock(width) for _ in range(config.blocks)]
                    + up
                )
        up = [ResidualBlock(widths[-1]) for _ in range(config.blocks)] + up
        up += [nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], spec.channels, 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.to_latent = nn.Linear(flat + self.num_classes, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent + self.num_classes, flat)
        # exp(-2): an eighth of the range, about what a blurred first guess misses by.
        self.log_scale = nn.Parameter(torch.full((spec.channels, 1, 1), -2.0))

    def _with_label(self, values_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        if not self.num_classes:
            return values_BD
        if labels_B is None:
            raise ConfigError("model vae: conditional, but no labels were given; name a label for each request")
        return torch.cat([values_BD, F.one_hot(labels_B, self.num_classes).to(values_BD.dtype)], dim=1)

    def posterior(self, grid_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x): float32 (B, Z) each."""
        hidden_BD = self._with_label(self.encoder(grid_BCHW).flatten(1), labels_B)
        mean_BZ, log_var_BZ = self.to_latent(hidden_BD).chunk(2, dim=1)
        return mean_BZ, log_var_BZ.clamp(-12, 8)

    def decode(self, latent_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Mean image of each latent: float32 (B, C, H, W) in the spec's range."""
        hidden_BD = self.from_latent(self._with_label(latent_BZ, labels_B))
        low, high = self.spec.range
        return low + (high - low) * torch.sigmoid(self.decoder(hidden_BD.view(-1, *self.small)))

    def encode(self, grid_BCHW: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Mean latent of each image: float32 (B, Z)."""
        return self.posterior(grid_BCHW, labels_B)[0]

    def pixel_nats(self, grid_BCHW: Tensor, mean_BCHW: Tensor) -> Tensor:
        """Negative log-likelihood of stored levels: float32 (B, C, H, W), in nats."""
        low, high = self.spec.range
        half = (high - low) / 255 / 2
        scale = self.log_scale.clamp(-7, 2).exp() * (high - low)
        distance = grid_BCHW - mean_BCHW
        if self.config.likelihood == "gaussian":
            density = -0.5 * (distance / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
            return -(density + math.log(2 * half))
        # Probability of the level's cell; the lowest and the highest level take the tails.
        upper = torch.where(grid_BCHW >= high - half, torch.inf, (distance + half) / scale)
        lower = torch.where(grid_BCHW <= low + half, -torch.inf, (distance - half) / scale)
        return -(torch.sigmoid(upper) - torch.sigmoid(lower)).clamp(min=1e-9).log()

    def loss(self, objective: str, batch: Batch, step: Step) -> Loss:
        """Negative evidence bound an image, in nats, with beta on the KL term."""
        assert isinstance(batch, GridBatch)
        labels = batch.labels if self.num_classes else None
        mean_BZ, log_var_BZ = self.posterior(batch.grid, labels)
        latent_BZ = mean_BZ + (0.5 * log_var_BZ).exp() * step.normal(batch, (self.config.latent,))
        nats_B = self.pixel_nats(batch.grid, self.decode(latent_BZ, labels)).flatten(1).sum(1)
        kl_B = 0.5 * (mean_BZ**2 + log_var_BZ.exp() - 1 - log_var_BZ).sum(1)
        warmup = max(self.config.beta_warmup * step.total, 1)
        beta = self.config.beta * min(1.0, (step.number + 1) / warmup)
        reconstruction, kl = nats_B.mean(), kl_B.mean()
        return Loss(reconstruction + beta * kl, {"reconstruction": reconstruction.detach(), "kl": kl.detach()})

    def sample(self, requests: Requests) -> Tensor:
        """Mean images of latents drawn from the prior: float32 (B, C, H, W) in the spec's range."""
        return self.decode(requests.normal((self.config.latent,)), requests.labels if self.num_classes else None)
