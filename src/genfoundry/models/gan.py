"""Generative adversarial network for images, by the recipe of R3GAN (Huang et al. 2024, arXiv:2501.05441).

Critic and generator play the relativistic pairing game (Jolicoeur-Martineau 2019, arXiv:1807.00734), each generated
image against a real one, with zero-centred gradient penalties on real and on generated images, R1 and R2 (Mescheder
et al. 2018, arXiv:1801.04406). Under both the game converges locally, so that the tricks fall away: no normalisation,
no spectral norm, no minibatch statistics; residual blocks with fixup's start (Zhang et al. 2019, arXiv:1901.09321).
With labels the critic is a projection critic (Miyato and Koyama 2018, arXiv:1802.05637) and each pair has one label.
Letters: B batch, C channels, H and W pixels, Z latent, D width.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.sections.sampling import Sampling as BaseSampling
from genfoundry.config.specs import DataSpec, GridSpec, Section
from genfoundry.core.errors import ConfigError
from genfoundry.nn.augment import AUGMENT_DRAWS, augment
from genfoundry.nn.contract import Batch, GridBatch, Loss, Model, Requests, Step
from genfoundry.nn.normalisation import Norm, norm

SLOPE = 0.2
"""Of the leaky rectifier below zero, as in the paper."""

CRITIC_NOISE, GENERATOR_NOISE, REAL_DRAWS, GENERATED_DRAWS = range(4)
"""Streams of a step's noise; the draws of the two losses are two apart."""


class Config(Section):
    width: int = Field(default=64, ge=8, multiple_of=8)
    """Channels of the finest level, D; doubled at each halving of the image, up to four times D."""
    latent: int = Field(default=64, ge=1)
    """Length of the latent vector, Z."""
    blocks: int = Field(default=2, ge=1)
    """Residual blocks a level, in the generator and in the critic."""
    expansion: int = Field(default=2, ge=1)
    """Channels inside a block, as a multiple of its width; 2 in the paper."""
    group: int = Field(default=16, ge=1)
    """Channels that a 3x3 convolution mixes with each other (Xie et al. 2017, arXiv:1611.05431)."""
    gamma: float = Field(default=1.0, ge=0)
    """Weight of the gradient penalties, halved, as the paper writes it; it takes 0.05 for CIFAR-10, 2 for faces of 64
    pixels and 150 for faces of 256, each falling to a tenth. Less is sharper and less stable.
    """
    conditional: bool = False
    """Condition generator and critic on the label."""
    normalisation: Norm | Literal["none"] = "none"
    """Of the generator's blocks; the recipe needs none. The critic has none: it would tie the images of a batch."""

    @model_validator(mode="after")
    def _groups_divide(self) -> "Config":
        if self.width * self.expansion % self.group:
            raise ValueError(f"width * expansion = {self.width * self.expansion} must be a multiple of {self.group}")
        return self


class Sampling(BaseSampling):
    generator: ClassVar[frozenset[str]] = frozenset({"truncation"})

    truncation: float = Field(default=1.0, gt=0, le=2)
    """Factor of the latents: below 1 images are likelier and less varied (Brock et al. 2019, arXiv:1809.11096)."""


def build(config: Config, spec: DataSpec) -> "GAN":
    """Build the model; raise ConfigError for data it cannot learn from."""
    if not isinstance(spec, GridSpec) or len(spec.shape) != 2:
        raise ConfigError(f"model gan: needs images (a grid of two axes), got {spec!r}; choose modality image")
    if config.conditional and not spec.labels:
        raise ConfigError("model gan: options.conditional is true, but the data set has no labels; set it to false")
    return GAN(config, spec)


class Block(nn.Module):
    """Inverted bottleneck: 1x1 to a wider state, grouped 3x3, 1x1 back; float (B, D, H, W), starting as the identity.

    ``total`` is the number of blocks of the network: fixup starts the inner weights the smaller the deeper it is.
    """

    def __init__(self, config: Config, width: int, total: int, normalisation: Norm | Literal["none"] = "none") -> None:
        super().__init__()
        inner = width * config.expansion
        self.norm = nn.Identity() if normalisation == "none" else norm(normalisation, width)
        self.widen = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=inner // config.group)
        self.narrow = nn.Conv2d(inner, width, 1, bias=False)
        for conv in (self.widen, self.mix):
            _start(conv, total ** (-1 / 4))
        nn.init.zeros_(self.narrow.weight)

    def forward(self, grid_BDHW: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.widen(self.norm(grid_BDHW)), SLOPE)
        return grid_BDHW + self.narrow(F.leaky_relu(self.mix(hidden), SLOPE))


def _start(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> None:
    """Normal weights that keep the variance behind a leaky rectifier (He et al. 2015), times ``gain``; zero bias."""
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    with torch.no_grad():
        layer.weight *= gain
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _levels(shape: tuple[int, ...]) -> int:
    """Halvings until the shorter side is at most 4 or a side is odd."""
    count, side = 0, shape
    while min(side) > 4 and all(length % 2 == 0 for length in side):
        side, count = tuple(length // 2 for length in side), count + 1
    return count


class Generator(nn.Module):
    """Latents, and labels if any, to images: float (B, C, H, W), not bounded to the range."""

    def __init__(self, config: Config, spec: GridSpec, num_classes: int) -> None:
        super().__init__()
        levels = _levels(spec.shape)
        widths = [config.width * min(2**level, 4) for level in reversed(range(levels + 1))]
        self.small = (widths[0], *(length // 2**levels for length in spec.shape))
        self.embed = nn.Embedding(num_classes, config.latent) if num_classes else None
        self.first = nn.Linear(config.latent * (2 if num_classes else 1), math.prod(self.small))
        total = config.blocks * len(widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Block(config, width, total, config.normalisation) for _ in range(config.blocks)))
            for width in widths
        )
        self.changes = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in itertools.pairwise(widths))
        self.last = nn.Conv2d(widths[-1], spec.channels, 1)
        for layer in (self.first, *self.changes, self.last):
            _start(layer)

    def forward(self, latent_BZ: Tensor, labels_B: Tensor | None) -> Tensor:
        if self.embed is not None:
            latent_BZ = torch.cat([latent_BZ, self.embed(labels_B)], dim=1)
        hidden = self.blocks[0](self.first(latent_BZ).view(-1, *self.small))
        for change, blocks in zip(self.changes, self.blocks[1:], strict=True):
            hidden = blocks(F.interpolate(change(hidden), scale_factor=2, mode="bilinear"))
        return self.last(hidden)


class Critic(nn.Module):
    """Realness of images, given labels if any: float32 (B,)."""

    def __init__(self, config: Config, spec: GridSpec, num_classes: int) -> None:
        super().__init__()
        levels = _levels(spec.shape)
        widths = [config.width * min(2**level, 4) for level in range(levels + 1)]
        total = config.blocks * len(widths)
        self.first = nn.Conv2d(spec.channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(Block(config, width, total) for _ in range(config.blocks))) for width in widths
        )
        self.changes = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in itertools.pairwise(widths))
        small = tuple(length // 2**levels for length in spec.shape)
        self.pool = nn.Conv2d(widths[-1], widths[-1], small, groups=widths[-1], bias=False)
        self.head = nn.Linear(widths[-1], 1, bias=False)
        self.embed = nn.Embedding(num_classes, widths[-1]) if num_classes else None
        for layer in (self.first, *self.changes, self.pool, self.head):
            _start(layer)
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, std=widths[-1] ** -0.5)

    def forward(self, grid_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        hidden = self.blocks[0](self.first(grid_BCHW))
        for change, blocks in zip(self.changes, self.blocks[1:], strict=True):
            hidden = blocks(change(F.avg_pool2d(hidden, 2)))
        features_BD = self.pool(hidden).flatten(1)
        logits_B = self.head(features_BD)[:, 0]
        if self.embed is not None:
            logits_B = logits_B + (self.embed(labels_B) * features_BD).sum(1)
        return logits_B.float()


def penalties(images: Tensor, logits_B: Tensor, keep: bool) -> Tensor:
    """Squared norm of the gradient of each logit by its image: float32 (B,), itself differentiable if ``keep``."""
    (gradient,) = torch.autograd.grad(logits_B.sum(), images, create_graph=keep)
    return gradient.float().square().flatten(1).sum(1)


class GAN(Model):
    """A generator and a critic, trained against each other."""

    augments = True

    def __init__(self, config: Config, spec: GridSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.num_classes = len(spec.labels) if config.conditional else 0
        self.heeds = ("label",) if config.conditional else ()
        self.generator = Generator(config, spec, self.num_classes)
        self.critic = Critic(config, spec, self.num_classes)

    def losses(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The critic, then the generator against the critic just moved."""
        return {"critic": list(self.critic.parameters()), "generator": list(self.generator.parameters())}

    def units(self) -> Sequence[nn.Module]:
        """The generator's blocks. Not the critic's: its penalty needs second derivatives, which torch.compile lacks."""
        return [block for level in self.generator.blocks for block in level]

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """Relativistic pairing loss: mean -log probability that a pair is ranked right (critic) or wrong (generator).

        The critic's loss carries the penalties, in validation too, where gradient by the images is switched on for
        them. At equal logits each loss is log 2.
        """
        assert isinstance(batch, GridBatch)
        labels_B = self._labels(batch.labels)
        if name == "generator":
            generated = self._generate(batch, step, GENERATOR_NOISE, labels_B)
            real, generated = self._augmented(batch, step, 2, generated)
            with torch.no_grad():
                real_B = self.critic(real, labels_B)
            return Loss(F.softplus(real_B - self.critic(generated, labels_B)).mean(), {})
        with torch.no_grad():
            generated = self._generate(batch, step, CRITIC_NOISE, labels_B)
            images = torch.cat(self._augmented(batch, step, 0, generated))
        return self._critic_loss(images, labels_B)

    def _critic_loss(self, images: Tensor, labels_B: Tensor | None) -> Loss:
        """Of real images, then as many generated ones, (2B, C, H, W); what the critic sees is where it is penalised."""
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            images = images.requires_grad_()
            logits = self.critic(images, labels_B.repeat(2) if labels_B is not None else None)
            r1_B, r2_B = penalties(images, logits, keep).chunk(2)
        real_B, generated_B = logits.chunk(2)
        total = F.softplus(generated_B - real_B).mean() + 0.5 * self.config.gamma * (r1_B + r2_B).mean()
        parts = {"real": real_B, "generated": generated_B, "r1": r1_B, "r2": r2_B}
        return Loss(total, {name: values.detach().mean() for name, values in parts.items()})

    def _generate(self, batch: GridBatch, step: Step, stream: int, labels_B: Tensor | None) -> Tensor:
        return self.generator(step.normal(batch, (self.config.latent,), stream), labels_B)

    def _augmented(self, batch: GridBatch, step: Step, offset: int, generated: Tensor) -> tuple[Tensor, Tensor]:
        """Real and generated images with the same augmentation: the critic never sees an unaugmented one."""
        real, generated = (
            augment(grid, step.augment, step.uniform(batch, (AUGMENT_DRAWS,), stream + offset), *self.spec.range)
            for grid, stream in ((batch.grid, REAL_DRAWS), (generated, GENERATED_DRAWS))
        )
        return real, generated

    def _labels(self, labels_B: Tensor | None) -> Tensor | None:
        if self.num_classes and labels_B is None:
            raise ConfigError("model gan: conditional, but no labels were given; name a label for each request")
        return labels_B if self.num_classes else None

    def sample(self, requests: Requests) -> Tensor:
        """Images of latents drawn from the prior: float32 (B, C, H, W) in the spec's range."""
        latent_BZ = requests.normal((self.config.latent,)) * requests.section(Sampling).truncation
        return self.generator(latent_BZ, self._labels(requests.labels)).float().clamp(*self.spec.range)
