"""Features of stored levels by the data set's own network and by published ones, over the devices of this machine."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from genfoundry.config.params import parse
from genfoundry.config.sections.reference import Reference
from genfoundry.config.specs import DataSpec, Section
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json, write_json
from genfoundry.core.paths import DatasetPaths, Paths
from genfoundry.core.progress import progress
from genfoundry.evaluation.extraction.spread import Places, spread
from genfoundry.evaluation.networks import DOMAIN, network_faults, published, require
from genfoundry.evaluation.networks._contract import Embedded, Weights, identity

NETWORK = "network.json"

Rows = tuple[int, int]
"""First row of a batch and the row behind its last."""


class Located(NamedTuple):
    """A published network that the settings name, its weights on this machine."""

    part: ModuleType
    config: Section
    weights: Weights


class Used(NamedTuple):
    """A network of a reference."""

    name: str
    weights: Weights
    identity: dict[str, Any]

    @property
    def prefix(self) -> str:
        """Prefix of its files; empty for the data set's own network."""
        return "" if self.name == DOMAIN else f"{self.name}_"


class Kept(NamedTuple):
    """Features and logits of a file of levels."""

    features: np.ndarray
    logits: np.ndarray | None
    rows_per_second: float


def cache_of(paths: Paths) -> Path:
    """Where downloaded weights are kept: beside the locks, out of git, DVC and every output."""
    return paths.state / ".dvc/tmp/genfoundry/weights"


def _job(name: str, weights: Weights, levels: Path, device: str) -> Callable[[Rows], Embedded]:
    """Load a network; returns a function that embeds rows of a file of levels."""
    network = parts.load("networks", name).load(weights, device)
    rows = np.load(levels, mmap_mode="r")
    return lambda piece: network.embed(rows[slice(*piece)])


def embed_file(name: str, weights: Weights, levels: Path, at: Places, what: str) -> Kept:
    """Features and logits of all rows of a file, at least 1.

    Args:
        name: Of the network.
        weights: Its own.
        levels: File of stored levels.
        at: Devices and threads.
        what: Name of the rows, for progress.
    """
    count, batch = len(np.load(levels, mmap_mode="r")), parts.load("networks", name).BATCH
    pieces = [(start, min(start + batch, count)) for start in range(0, count, batch)]
    started = time.monotonic()
    with progress(count, f"features of {what}") as bar:
        found = spread(partial(_job, name, weights, levels), pieces, at, lambda piece: bar.advance(piece[1] - piece[0]))
    elapsed_s = time.monotonic() - started
    logits = [part for _, part in found if part is not None]
    features = np.concatenate([part for part, _ in found])
    return Kept(features, np.concatenate(logits) if logits else None, count / elapsed_s)


def locate_networks(config: Reference, spec: DataSpec, paths: DatasetPaths) -> dict[str, Located]:
    """The published networks that the settings name, by name: ready before anything long runs.

    Raises:
        ConfigError: An unknown network or option, data it can't see, or weights that are not there; of settings all
            faults at once.
        DataError: Weights of another digest.
    """
    where = f"datasets.{paths.key}.reference.networks"
    if wrong := network_faults(config.networks, where):
        raise ConfigError("\n".join(wrong))
    found = {}
    for name, options in config.networks.items():
        part = parts.load("networks", name)
        if not part.takes(spec):
            raise ConfigError(f"params.yaml: '{where}.{name}': takes {part.TAKES}, the records are {spec}; remove it")
        typed = parse(part.Config, options, f"{where}.{name}")
        found[name] = Located(part, typed, part.locate(typed, paths.root, cache_of(paths)))
    return found


def write_networks(networks: dict[str, Located], paths: DatasetPaths, folder: Path, at: Places) -> dict[str, Any]:
    """Features of the training and test records by published networks.

    Args:
        networks: By name.
        paths: The data set.
        folder: Where to write ``<network>/``: the reference while it is being published.
        at: Devices and threads.

    Returns:
        The identity of each network, by name.

    Raises:
        DataError: Weights of another network.
    """
    identities = {}
    for name, (part, config, weights) in networks.items():
        target = folder / name
        target.mkdir()
        for split in ("train", "test"):
            kept = embed_file(name, weights, paths.arrays / f"{split}.npy", at, f"{split} records by {name}")
            np.save(target / f"{split}_features.npy", kept.features)
            if kept.logits is not None:
                np.save(target / f"{split}_logits.npy", kept.logits)
        identities[name] = identity(name, weights, kept.features.shape[1], part.preprocessing(weights))
        write_json(target / NETWORK, {**identities[name], "options": config.model_dump(mode="json")})
    return identities


def reference_networks(paths: DatasetPaths) -> list[Used]:
    """The networks of a reference, the data set's own first: weights on this machine and identity.

    Raises:
        ConfigError: The weights are not there any more.
        DataError: They changed since the reference was made.
    """
    own = parts.load("networks", DOMAIN)
    weights = own.locate(own.Config(), paths.reference, cache_of(paths))
    found = [Used(DOMAIN, weights, own.read_layout(paths.reference).identity)]
    for name in published():
        file = paths.reference / name / NETWORK
        if file.is_file():
            found.append(_published(name, read_json(file), paths))
    return found


def _published(name: str, kept: dict[str, Any], paths: DatasetPaths) -> Used:
    options, part = kept.pop("options"), parts.load("networks", name)
    require(name, part.PACKAGE, part.EXTRA)
    remedy = f"bring them back, or run dvc repro --force reference@{paths.key}"
    config = parse(part.Config, options, f"datasets.{paths.key}.reference.networks.{name}")
    try:
        weights = part.locate(config, paths.root, cache_of(paths))
    except DataError as error:
        raise DataError(f"{name}: its weights changed since the reference was made; {remedy} ({error})") from None
    for what, here, then in (
        ("weights", weights.digest, kept["digest"]),
        ("config.json", weights.config, kept.get("config", "")),
    ):
        if here != then:
            changed = f"its {what} changed since the reference was made"
            raise DataError(f"{name}: {changed}: {weights.path} has {here[:12]}, it was {then[:12]}; {remedy}")
    return Used(name, weights, kept)
