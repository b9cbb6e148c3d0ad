"""Published networks behind one interface: Inception-v3 for FID, DINOv2 and CLIP through ``transformers``.

Each prepares images as its reference does, says so in a tag, and is named by the sha256 of its weights, checked before
a byte of them is parsed. Nothing is fetched but an address that the settings name; no code of others is run.
Letters in tensor names: B batch, C channels, H height, W width, D features, K classes.
"""

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.sections.reference import PretrainedNetwork
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import file_digest, publish_file, read_json
from genfoundry.evaluation.extraction import inception
from genfoundry.evaluation.extraction.network import full_precision

Name = Literal["inception", "dinov2", "clip"]

BATCH = 32
"""Images embedded at once, the last batch filled up: an image's features don't depend on how many there are."""

TIMEOUT_S = 60
CHUNK = 2**20

SIDE = 224
"""Images as DINOv2 sees them in the papers that score with it."""

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of each channel, as published with the weights."""

WEIGHTS = "model.safetensors"
"""The one file of a transformers folder that holds weights."""


class Weights(NamedTuple):
    """Weights on this machine, their digest checked."""

    name: Name
    path: Path
    """File of inception, folder of the others."""
    digest: str
    """sha256 of the weights file."""
    config: str
    """sha256 of config.json, which says how many heads read the same weights; empty for inception."""


@dataclass(frozen=True)
class Pretrained:
    """A published network, ready to embed."""

    weights: Weights
    dimension: int
    """Features, D."""
    prepare: Callable[[Tensor], Tensor]
    """float32 (B, 3, side, side) of uint8 (B, 1 or 3, H, W)."""
    forward: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    """Features float32 (B, D) and logits float32 (B, K), or None, of prepared images."""
    device: str

    @property
    def identity(self) -> dict[str, Any]:
        """What must be equal for two scores in its features to be comparable."""
        return identity(self.weights, self.dimension)

    def embed(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Features float32 (N, D) and logits float32 (N, K), or None, of uint8 (N, 1 or 3, H, W).

        Raises:
            DataError: The levels are no such images.
        """
        if levels.dtype != np.uint8 or not takes(levels.shape[1:]):
            raise DataError(
                f"{self.weights.name}: {levels.dtype} {levels.shape}, but it takes images of 1 or 3 channels, "
                "uint8 (N, C, H, W); leave it out of reference.networks"
            )
        features, logits = [np.zeros((0, self.dimension), np.float32)], []
        with torch.inference_mode(), full_precision():
            for start in range(0, len(levels), BATCH):
                batch = np.array(levels[start : start + BATCH])
                filled = np.zeros((BATCH, *batch.shape[1:]), np.uint8)
                filled[: len(batch)] = batch
                features_BD, logits_BK = self.forward(self.prepare(torch.from_numpy(filled)).to(self.device))
                features.append(features_BD[: len(batch)].cpu().numpy())
                if logits_BK is not None:
                    logits.append(logits_BK[: len(batch)].cpu().numpy())
        return np.concatenate(features), np.concatenate(logits) if logits else None


def preprocessing(weights: Weights) -> str:
    """Tag of how levels become the network's input, and which of its outputs is taken: another one is another score."""
    if weights.name == "inception":
        return inception.PREPROCESSING
    if weights.name == "dinov2":
        return f"bicubic-antialias-{SIDE} in float32, ImageNet mean and deviation; class token after the last norm"
    return f"pillow-bicubic-{clip_side(weights)}, centre crop, CLIP mean and deviation; projected, not normalised"


def clip_side(weights: Weights) -> int:
    """Side of the images that a CLIP model takes; 224 where its config.json leaves it out, as transformers has it."""
    config = read_json(weights.path / "config.json")
    return int(config.get("vision_config", config).get("image_size", SIDE))


def identity(weights: Weights, dimension: int) -> dict[str, Any]:
    """What must be equal for two scores in a network's features to be comparable."""
    found = {"name": weights.name, "dimension": dimension, "preprocessing": preprocessing(weights)}
    found["digest"] = weights.digest
    return found | ({"config": weights.config} if weights.config else {})


def takes(shape: tuple[int, ...]) -> bool:
    """Whether grids of (C, *shape) are images that these networks can see."""
    return len(shape) == 3 and shape[0] in (1, 3)


def in_colour(levels_BCHW: Tensor) -> Tensor:
    """Three channels: one is repeated."""
    return levels_BCHW.expand(-1, 3, -1, -1)


def normalised(grid_BCHW: Tensor, statistics: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    """Levels of 0 to 255 as float32, each channel less its mean and over its deviation."""
    mean_C, deviation_C = (torch.tensor(part)[:, None, None] for part in statistics)
    return (grid_BCHW / 255 - mean_C) / deviation_C


def prepare_dinov2(levels_BCHW: Tensor) -> Tensor:
    """Whole image to 224 x 224 by bicubic interpolation with antialias, in float32 (no crop, nothing rounded)."""
    grid_BCHW = F.interpolate(levels_BCHW.float(), (SIDE, SIDE), mode="bicubic", antialias=True)
    return normalised(in_colour(grid_BCHW), IMAGENET)


def prepare_clip(levels_BCHW: Tensor, side: int) -> Tensor:
    """Shorter side to ``side`` by Pillow's bicubic in uint8, centre cropped: what CLIP was published with."""
    height, width = levels_BCHW.shape[2:]
    scale = side / min(height, width)
    size = (side if width <= height else int(width * scale), side if height <= width else int(height * scale))
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    images = []
    for levels_CHW in levels_BCHW.numpy():
        # Channel by channel, as Pillow resizes them anyway.
        channels = [Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC) for channel in levels_CHW]
        images.append([np.asarray(channel)[top : top + side, left : left + side] for channel in channels])
    return normalised(in_colour(torch.from_numpy(np.array(images)).float()), CLIP)


def fetch(address: str, sha256: str, cache: Path) -> Path:
    """A file of the cache, downloaded unless it is there; it never holds a file of another digest.

    Raises:
        DataError: What came is not what ``sha256`` names.
        InfrastructureError: The address can't be reached.
    """
    target = cache / f"{sha256[:16]}-{address.rpartition('/')[2]}"
    if target.is_file() and file_digest(target) == sha256:
        return target
    print(f"fetching {address}", flush=True)
    with publish_file(target) as temporary:
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as source, temporary.open("wb") as file:
                while chunk := source.read(CHUNK):
                    file.write(chunk)
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise InfrastructureError(
                f"{address}: {error}; fetch the file by hand and name its path under reference.networks"
            ) from None
        _same(address, file_digest(temporary), sha256)
    return target


def _same(where: object, found: str, wanted: str) -> None:
    if found != wanted:
        raise DataError(
            f"{where}: sha256 is {found[:12]}, wanted is {wanted[:12]}; it is another file or damaged: get the "
            "right one, or correct sha256 under reference.networks"
        )


def locate(name: Name, wanted: PretrainedNetwork, root: Path, cache: Path) -> Weights:
    """Weights of the settings as files of this machine, of the digest that is wanted.

    Args:
        name: Which network.
        wanted: Path, relative to ``root``, or address, and digest.
        root: The workspace.
        cache: Folder for what is downloaded.

    Raises:
        ConfigError: Nothing is there, or it is not of the kind that the network needs.
        DataError: Another digest.
        InfrastructureError: The address can't be reached.
    """
    where = f"params.yaml: 'reference.networks.{name}"
    sha256 = wanted.sha256 or (inception.SHA256 if name == "inception" else "")
    if "://" in wanted.weights:
        if name != "inception" or not wanted.weights.startswith(("https://", "http://", "file://")):
            what = "an http(s) address or a path" if name == "inception" else "a local folder"
            raise ConfigError(f"{where}.weights' is {wanted.weights!r}: {name} takes {what}")
        return Weights(name, fetch(wanted.weights, sha256, cache), sha256, "")
    path = root / wanted.weights
    files = [path] if name == "inception" else [path / WEIGHTS, path / "config.json"]
    for file in files:
        if not file.is_file():
            kind = "a file" if name == "inception" else f"a folder with {WEIGHTS} and config.json"
            raise ConfigError(f"{where}.weights' is {wanted.weights!r}: there is no file {file}; name {kind}")
    digest = file_digest(files[0])
    _same(files[0], digest, sha256 or digest)
    return Weights(name, path, digest, file_digest(files[1]) if name != "inception" else "")


def load(weights: Weights, device: str = "cpu") -> Pretrained:
    """The network of located weights, in eval mode and float32.

    Raises:
        ConfigError: ``transformers`` is not installed.
        DataError: The weights are not this network's.
    """
    if weights.name == "inception":
        network = inception.load(weights.path).to(device)
        return Pretrained(weights, inception.FEATURES, inception.prepare, network.forward, device)
    model = _transformer(weights).to(device)
    if weights.name == "dinov2":
        return Pretrained(
            weights,
            model.config.hidden_size,
            prepare_dinov2,
            lambda grid_BCHW: (model(pixel_values=grid_BCHW).pooler_output, None),
            device,
        )
    return Pretrained(
        weights,
        model.config.projection_dim,
        partial(prepare_clip, side=clip_side(weights)),
        lambda grid_BCHW: (model(pixel_values=grid_BCHW).image_embeds, None),
        device,
    )


KINDS = {"dinov2": ("dinov2",), "clip": ("clip", "clip_vision_model")}
"""What ``model_type`` in config.json may be."""


def _transformer(weights: Weights) -> nn.Module | Any:
    """A model of the transformers package from a local folder of safetensors."""
    try:
        from transformers import CLIPVisionModelWithProjection, Dinov2Model
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"reference.networks.{weights.name}: package {error.name!r} is not installed; "
            "run pip install 'genfoundry[pretrained]'"
        ) from None
    kind = read_json(weights.path / "config.json").get("model_type")
    if kind not in KINDS[weights.name]:
        raise DataError(
            f"{weights.path}: config.json says model_type {kind!r}; {weights.name} needs {KINDS[weights.name][0]!r}"
        )
    family: Any = Dinov2Model if weights.name == "dinov2" else CLIPVisionModelWithProjection
    model, info = family.from_pretrained(
        weights.path,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        # transformers would go on with random numbers in their place.
        lacking = sorted(info["missing_keys"])
        raise DataError(
            f"{weights.path}: {WEIGHTS} lacks {len(lacking)} tensors of {weights.name}, first {lacking[0]!r}"
        )
    return model.eval()
