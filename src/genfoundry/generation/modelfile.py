"""Read and write a model folder: weights (safetensors), config, spec, tokenizer; no code, no pickle."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genfoundry.config.params import CONFIG, parse, read_architecture
from genfoundry.config.specs import SPEC, DataSpec, Section, read_spec
from genfoundry.core import parts, pin
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import FORMAT, MANIFEST, canonical_json, verify_folder
from genfoundry.modalities.common.tokens import FILE as TOKENIZER
from genfoundry.nn.contract import Model

WEIGHTS = "weights.safetensors"

COMPONENTS = "components"
"""Folder of the models that this one needs to draw a sample, one published folder a role."""

SEEN = "seen.npy"
"""uint64, sorted: first 8 bytes, big-endian, of the sha256 of every record that influenced the weights: train, val, and
those of the model it started from. By it two models are judged on records that neither has seen.
"""


@dataclass(frozen=True)
class LoadedModel:
    """A model in eval mode with what it was built from."""

    model: Model
    spec: DataSpec
    family: str
    config: Section


def default_device() -> str:
    """The GPU if torch sees one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def is_empty(folder: Path) -> bool:
    """True for the base ``scratch``: a published folder without weights."""
    return not (folder / WEIGHTS).exists()


def build(
    family: str, options: Section, spec: DataSpec, seed: int, components: Mapping[str, Model] | None = None
) -> Model:
    """A fresh model whose weights follow from the seed.

    Args:
        family: Name of its file under models/.
        options: The family's settings.
        spec: Of its data.
        seed: Of its weights.
        components: Models by role; a family that names ``COMPONENTS`` is built on those.
    """
    module = parts.load("models", family)
    torch.manual_seed(seed)
    if not hasattr(module, "COMPONENTS"):
        model: Model = module.build(options, spec)
        return model
    mine = {role: (components or {})[role] for role in module.COMPONENTS}
    model = module.build(options, spec, mine)
    model.components = mine
    return model


def seen(arrays: Path, init: Path | None) -> np.ndarray | None:
    """Contents of ``SEEN``; None if it is not known which records the starting model has seen."""
    hashes = [np.load(arrays / f"{split}_records.npy") for split in ("train", "val")]
    if init is not None and not is_empty(init):
        if not (init / SEEN).is_file():
            return None
        hashes.append(np.load(init / SEEN))
    return np.unique(np.concatenate(hashes))


def write_model(
    folder: Path,
    state: dict[str, torch.Tensor],
    family: str,
    options: Section,
    arrays: Path,
    init: Path | None = None,
    components: Mapping[str, Path] | None = None,
) -> None:
    """Write a model into a folder that is being published.

    Args:
        folder: Where to.
        state: Its weights.
        family: Name of its file under models/.
        options: The family's settings.
        arrays: What it learnt from: gives spec, tokenizer and the hashes of the records.
        init: The model it started from, if any.
        components: Folders of models by role, of which those are copied that the family itself needs.
    """
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    save_file(weights, folder / WEIGHTS)
    config = {"format": FORMAT, "family": family, "options": options.model_dump(mode="json")}
    (folder / CONFIG).write_bytes(canonical_json(config))
    for name in (SPEC, TOKENIZER):
        if (arrays / name).exists():
            shutil.copyfile(arrays / name, folder / name)
    if (records := seen(arrays, init)) is not None:
        np.save(folder / SEEN, records)
    for role in getattr(parts.load("models", family), "COMPONENTS", ()):
        assert components is not None
        (folder / COMPONENTS / role).mkdir(parents=True)
        copy_model(components[role], folder / COMPONENTS / role)


def load_model(folder: Path, device: str = "cpu") -> LoadedModel:
    """The model of a published folder, every byte checked against its manifest.

    Raises:
        DataError: The folder is damaged, or its weights don't fit its config.
        ConfigError: The folder holds no model.
        InfrastructureError: This process is to be held to AVX2, and a library isn't.
    """
    pin.hold()
    verify_folder(folder)
    if is_empty(folder):
        raise ConfigError(f"{folder}: holds no {WEIGHTS}; name a trained model")
    return _loaded(folder, device)


def _loaded(folder: Path, device: str) -> LoadedModel:
    """A model whose files were verified, those of its components among them."""
    config, spec = read_architecture(folder), read_spec(folder)
    options = parse(parts.load("models", config.family).Config, config.options, f"{folder / CONFIG}: options")
    places = sorted((folder / COMPONENTS).iterdir()) if (folder / COMPONENTS).is_dir() else []
    components = {place.name: _loaded(place, device).model.requires_grad_(False) for place in places}
    model = build(config.family, options, spec, 0, components)
    load_weights(model, folder)
    return LoadedModel(model.to(device).eval(), spec, config.family, options)


def load_start(model: Model, family: str, folder: Path, arrays: Path) -> None:
    """Put the weights of ``init_from`` into a new model, after all that must agree was compared.

    Args:
        model: The new model.
        family: Its family.
        folder: ``model/`` of the one it starts from.
        arrays: What it will be trained on.

    Raises:
        ConfigError: Another family, shape, tokenizer, or, for a conditional family, other labels: the same number would
            mean something else.
        DataError: The folder is damaged.
    """
    verify_folder(folder)
    theirs = read_architecture(folder).family
    if theirs != family:
        raise ConfigError(
            f"init_from: {folder} is of family {theirs!r}, this model of {family!r}; start from one of the same family"
        )
    if (arrays / TOKENIZER).exists() and (arrays / TOKENIZER).read_bytes() != (folder / TOKENIZER).read_bytes():
        raise ConfigError(
            f"init_from: {folder} was trained with another tokenizer than {arrays / TOKENIZER}: its token numbers mean "
            "other text; start from a model of the same data set, or from scratch, or have the data encoded with its "
            "tokenizer (presets/tokenizers)"
        )
    mine, before = map(read_spec, (arrays, folder))
    if "label" in model.heeds and mine.labels != before.labels:
        raise ConfigError(
            f"init_from: {folder} was conditioned on the labels {', '.join(before.labels) or 'none'}, the data set has "
            f"{', '.join(mine.labels)}; start from a model of the same labels, or from scratch"
        )
    for name in set(model.heeds) - {"label"}:
        if name not in before.conditions or not mine.conditions[name].means(before.conditions[name]):
            raise ConfigError(
                f"init_from: condition {name!r} of {folder} is {before.conditions.get(name)!r}, of the data set "
                f"{mine.conditions[name]!r}; start from a model of the same conditions, or from scratch"
            )
    load_weights(model, folder)


def load_weights(model: Model, folder: Path) -> None:
    """Put a folder's weights into a model of the same shape."""
    try:
        weights = load_file(folder / WEIGHTS)
    except SafetensorError as error:
        raise DataError(f"{folder / WEIGHTS}: not safetensors ({error}); run dvc repro") from None
    mine = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    theirs = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if mine != theirs:
        name = sorted(set(mine.items()) ^ set(theirs.items()))[0][0]
        raise ConfigError(
            f"{folder}: its tensor {name!r} is {theirs.get(name, 'absent')}, the model wants {mine.get(name, 'none')}; "
            "init_from needs the same family, options and data spec"
        )
    model.load_state_dict(weights)


def copy_model(source: Path, folder: Path) -> None:
    """Copy a published model's files, without its manifest, into a folder that is being published."""
    verify_folder(source)
    for file in sorted(source.iterdir()):
        if file.is_dir():
            shutil.copytree(file, folder / file.name)
        elif file.name != MANIFEST:
            shutil.copyfile(file, folder / file.name)
