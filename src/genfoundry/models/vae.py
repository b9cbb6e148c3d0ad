"""Convolutional variational autoencoder for images (Kingma and Welling 2014, arXiv:1312.6114).

The likelihood is of stored levels (``nn/pixels.py``), so losses are nats and comparable across its kinds. Any height
and width: a side is halved, rounded up, until it is at most four. Letters: B batch, C channels, H and W pixels,
Z latent, D width.
"""

import itertools
import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.sections.sampling import Sampling as BaseSampling
from genfoundry.config.specs import DataSpec, GridSpec, Section
from genfoundry.core.errors import ConfigError
from genfoundry.nn import normalisation, pixels
from genfoundry.nn.blocks import ResidualBlock
from genfoundry.nn.contract import Batch, GridBatch, Loss, Model, Requests, Step

SMALLEST_SIDE = 4
"""No side longer than this is left between encoder and latent."""


class Config(Section):
    width: int = Field(default=64, ge=8, multiple_of=8)
    """Channels of the finest level, D; doubled at each halving of the image, up to four times D."""
    latent: int = Field(default=16, ge=1)
    """Length of the latent vector, Z."""
    blocks: int = Field(default=1, ge=1)
    """Residual blocks a level, on each side."""
    beta: float = Field(default=1.0, ge=0)
    """Weight of the KL term (Higgins et al. 2017); 1 is the evidence lower bound (ELBO)."""
    beta_warmup: float = Field(default=0.1, ge=0, le=1)
    """Share of the run over which beta rises from zero, against unused latents (Bowman et al. 2016)."""
    likelihood: pixels.Kind = "logistic"
    """Distribution of a stored level. logistic, gaussian: one learned scale a channel. mixture: several logistics with
    scales of each pixel and dependent channels, for colour and for pixels with two likely values.
    """
    components: int = Field(default=5, ge=1)
    """Logistics of a mixture."""
    norm: normalisation.Norm = "group"
    """Normalisation in each block."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """In each residual block."""
    conditional: bool = False
    """Condition on the label (Sohn et al. 2015)."""


class Sampling(BaseSampling):
    """How latents and pixels are drawn."""

    generator: ClassVar[frozenset[str]] = frozenset({"draw", "temperature"})

    draw: Literal["mean", "sample"] = "mean"
    """mean: the mean picture of a latent; sample: its pixels drawn from their law, with their noise."""
    temperature: float = Field(default=1.0, gt=0)
    """Deviation of the prior that latents are drawn from; below 1 gives more usual pictures, and fewer kinds."""


def build(config: Config, spec: DataSpec) -> "VAE":
    """Build the model; raise ConfigError for data it cannot learn from."""
    if not isinstance(spec, GridSpec) or len(spec.shape) != 2:
        raise ConfigError(f"model vae: needs images (a grid of two axes), got {spec!r}; choose modality image")
    if spec.storage != "uint8":
        raise ConfigError(f"model vae: needs levels of uint8, whose 256 its law of pixels is over, got {spec.storage}")
    if config.conditional and not spec.labels:
        raise ConfigError("model vae: options.conditional is true, but the data set has no labels; set it to false")
    return VAE(config, spec)


def _sides(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Height and width at each level, finest first; only long sides are halved."""
    found = [shape]
    while max(found[-1]) > SMALLEST_SIDE:
        found.append(tuple(-(-side // 2) if side > SMALLEST_SIDE else side for side in found[-1]))
    return found


class VAE(Model):
    """Encodes an image into a normal distribution over Z latents and decodes them into a distribution over pixels."""

    def __init__(self, config: Config, spec: GridSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.num_classes = len(spec.labels) if config.conditional else 0
        self.heeds = ("label",) if config.conditional else ()
        self.pixels = pixels.law(config.likelihood, spec.channels, config.components)
        sides = _sides(spec.shape)
        widths = [config.width * min(2**level, 4) for level in range(len(sides))]
        self.small = (widths[-1], *sides[-1])

        def level_blocks(width: int) -> list[nn.Module]:
            return [ResidualBlock(width, config.norm, config.dropout) for _ in range(config.blocks)]

        down: list[nn.Module] = [nn.Conv2d(spec.channels, widths[0], 3, padding=1), *level_blocks(widths[0])]
        up: list[nn.Module] = []
        for (fine, coarse), (narrow, wide) in zip(itertools.pairwise(sides), itertools.pairwise(widths), strict=True):
            stride = tuple(2 if b < a else 1 for a, b in zip(fine, coarse, strict=True))
            down += [nn.Conv2d(narrow, wide, 3, stride=stride, padding=1), *level_blocks(wide)]
            up = [nn.Upsample(size=fine), nn.Conv2d(wide, narrow, 3, padding=1), *level_blocks(narrow), *up]
        up = [*level_blocks(widths[-1]), *up, normalisation.norm(config.norm, widths[0]), nn.SiLU()]
        up.append(nn.Conv2d(widths[0], self.pixels.inputs, 3, padding=1))
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        flat = math.prod(self.small)
        self.to_latent = nn.Linear(flat + self.num_classes, 2 * config.latent)
        self.from_latent = nn.Linear(config.latent + self.num_classes, flat)

    def units(self) -> list[nn.Module]:
        """The residual blocks."""
        return [module for module in self.modules() if isinstance(module, ResidualBlock)]

    def _with_label(self, values_BD: Tensor, labels_B: Tensor | None) -> Tensor:
        if not self.num_classes:
            return values_BD
        if labels_B is None:
            raise ConfigError("model vae: conditional, but no labels were given; name a label for each request")
        return torch.cat([values_BD, F.one_hot(labels_B, self.num_classes).to(values_BD.dtype)], dim=1)

    def encode(self, grid_BCHW: Tensor, labels_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(z|x): float32 (B, Z) each."""
        hidden_BD = self._with_label(self.encoder(grid_BCHW).flatten(1), labels_B)
        mean_BZ, log_var_BZ = self.to_latent(hidden_BD).float().chunk(2, dim=1)
        return mean_BZ, log_var_BZ.clamp(-12, 8)

    def _decode(self, latent_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        """Raw parameters of the pixels' distribution: (B, R, H, W)."""
        hidden_BD = self.from_latent(self._with_label(latent_BZ, labels_B))
        return self.decoder(hidden_BD.view(-1, *self.small))

    def decode(self, latent_BZ: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Mean image of each latent: float32 (B, C, H, W) in the spec's range."""
        return self._from_unit(self.pixels.mean(self._decode(latent_BZ, labels_B)))

    def _from_unit(self, unit: Tensor) -> Tensor:
        low, high = self.spec.range
        return low + (high - low) * (unit + 1) / 2

    def _to_unit(self, grid: Tensor) -> Tensor:
        low, high = self.spec.range
        return 2 * (grid - low) / (high - low) - 1

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """Negative ELBO per image, in nats, with weight beta on the KL term."""
        assert isinstance(batch, GridBatch)
        labels = batch.labels if self.num_classes else None
        mean_BZ, log_var_BZ = self.encode(batch.grid, labels)
        latent_BZ = mean_BZ + (0.5 * log_var_BZ).exp() * step.normal(batch, (self.config.latent,))
        nats_B = self.pixels.nats(self._to_unit(batch.grid), self._decode(latent_BZ, labels)).flatten(1).sum(1)
        kl_B = 0.5 * (mean_BZ**2 + log_var_BZ.exp() - 1 - log_var_BZ).sum(1)
        warmup = max(self.config.beta_warmup * step.total, 1)
        beta = self.config.beta * min(1.0, (step.number + 1) / warmup)
        reconstruction, kl = nats_B.mean(), kl_B.mean()
        return Loss(reconstruction + beta * kl, {"reconstruction": reconstruction.detach(), "kl": kl.detach()})

    def sample(self, requests: Requests) -> Tensor:
        """Images of latents drawn from the prior: float32 (B, C, H, W) in the spec's range."""
        how = requests.section(Sampling)
        latent_BZ = how.temperature * requests.normal((self.config.latent,))
        labels = requests.labels if self.num_classes else None
        if how.draw == "mean":
            return self.decode(latent_BZ, labels)
        uniforms = requests.uniform((self.pixels.uniforms, *self.spec.shape), stream=1)
        return self._from_unit(self.pixels.draw(self._decode(latent_BZ, labels), uniforms))
