"""Diffusion model for images: a U-Net, trained and sampled as EDM (Karras et al. 2022, arXiv:2206.00364).

Images are conditioned on their label with classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598).
Letters: B batch, C channels, H and W pixels, D width, E width of the embedding, N heads, P places.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal, NamedTuple, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.sections.sampling import Sampling as BaseSampling
from genfoundry.config.specs import DataSpec, GridSpec, Section
from genfoundry.core.errors import ConfigError
from genfoundry.nn import samplers
from genfoundry.nn.contract import Batch, GridBatch, Loss, Model, Requests, Step
from genfoundry.nn.dropout import Dropout
from genfoundry.nn.normalisation import Norm, norm

SMALLEST_SIDE = 4
"""Halve the image until its shorter side is no longer than this."""

HEAD = 32
"""Width of a head of attention, where it divides the width of the level; else there is one head."""

EMBEDDING = 4
"""Width of the embedding of noise and label, as a multiple of the U-Net's."""


class Config(Section):
    width: int = Field(default=64, ge=8, multiple_of=8)
    """Channels of the finest level, D."""
    widest: int = Field(default=2, ge=1)
    """Channels are doubled at each halving of the image, up to this many times D."""
    blocks: int = Field(default=1, ge=1)
    """Residual blocks a level, on each side."""
    attention: int = Field(default=8, ge=0)
    """Self-attention at levels whose longer side is at most this many places; 0 for none."""
    norm: Norm = "group"
    """Normalisation in each block."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Inside residual blocks."""
    conditional: bool = False
    """Condition on the label."""
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of the examples trained without their label, as classifier-free guidance needs."""
    sigma_data: float = Field(default=0.5, gt=0)
    """Standard deviation of the data, in a range of -1 to 1."""
    noise_mean: float = -1.2
    """Mean of ln(sigma) in training (P_mean)."""
    noise_deviation: float = Field(default=1.2, gt=0)
    """Standard deviation of ln(sigma) in training (P_std)."""


class Sampling(BaseSampling):
    """How images are drawn: all but number, seed and batch is part of the generator that is judged."""

    generator: ClassVar[frozenset[str]] = frozenset(
        {"sampler", "steps", "guidance", "sigma_min", "sigma_max", "rho", "churn", "eta"}
    )
    sampler: Literal["heun", "euler", "ddim", "ancestral"] = "heun"
    """heun: second order, two evaluations a step; euler: first order; ddim: Song et al. 2021, arXiv:2010.02502;
    ancestral: DDPM's own (Ho et al. 2020, arXiv:2006.11239), with fresh noise at each step.
    """
    steps: int = Field(default=18, ge=1)
    """Noise levels on the way to data."""
    guidance: float = Field(default=1.0, ge=0)
    """Weight of classifier-free guidance: 1 is none; more gives purer, less varied images at twice the time."""
    sigma_min: float = Field(default=0.002, gt=0)
    """Lowest noise level above 0."""
    sigma_max: float = Field(default=80.0, gt=0)
    """Noise level to start from."""
    rho: float = Field(default=7.0, gt=0)
    """Spacing of the noise levels: 1 is even, more puts more of them near ``sigma_min``."""
    churn: float = Field(default=0.0, ge=0)
    """Fresh noise of heun and euler over all steps (S_churn); 0 is deterministic given the seed."""
    eta: float = Field(default=0.0, ge=0, le=1)
    """Share of ancestral's fresh noise that ddim takes; 0 is deterministic given the seed."""

    @model_validator(mode="after")
    def _check_sigmas(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_min {self.sigma_min} is not below sigma_max {self.sigma_max}")
        return self


def build(config: Config, spec: DataSpec) -> "Diffusion":
    """Build the model; raise ConfigError for data it cannot learn from."""
    if not isinstance(spec, GridSpec) or len(spec.shape) != 2:
        raise ConfigError(f"model diffusion: needs images (a grid of two axes), got {spec!r}; choose modality image")
    if config.conditional and not spec.labels:
        raise ConfigError(
            "model diffusion: options.conditional is true, but the data set has no labels; set it to false"
        )
    return Diffusion(config, spec)


class Preconditioning(NamedTuple):
    """Scales by noise level that keep inputs, targets and gradients at unit variance (table 1)."""

    skip: Tensor
    out: Tensor
    into: Tensor
    noise: Tensor
    """Noise level as the network's input: ln(sigma) / 4."""


def preconditioning(sigma: Tensor, sigma_data: float) -> Preconditioning:
    """c_skip, c_out, c_in and c_noise, each of sigma's shape."""
    total = sigma**2 + sigma_data**2
    return Preconditioning(sigma_data**2 / total, sigma * sigma_data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4)


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) = 1 / c_out^2: every noise level starts with a loss of one."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


class Attention(nn.Module):
    """Self-attention over the places of a grid, starting as the identity."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__()
        self.heads = width // HEAD if width % HEAD == 0 else 1
        self.norm = norm(config.norm, width)
        self.qkv, self.out = nn.Conv2d(width, 3 * width, 1), nn.Conv2d(width, width, 1)
        nn.init.zeros_(self.out.weight)

    def forward(self, grid_BDHW: Tensor) -> Tensor:
        flat_BDP = self.qkv(self.norm(grid_BDHW)).flatten(2)
        queries, keys, values = (part.unflatten(1, (self.heads, -1)).mT for part in flat_BDP.chunk(3, dim=1))
        mixed_BNPK = F.scaled_dot_product_attention(queries, keys, values)
        return grid_BDHW + self.out(mixed_BNPK.mT.reshape(grid_BDHW.shape))


class Block(nn.Module):
    """Residual block, with attention behind it where asked for, starting as the identity.

    The embedding scales and shifts its second normalisation (Dhariwal and Nichol 2021, arXiv:2105.05233).
    """

    def __init__(self, width: int, out: int, attends: bool, config: Config) -> None:
        super().__init__()
        self.norm_1, self.conv_1 = norm(config.norm, width), nn.Conv2d(width, out, 3, padding=1)
        self.norm_2, self.conv_2 = norm(config.norm, out), nn.Conv2d(out, out, 3, padding=1)
        self.modulate, self.dropout = nn.Linear(EMBEDDING * config.width, 2 * out), Dropout(config.dropout)
        self.skip = nn.Conv2d(width, out, 1) if width != out else nn.Identity()
        self.attention = Attention(out, config) if attends else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, grid_BDHW: Tensor, embedding_BE: Tensor) -> Tensor:
        hidden = self.conv_1(F.silu(self.norm_1(grid_BDHW)))
        scale, shift = self.modulate(embedding_BE)[:, :, None, None].chunk(2, dim=1)
        hidden = F.silu(self.norm_2(hidden) * (1 + scale) + shift)
        return self.attention(self.skip(grid_BDHW) + self.conv_2(self.dropout(hidden)))


class UNet(nn.Module):
    """U-Net with skip connections from each block of the way down to one of the way up; output shaped as its input."""

    def __init__(self, config: Config, spec: GridSpec, num_classes: int) -> None:
        super().__init__()
        embedding = EMBEDDING * config.width
        # A third to eleven periods a unit; ln(sigma) / 4 lies in -1.6 to 1.1 for the default noise levels.
        frequencies = 2 * math.pi * torch.logspace(-1.5, 3.5, config.width // 2, 2.0)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.embed_noise = nn.Sequential(nn.Linear(config.width, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.embed_label = nn.Embedding(num_classes + 1, embedding) if num_classes else None
        sides = [spec.shape]
        while min(sides[-1]) > SMALLEST_SIDE:
            sides.append(tuple(math.ceil(side / 2) for side in sides[-1]))
        widths = [config.width * min(2**level, config.widest) for level in range(len(sides))]
        self.stem = nn.Conv2d(spec.channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for width, side in zip(widths, sides, strict=True):
            attends = max(side) <= config.attention
            self.down.append(nn.ModuleList(Block(width, width, attends, config) for _ in range(config.blocks)))
            self.up.append(nn.ModuleList(Block(2 * width, width, attends, config) for _ in range(config.blocks)))
        pairs = list(itertools.pairwise(widths))
        self.shrink = nn.ModuleList(nn.Conv2d(fine, coarse, 3, stride=2, padding=1) for fine, coarse in pairs)
        self.grow = nn.ModuleList(nn.Conv2d(coarse, fine, 3, padding=1) for fine, coarse in pairs)
        self.norm, self.head = norm(config.norm, widths[0]), nn.Conv2d(widths[0], spec.channels, 3, padding=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, grid_BCHW: Tensor, noise_B: Tensor, labels_B: Tensor | None) -> Tensor:
        """Float (B, C, H, W), given what c_noise is (B,) and the labels, of which the last stands for none."""
        angles = noise_B[:, None] * self.frequencies
        embedding_BE = self.embed_noise(torch.cat([angles.cos(), angles.sin()], dim=1))
        if self.embed_label is not None:
            embedding_BE = embedding_BE + self.embed_label(labels_B)
        embedding_BE = F.silu(embedding_BE)
        hidden, kept = self.stem(grid_BCHW), []
        for level, blocks in enumerate(self.down):
            hidden = self.shrink[level - 1](hidden) if level else hidden
            for block in blocks:
                hidden = block(hidden, embedding_BE)
                kept.append(hidden)
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:
                hidden = block(torch.cat([hidden, kept.pop()], dim=1), embedding_BE)
            if level:
                # The size of what it meets there: an odd side was halved upwards.
                hidden = self.grow[level - 1](F.interpolate(hidden, size=kept[-1].shape[2:]))
        return self.head(F.silu(self.norm(hidden)))


class Diffusion(Model):
    """Learns the mean of an image given the image under noise of any level; samples by removing noise step by step."""

    def __init__(self, config: Config, spec: GridSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.num_classes = len(spec.labels) if config.conditional else 0
        self.heeds = ("label",) if config.conditional else ()
        self.unet = UNet(config, spec, self.num_classes)
        low, high = spec.range
        self.middle, self.half = (low + high) / 2, (high - low) / 2

    def units(self) -> Sequence[nn.Module]:
        """Residual blocks, each with its attention."""
        return [module for module in self.unet.modules() if isinstance(module, Block)]

    def denoise(self, x_BCHW: Tensor, sigma_B: Tensor, labels_B: Tensor | None = None) -> Tensor:
        """Mean of the clean image given x at noise level sigma, both in -1 to 1 before noise: float32 (B, C, H, W).

        Label ``num_classes`` stands for none.
        """
        skip, out, into, noise = preconditioning(sigma_B.view(-1, 1, 1, 1), self.config.sigma_data)
        return skip * x_BCHW + out * self.unet(into * x_BCHW, noise.flatten(), labels_B)

    def _labels(self, labels_B: Tensor | None) -> Tensor | None:
        if self.num_classes and labels_B is None:
            raise ConfigError("model diffusion: conditional, but no labels were given; name a label for each request")
        return labels_B if self.num_classes else None

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """Weighted squared error of the denoised image a pixel (equation 2), at one noise level for each example."""
        assert isinstance(batch, GridBatch)
        config, labels = self.config, self._labels(batch.labels)
        x0_BCHW = (batch.grid - self.middle) / self.half
        sigma_B = (config.noise_mean + config.noise_deviation * step.normal(batch, (), 0)).exp()
        if labels is not None:
            labels = labels.masked_fill(step.uniform(batch, (), 1) < config.label_dropout, self.num_classes)
        noise_BCHW = step.normal(batch, x0_BCHW.shape[1:], 2)
        found = self.denoise(x0_BCHW + sigma_B.view(-1, 1, 1, 1) * noise_BCHW, sigma_B, labels)
        error_B = (found - x0_BCHW).square().flatten(1).mean(1)
        total = (loss_weight(sigma_B, config.sigma_data) * error_B).mean()
        return Loss(total, {"squared_error": error_B.detach().mean()})

    def sample(self, requests: Requests) -> Tensor:
        """Images from noise: float32 (B, C, H, W) in the spec's range."""
        wanted, labels = requests.section(Sampling), self._labels(requests.labels)
        denoise = self._denoiser(labels, wanted.guidance)
        shape = (self.spec.channels, *self.spec.shape)
        sigmas = samplers.sigma_steps(wanted.steps, wanted.sigma_min, wanted.sigma_max, wanted.rho)
        sigmas = sigmas.to(requests.seeds.device)
        sampler: samplers.Sampler = {
            "heun": partial(samplers.heun, churn=wanted.churn),
            "euler": partial(samplers.euler, churn=wanted.churn),
            "ddim": partial(samplers.ddim, eta=wanted.eta),
            "ancestral": samplers.ancestral,
        }[wanted.sampler]
        start = sigmas[0] * requests.normal(shape, 0)
        x0_BCHW = sampler(denoise, start, sigmas, lambda number: requests.normal(shape, number + 1))
        return self.middle + self.half * x0_BCHW.clamp(-1, 1)

    def _denoiser(self, labels_B: Tensor | None, guidance: float) -> samplers.Denoise:
        """The denoiser of these labels, with classifier-free guidance where ``guidance`` is not 1."""
        if guidance == 1:
            return lambda x, sigma: self.denoise(x, sigma.expand(len(x)), labels_B)
        if labels_B is None or not self.config.label_dropout:
            raise ConfigError(
                f"model diffusion: sampling.guidance is {guidance}, which needs options.conditional true and "
                "options.label_dropout above 0; set it to 1"
            )
        both = torch.cat([labels_B, torch.full_like(labels_B, self.num_classes)])

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            # One batch for both: no second launch of every small layer.
            found, without = self.denoise(torch.cat([x, x]), sigma.expand(2 * len(x)), both).chunk(2)
            return without + guidance * (found - without)

        return denoise
