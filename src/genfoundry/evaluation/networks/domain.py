"""The in-domain feature network: what images look like to a classifier of their own data set.

It is named by the sha256 of its weights wherever it runs. On a CPU its features have the same bytes on every run, in
any company and on any number of processes; on a GPU, in full float32 too, they differ from the CPU's in their last bits
(sums in another order), far below any error bar. So the kind of device is noted beside the protocol, not in it,
and scores of both may be compared. The reference's features are always the CPU's.

Letters in tensor names: B batch, C channels, D features, K classes.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.specs import DataSpec, GridSpec, Section
from genfoundry.core.errors import DataError
from genfoundry.core.io import file_digest, read_json, write_json
from genfoundry.core.progress import progress
from genfoundry.evaluation.networks._contract import Embedded, Network, Weights, full_precision

THREADS = 1
"""Sums over another number of threads end in other last bits, and features must not depend on the number of cores. One:
small layers gain little from a second, and lose tenfold by waiting for it where other work shares the cores (seen).
"""

BATCH = 256
"""Rows embedded at once."""

SMALLEST_SIDE = 4
"""Halve the grid until no axis is longer than this."""

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}

PREPROCESSING = {
    "uint8": "uint8 / 127.5 - 1, no resize",
    "int16": "int16 / 32767, no resize",
    "float16": "float16 as it is, no resize",
}
"""What becomes of stored levels of each type, in words that are part of a network's identity."""


TITLE = "own features"
CAVEAT = "Knows nothing but the data set it was trained on: values of two networks are not comparable."
LICENCE = "none: it is trained by the stage reference on the training records"
PACKAGE = EXTRA = ""
TAKES = "grids of any storage"


class Config(Section):
    """No settings: the fields of ``reference`` configure it."""


def takes(spec: DataSpec) -> bool:
    """Whether records are grids."""
    return isinstance(spec, GridSpec)


class Layout(Section):
    """Layout of a feature network: the contents of network.json."""

    kind: Literal["conv", "pca"]
    """conv: a classifier trained on the training records; pca: their principal components."""
    channels: int
    shape: tuple[int, ...]
    dimension: int
    """Features, D."""
    classes: int
    """Classes, K; 0 for pca, which has no logits."""
    preprocessing: str = PREPROCESSING["uint8"]
    digest: str = ""
    """sha256 of the weights file: the identity of the network."""

    @property
    def storage(self) -> str:
        """Type of the levels that the network takes."""
        return self.preprocessing.partition(" ")[0]

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of its features: two scores are comparable if it is equal."""
        return self.model_dump(mode="json", include={"kind", "dimension", "preprocessing", "digest"})


class FeatureNetwork(nn.Module):
    """Base of both kinds: features of stored levels."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout

    def embed(self, grid: Tensor) -> Tensor:
        """Features float32 (B, D) of float32 (B, C, *shape), as ``as_grid`` makes them."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor | None:
        """Logits float32 (B, K) of features, or None for a network without classes."""
        raise NotImplementedError


class Classifier(FeatureNetwork):
    """A small convolutional classifier; its features are the last hidden layer before its nonlinearity.

    Before, because about a third of the units are dead behind it. GroupNorm (Wu and He 2018, arXiv:1803.08494), because
    it has no running statistics: an image's features don't depend on its batch, and there is no other mode.
    """

    def __init__(self, layout: Layout, width: int = 32) -> None:
        super().__init__(layout)
        rank = len(layout.shape)
        conv, self.pool = CONVOLUTIONS[rank], POOLS[rank]
        sides, widths = list(layout.shape), [width]
        self.strides: list[tuple[int, ...]] = []
        while max(sides) > SMALLEST_SIDE:
            # Only long axes are halved: a 4 x 64 spectrogram keeps its four bands.
            self.strides.append(tuple(2 if side > SMALLEST_SIDE else 1 for side in sides))
            sides = [side // step for side, step in zip(sides, self.strides[-1], strict=True)]
            widths.append(min(2 * widths[-1], 4 * width))
        self.stem = conv(layout.channels, width, 3, padding=1)
        self.convs = nn.ModuleList(conv(a, b, 3, padding=1) for a, b in itertools.pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, width) for width in widths)
        self.hidden = nn.Linear(widths[-1] * int(np.prod(sides)), layout.dimension)
        self.head = nn.Linear(layout.dimension, layout.classes)

    def embed(self, grid: Tensor) -> Tensor:
        hidden = F.silu(self.norms[0](self.stem(grid)))
        for stride, conv, norm in zip(self.strides, self.convs, self.norms[1:], strict=True):
            hidden = F.silu(norm(conv(self.pool(hidden, stride))))
        return self.hidden(hidden.flatten(1))

    def classify(self, features: Tensor) -> Tensor:
        return self.head(F.silu(features))


class Components(FeatureNetwork):
    """Principal components of the training records, for data without labels."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        inputs = layout.channels * int(np.prod(layout.shape))
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("components", torch.zeros(inputs, layout.dimension))

    def embed(self, grid: Tensor) -> Tensor:
        return (grid.flatten(1) - self.mean) @ self.components

    def classify(self, features: Tensor) -> None:
        return None


def make(layout: Layout) -> FeatureNetwork:
    """A network of that layout, weights not yet loaded."""
    return Classifier(layout) if layout.kind == "conv" else Components(layout)


@contextmanager
def repeatable(seed: int = 0) -> Iterator[None]:
    """The same numbers on every run of this machine: seed, threads and algorithms fixed, then as they were."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        torch.use_deterministic_algorithms(True)
        try:
            with full_precision():
                yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)


def as_grid(levels: np.ndarray | Tensor) -> Tensor:
    """Stored levels (B, C, *shape) as float32: uint8 and int16 in [-1, 1], float16 as it is."""
    levels = levels if isinstance(levels, Tensor) else torch.tensor(levels)
    grid = levels.float()
    if levels.dtype == torch.uint8:
        return grid / 127.5 - 1
    return grid / 32767 if levels.dtype == torch.int16 else grid


def check_levels(layout: Layout, levels: np.ndarray, what: str = "") -> None:
    """Raise DataError for levels that a network of that layout does not take.

    Raises:
        DataError: The levels are of another type or shape than the network's.
    """
    if levels.dtype != layout.storage or levels.shape[1:] != (layout.channels, *layout.shape):
        raise DataError(
            f"{what or 'grids'}: {levels.dtype} {levels.shape}, but the feature network takes {layout.storage} "
            f"(N, {layout.channels}, {', '.join(map(str, layout.shape))}); sample from a model of the same data set"
        )


def ready(network: FeatureNetwork, device: str = "cpu") -> Network:
    """The network on a device, as every network is used."""
    network = network.eval().to(device)

    def forward(grid: Tensor) -> tuple[Tensor, Tensor | None]:
        features_BD = network.embed(grid)
        return features_BD, network.classify(features_BD)

    return Network(network.layout.dimension, as_grid, forward, device, BATCH, network.layout.classes, repeatable)


def embed(network: FeatureNetwork, levels: np.ndarray, what: str = "") -> Embedded:
    """Features float32 (N, D) and logits float32 (N, K), or None, of stored levels (N, C, *shape), on the CPU.

    Args:
        network: A network of either kind.
        levels: Stored levels.
        what: Name of the rows for progress and errors; no progress is shown without one.

    Raises:
        DataError: The levels are of another type or shape than the network's.
    """
    check_levels(network.layout, levels, what)
    shown = progress(len(levels), f"features of {what}") if what else nullcontext()
    with shown as bar:
        return ready(network).embed(levels, bar.advance if bar else lambda rows: None)


def save(network: FeatureNetwork, folder: Path) -> Layout:
    """Write network.safetensors and network.json; returns the layout with the digest of the weights."""
    weights = {name: tensor.contiguous() for name, tensor in sorted(network.state_dict().items())}
    save_file(weights, folder / "network.safetensors")
    layout = network.layout.model_copy(update={"digest": file_digest(folder / "network.safetensors")})
    write_json(folder / "network.json", layout.model_dump(mode="json"))
    network.layout = layout
    return layout


def read_layout(folder: Path) -> Layout:
    """The layout of a reference folder's network."""
    return Layout.model_validate(read_json(folder / "network.json"))


def read_network(folder: Path) -> FeatureNetwork:
    """The network of a reference folder.

    Raises:
        DataError: The weights are not those that network.json names.
    """
    layout = read_layout(folder)
    weights = folder / "network.safetensors"
    found = file_digest(weights)
    if found != layout.digest:
        raise DataError(f"{weights}: sha256 {found[:12]}, network.json names {layout.digest[:12]}; run dvc repro")
    network = make(layout)
    network.load_state_dict(load_file(weights))
    return network.eval()


def locate(config: Config, root: Path, cache: Path) -> Weights:
    """The network of the reference folder ``root``."""
    return Weights(root, read_layout(root).digest)


def preprocessing(weights: Weights) -> str:
    return read_layout(weights.path).preprocessing


def load(weights: Weights, device: str) -> Network:
    return ready(read_network(weights.path), device)
