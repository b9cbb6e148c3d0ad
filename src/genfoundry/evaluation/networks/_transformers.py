"""Models of the ``transformers`` package from a local folder of safetensors; no code of others is run."""

from typing import Any

import torch
from pydantic import Field

from genfoundry.config.specs import Section
from genfoundry.core.errors import DataError
from genfoundry.core.io import read_json
from genfoundry.evaluation.networks._contract import Weights

PACKAGE, EXTRA = "transformers", "pretrained"

WEIGHTS = "model.safetensors"
"""The one file of such a folder that holds weights."""


class Config(Section):
    """Where a published model lies."""

    weights: str
    """Folder of a transformers model, relative to the project."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """Expected sha256 of model.safetensors; empty accepts any."""


def model(family: str, weights: Weights, name: str, kinds: tuple[str, ...]) -> Any:
    """A model in eval mode and float32.

    Args:
        family: Class of transformers.
        weights: Located.
        name: Of the network, for errors.
        kinds: What ``model_type`` in config.json may be.

    Raises:
        DataError: The folder holds another model, or lacks tensors.
    """
    import transformers

    kind = read_json(weights.path / "config.json").get("model_type")
    if kind not in kinds:
        raise DataError(f"{weights.path}: config.json says model_type {kind!r}; {name} needs {kinds[0]!r}")
    loaded, info = getattr(transformers, family).from_pretrained(
        weights.path,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=torch.float32,
        output_loading_info=True,
    )
    if info["missing_keys"]:
        # transformers would initialise missing tensors at random.
        lacking = sorted(info["missing_keys"])
        raise DataError(f"{weights.path}: {WEIGHTS} lacks {len(lacking)} tensors of {name}, first {lacking[0]!r}")
    return loaded.eval()
