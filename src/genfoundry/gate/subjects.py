"""The models of a comparison: a key of params.yaml, a registered version, or a folder."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.config.params import Settings, read_architecture
from genfoundry.config.sections.sampling import default_generator, generator_of, release_digest
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, verify_folder
from genfoundry.core.paths import ModelPaths
from genfoundry.generation.modelfile import SEEN
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.store import Store
from genfoundry.tracking.versions import CHAMPION

REGISTERED = re.compile(r"^(?P<name>[a-z0-9][a-z0-9_-]*)(?:/(?P<version>\d+)|@(?P<alias>[A-Za-z][A-Za-z0-9_-]*))$")


@dataclass(frozen=True)
class Subject:
    """A trained model with its generator, its bytes verified."""

    name: str
    """As it was asked for."""
    model: Path
    digest: str
    """Of weights and generator, as the registry has it."""
    generator: Mapping[str, Any] = field(default_factory=dict)
    """How it draws: a registered version its own settings, a key those of params.yaml, a folder its family's."""
    key: str = ""
    """Its block of params.yaml; empty for a folder."""
    version: str = ""
    """``name/3`` if it came from the registry."""
    champion: bool = False
    """Whether it was asked for as the champion."""
    workspace: bool = False
    """Whether it is the current output of this workspace's pipeline."""

    @property
    def seen(self) -> np.ndarray | None:
        """uint64, sorted: hashes of the records that moved its weights; None if it does not say."""
        file = self.model / SEEN
        return np.load(file, allow_pickle=False) if file.is_file() else None

    @property
    def family(self) -> str:
        return read_architecture(self.model).family

    def as_json(self) -> dict[str, Any]:
        told = {"name": self.name, "digest": self.digest, "version": self.version}
        return told | {"generator": dict(self.generator)}


def resolve(text: str, root: Path, tree: Settings, store: Callable[[], Store], fetched: Path) -> Subject:
    """The model that a command-line argument names.

    Args:
        text: ``digits-vae``, ``digits-vae/3``, ``digits-vae@champion`` or a path to a model folder.
        root: Workspace.
        tree: params.yaml.
        store: Opens the MLflow store, if it is needed.
        fetched: Folder for models of the registry, by digest.

    Raises:
        ConfigError: It means nothing here.
        DataError: The model is damaged, or was never finished.
    """
    if text in tree.models:
        model, generator = ModelPaths(root, text).model, generator_of(tree, text)
        digest = release_digest(verify_folder(model), generator)
        return Subject(text, model, digest, generator, key=text, workspace=True)
    folder = Path(text) if Path(text).is_absolute() else root / text
    if (folder / MANIFEST).is_file():
        weights, generator = verify_folder(folder), default_generator(read_architecture(folder).family)
        return Subject(text, folder, release_digest(weights, generator), generator)
    match = REGISTERED.match(text)
    if not match:
        known = parts.nearest(text, list(tree.models))
        raise ConfigError(f"{text!r} is no model key, no version (name/3, name@champion) and no model folder{known}")
    name, wanted = match["name"], match["version"] or match["alias"]
    found = fetch_model(store(), name, wanted, fetched)
    key, version = name if name in tree.models else "", f"{name}/{found.version}"
    return Subject(text, found.folder, found.digest, found.generator, key, version, champion=wanted == CHAMPION)


def common_dataset(subjects: Sequence[Subject], tree: Settings) -> tuple[str, str]:
    """Key of the dataset that all are judged on, and of the model whose settings they are measured with.

    Raises:
        ConfigError: They belong to different datasets, or none of them to a block of params.yaml.
    """
    keys = [subject.key for subject in subjects if subject.key]
    if not keys:
        raise ConfigError("neither model has a block in params.yaml; name one by its key, to say how both are measured")
    datasets = {tree.models[key].dataset: key for key in reversed(keys)}
    if len(datasets) > 1:
        said = " against ".join(f"{key} learns {dataset}" for dataset, key in sorted(datasets.items()))
        raise ConfigError(f"models of different datasets can't be compared: {said}")
    return next(iter(datasets)), keys[0]


def seen_by(subjects: Sequence[Subject], trust_split: bool) -> np.ndarray:
    """uint64, sorted: records that any of them has seen.

    Args:
        subjects: Models to be compared.
        trust_split: Take it that a model that does not say has seen no record of the present test split.

    Raises:
        DataError: A model does not say what it has seen, and ``trust_split`` is off.
    """
    found = []
    for subject in subjects:
        hashes = subject.seen
        if hashes is not None:
            found.append(hashes)
        elif not trust_split:
            raise DataError(
                f"{subject.name}: its folder has no {SEEN}, so it may have learnt from the records it would be judged "
                "on; train it again, or give --trust-split if the present test split was always held out"
            )
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.uint64)
