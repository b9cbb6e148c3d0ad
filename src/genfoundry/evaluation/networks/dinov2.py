"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193): a vision transformer that learnt from images without labels.

Stein et al. 2023 (arXiv:2306.04675) found distances in its features to follow people's judgement of realism better than
those in Inception's. Features are the class token after the last norm, D by the size of the chosen model.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from genfoundry.evaluation.networks import _transformers, _weights
from genfoundry.evaluation.networks._contract import Network, Weights
from genfoundry.evaluation.networks._pictures import BATCH, IMAGENET, TAKES, in_colour, normalised, resized, takes
from genfoundry.evaluation.networks._transformers import EXTRA, PACKAGE, Config

__all__ = ["BATCH", "EXTRA", "PACKAGE", "TAKES", "Config", "takes"]

TITLE = "DINOv2"
CAVEAT = "Models of other sizes give other scales."
LICENCE = "Apache-2.0 (facebook/dinov2-small to -giant)"
CLASSES = 0

SIDE = 224
"""Images as DINOv2 sees them in the papers that score with it."""


def locate(config: Config, root: Path, cache: Path) -> Weights:
    """model.safetensors and config.json of the folder that the settings name."""
    return _weights.folder("dinov2", config, root)


def preprocessing(weights: Weights) -> str:
    return f"bicubic-antialias-{SIDE} in float32, ImageNet mean and deviation; class token after the last norm"


def prepare(levels_BCHW: Tensor) -> Tensor:
    """Network input float32 (B, 3, 224, 224) of uint8 (B, 1 or 3, H, W)."""
    return normalised(in_colour(resized(levels_BCHW, SIDE)), IMAGENET)


def load(weights: Weights, device: str) -> Network:
    model: Any = _transformers.model("Dinov2Model", weights, "dinov2", ("dinov2",)).to(device)
    forward = lambda grid_BCHW: (model(pixel_values=grid_BCHW).pooler_output, None)  # noqa: E731
    return Network(model.config.hidden_size, prepare, forward, device, BATCH)
