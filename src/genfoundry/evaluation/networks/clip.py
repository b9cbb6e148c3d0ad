"""CLIP's image embedding (Radford et al. 2021, arXiv:2103.00020): a network that learnt images by their captions.

Kynkäänniemi et al. 2023 (arXiv:2203.06026), section 5, ask for it beside FID: Inception's features reward samples that
look like ImageNet's classes, CLIP's much less. Features are the projected embedding, not normalised.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genfoundry.core.io import read_json
from genfoundry.evaluation.networks import _transformers, _weights
from genfoundry.evaluation.networks._contract import Network, Weights
from genfoundry.evaluation.networks._pictures import BATCH, TAKES, in_colour, normalised, takes
from genfoundry.evaluation.networks._transformers import EXTRA, PACKAGE, Config

__all__ = ["BATCH", "EXTRA", "PACKAGE", "TAKES", "Config", "takes"]

TITLE = "CLIP"
CAVEAT = "CLIP crops images that are not square, and has learnt from captions: what they leave out it sees less well."
LICENCE = "MIT (openai/clip-vit-*)"
CLASSES = 0

STATISTICS = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of each channel, as published with the weights."""


def locate(config: Config, root: Path, cache: Path) -> Weights:
    """model.safetensors and config.json of the folder that the settings name."""
    return _weights.folder("clip", config, root)


def preprocessing(weights: Weights) -> str:
    return f"pillow-bicubic-{side(weights)}, centre crop, CLIP mean and deviation; projected, not normalised"


def side(weights: Weights) -> int:
    """Side of the images that the model takes; 224 where its config.json leaves it out, as transformers has it."""
    config = read_json(weights.path / "config.json")
    return int(config.get("vision_config", config).get("image_size", 224))


def prepare(levels_BCHW: Tensor, side: int) -> Tensor:
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
    return normalised(in_colour(torch.from_numpy(np.array(images)).float()), STATISTICS)


def load(weights: Weights, device: str) -> Network:
    kinds = ("clip", "clip_vision_model")
    model: Any = _transformers.model("CLIPVisionModelWithProjection", weights, "clip", kinds).to(device)
    forward = lambda grid_BCHW: (model(pixel_values=grid_BCHW).image_embeds, None)  # noqa: E731
    return Network(model.config.projection_dim, partial(prepare, side=side(weights)), forward, device, BATCH)
