"""Inception-v3 as the published FID uses it: the network of the TensorFlow graph of December 2015, in torch alone.

Szegedy et al. 2015 (arXiv:1512.00567), figures 5 to 7, with batch normalisation; features and logits as in Heusel et
al. 2017 (arXiv:1706.08500) and Salimans et al. 2016 (arXiv:1606.03498). Tensors are named as in the published file
``pt_inception-2015-12-05-6726825d.pth``, which loads strictly. Three things set this network apart from the one of
torchvision: average pools don't count padding, the last block's pool takes the maximum, and there are 1008 classes
and no auxiliary head. Letters in tensor names: B batch, C channels, H height, W width, D features, K classes.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.evaluation.networks import _weights
from genfoundry.evaluation.networks._contract import Network, Weights
from genfoundry.evaluation.networks._pictures import BATCH, TAKES, takes
from genfoundry.evaluation.networks._weights import Config

__all__ = ["BATCH", "TAKES", "Config", "takes"]

TITLE = "Inception-v3"
CAVEAT = "Knows ImageNet's classes and little else. Papers hold FID against the training set, not held-out records."
LICENCE = "Apache-2.0 (TensorFlow's graph of December 2015, converted by pytorch-fid)"
PACKAGE = EXTRA = ""

SIDE = 299
FEATURES, CLASSES = 2048, 1008

PREPROCESSING = "tf1-bilinear-299, (x - 128) / 128"
"""TensorFlow 1's bilinear resize of its default settings (corners not aligned, pixel centres not halved, no
antialias), then the graph's own scaling. Libraries that resize otherwise report other values for the same images."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published weights; what ``sha256: ""`` in the settings stands for."""

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"

BATCH_NORM_EPS = 1e-3
"""As in the TensorFlow graph; torch's own default is 1e-5."""

Pool = Literal["average", "maximum"]


class Layer(NamedTuple):
    """One convolution of a block: the name of its tensors, its outputs and its kernel."""

    name: str
    outputs: int
    kernel: tuple[int, int] = (1, 1)


Chain = tuple[Layer | tuple[Layer, Layer], ...]
"""Layers one after the other; a pair reads the same input side by side."""

WIDE, TALL, SQUARE = (1, 7), (7, 1), (3, 3)


class Conv(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, pad: bool = True) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPS)

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(grid_BCHW)))


class Block(nn.Module):
    """Chains of convolutions and a pool, side by side, joined along the channels.

    A block that reduces the grid has stride 2 and no padding in each chain's last layer and in its pool, whose
    result is joined as it is; in the others the pool ends in a 1 x 1 convolution, ``branch_pool``.
    """

    def __init__(self, inputs: int, chains: tuple[Chain, ...], pool: Pool, pooled: int = 0) -> None:
        super().__init__()
        self.chains, self.pool, self.reduces = chains, pool, pooled == 0
        self.outputs = pooled or inputs
        for chain in chains:
            width = inputs
            for place, step in enumerate(chain):
                last = place == len(chain) - 1
                for layer in _pair(step):
                    stride = 2 if last and self.reduces else 1
                    conv = Conv(width, layer.outputs, layer.kernel, stride, pad=stride == 1)
                    self.add_module(layer.name, conv)
                width = sum(layer.outputs for layer in _pair(step))
            self.outputs += width
        if pooled:
            self.branch_pool = Conv(inputs, pooled, (1, 1))

    def forward(self, grid_BCHW: Tensor) -> Tensor:
        joined = []
        for chain in self.chains:
            hidden = grid_BCHW
            for step in chain:
                hidden = torch.cat([self.get_submodule(layer.name)(hidden) for layer in _pair(step)], dim=1)
            joined.append(hidden)
        pooled = self._pooled(grid_BCHW)
        return torch.cat([*joined, pooled if self.reduces else self.branch_pool(pooled)], dim=1)

    def _pooled(self, grid_BCHW: Tensor) -> Tensor:
        if self.reduces:
            return F.max_pool2d(grid_BCHW, 3, stride=2)
        if self.pool == "maximum":
            return F.max_pool2d(grid_BCHW, 3, stride=1, padding=1)
        # TensorFlow divides by the pixels that are there: at a border 6 or 4, not 9.
        return F.avg_pool2d(grid_BCHW, 3, stride=1, padding=1, count_include_pad=False)


def _pair(step: Layer | tuple[Layer, Layer]) -> tuple[Layer, ...]:
    return (step,) if isinstance(step, Layer) else step


def _35_by_35(inputs: int, pooled: int) -> Block:
    """Figure 5: two 3 x 3 in place of one 5 x 5, beside a 5 x 5."""
    fives: Chain = (Layer("branch5x5_1", 48), Layer("branch5x5_2", 64, (5, 5)))
    threes: Chain = (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, SQUARE),
        Layer("branch3x3dbl_3", 96, SQUARE),
    )
    return Block(inputs, ((Layer("branch1x1", 64),), fives, threes), "average", pooled)


def _35_to_17(inputs: int) -> Block:
    """Figure 10: the grid is halved by strided convolutions beside a strided pool."""
    threes: Chain = (
        Layer("branch3x3dbl_1", 64),
        Layer("branch3x3dbl_2", 96, SQUARE),
        Layer("branch3x3dbl_3", 96, SQUARE),
    )
    return Block(inputs, ((Layer("branch3x3", 384, SQUARE),), threes), "maximum")


def _17_by_17(inputs: int, width: int) -> Block:
    """Figure 6: 7 x 7 taken apart into 1 x 7 and 7 x 1."""
    single: Chain = (Layer("branch7x7_1", width), Layer("branch7x7_2", width, WIDE), Layer("branch7x7_3", 192, TALL))
    double: Chain = (
        Layer("branch7x7dbl_1", width),
        Layer("branch7x7dbl_2", width, TALL),
        Layer("branch7x7dbl_3", width, WIDE),
        Layer("branch7x7dbl_4", width, TALL),
        Layer("branch7x7dbl_5", 192, WIDE),
    )
    return Block(inputs, ((Layer("branch1x1", 192),), single, double), "average", 192)


def _17_to_8(inputs: int) -> Block:
    threes: Chain = (Layer("branch3x3_1", 192), Layer("branch3x3_2", 320, SQUARE))
    sevens: Chain = (
        Layer("branch7x7x3_1", 192),
        Layer("branch7x7x3_2", 192, WIDE),
        Layer("branch7x7x3_3", 192, TALL),
        Layer("branch7x7x3_4", 192, SQUARE),
    )
    return Block(inputs, (threes, sevens), "maximum")


def _8_by_8(inputs: int, pool: Pool) -> Block:
    """Figure 7: the last layer of a chain spread out into 1 x 3 beside 3 x 1."""
    single: Chain = (
        Layer("branch3x3_1", 384),
        (Layer("branch3x3_2a", 384, (1, 3)), Layer("branch3x3_2b", 384, (3, 1))),
    )
    double: Chain = (
        Layer("branch3x3dbl_1", 448),
        Layer("branch3x3dbl_2", 384, SQUARE),
        (Layer("branch3x3dbl_3a", 384, (1, 3)), Layer("branch3x3dbl_3b", 384, (3, 1))),
    )
    return Block(inputs, ((Layer("branch1x1", 320),), single, double), pool, 192)


BLOCKS: tuple[tuple[Any, ...], ...] = (
    ("Mixed_5b", _35_by_35, 32),
    ("Mixed_5c", _35_by_35, 64),
    ("Mixed_5d", _35_by_35, 64),
    ("Mixed_6a", _35_to_17),
    ("Mixed_6b", _17_by_17, 128),
    ("Mixed_6c", _17_by_17, 160),
    ("Mixed_6d", _17_by_17, 160),
    ("Mixed_6e", _17_by_17, 192),
    ("Mixed_7a", _17_to_8),
    ("Mixed_7b", _8_by_8, "average"),
    ("Mixed_7c", _8_by_8, "maximum"),
)
"""Name, maker and the maker's arguments beside the number of inputs, in the order of the graph."""


class Inception(nn.Module):
    """Pool features and logits of prepared images."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, SQUARE, stride=2, pad=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, SQUARE, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, SQUARE)
        self.Conv2d_3b_1x1 = Conv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Conv(80, 192, SQUARE, pad=False)
        width = 192
        for name, make, *arguments in BLOCKS:
            block = make(width, *arguments)
            self.add_module(name, block)
            width = block.outputs
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, grid_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Features float32 (B, 2048) and logits float32 (B, 1008) of float32 (B, 3, 299, 299).

        The logits are without the bias of the last layer, as the published Inception Score has them.
        """
        hidden = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(grid_BCHW)))
        hidden = F.max_pool2d(hidden, 3, stride=2)
        hidden = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(hidden))
        hidden = F.max_pool2d(hidden, 3, stride=2)
        for name, *_ in BLOCKS:
            hidden = self.get_submodule(name)(hidden)
        features_BD = hidden.mean(dim=(2, 3))
        return features_BD, features_BD @ self.fc.weight.T


def resize_like_tf1(grid_BCHW: Tensor, side: int) -> Tensor:
    """Bilinear float32 (B, C, side, side) as TensorFlow 1's ``resize_bilinear(align_corners=False)`` computes it.

    Output pixel i reads the input at ``i * size / side``: its corner, not its centre, in float32.
    """
    for axis in (3, 2):
        size = grid_BCHW.shape[axis]
        step = torch.tensor(size, dtype=torch.float32) / torch.tensor(side, dtype=torch.float32)
        place = torch.arange(side, dtype=torch.float32) * step
        low = place.long()
        share = (place - low).to(grid_BCHW.device)
        low, high = (index.clamp(max=size - 1).to(grid_BCHW.device) for index in (low, low + 1))
        below, above = grid_BCHW.index_select(axis, low), grid_BCHW.index_select(axis, high)
        grid_BCHW = below + (above - below) * (share[:, None] if axis == 2 else share)
    return grid_BCHW


def prepare(levels_BCHW: Tensor) -> Tensor:
    """Network input float32 (B, 3, 299, 299) of stored levels uint8 (B, 1 or 3, H, W), one channel repeated."""
    grid_BCHW = resize_like_tf1(levels_BCHW.float(), SIDE)
    return ((grid_BCHW - 128) / 128).expand(-1, 3, -1, -1)


def locate(config: Config, root: Path, cache: Path) -> Weights:
    """The file that the settings name, or the one at the address that they name; by default the published bytes."""
    return _weights.file("inception", config, root, cache, SHA256)


def preprocessing(weights: Weights) -> str:
    return PREPROCESSING


def load(weights: Weights, device: str) -> Network:
    """The network with the weights of a ``.pth`` file whose digest was checked before: nothing in it is executed.

    Raises:
        DataError: The file holds other tensors than Inception-v3's.
    """
    with torch.device("meta"):
        network = Inception()
    _weights.fill(network, weights.path, f"Inception-v3 for FID; take {URL}")
    return Network(FEATURES, prepare, network.float().eval().to(device).forward, device, BATCH, CLASSES)
