"""Features of stored levels by the data set's own network and by published ones, over the devices of this machine."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from genfoundry.config.sections.reference import PretrainedNetwork, Reference
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json, write_json
from genfoundry.core.paths import DatasetPaths, Paths
from genfoundry.core.progress import progress
from genfoundry.evaluation.extraction import network, pretrained
from genfoundry.evaluation.extraction.pretrained import Name, Weights
from genfoundry.evaluation.extraction.spread import Job, Places, spread

NAMES: tuple[Name, ...] = get_args(Name)

Rows = tuple[int, int]
"""First row of a batch and the row behind its last."""

Embedded = tuple[np.ndarray, np.ndarray | None]
"""Features float32 (N, D) and logits float32 (N, K), or None."""


class Kept(NamedTuple):
    """What ``embed_file`` found."""

    features: np.ndarray
    logits: np.ndarray | None
    rows_per_second: float


def domain_job(reference: Path, levels: Path, device: str) -> Callable[[Rows], Embedded]:
    """Ready to embed rows of a file of levels by the network of a reference folder."""
    judge = network.load(reference).to(device)
    rows = np.load(levels, mmap_mode="r")
    return lambda piece: network.embed(judge, rows[slice(*piece)])


def pretrained_job(weights: Weights, levels: Path, device: str) -> Callable[[Rows], Embedded]:
    """Ready to embed rows of a file of levels by a published network."""
    judge = pretrained.load(weights, device)
    rows = np.load(levels, mmap_mode="r")
    return lambda piece: judge.embed(rows[slice(*piece)])


def embed_file(job: Job[Rows, Embedded], count: int, batch: int, at: Places, what: str) -> Kept:
    """Features and logits of all rows of a file.

    Args:
        job: ``domain_job`` or ``pretrained_job``, all but its device filled in.
        count: Rows in the file, at least 1.
        batch: Rows at once.
        at: Devices and threads.
        what: Name of the rows, for progress.
    """
    pieces = [(start, min(start + batch, count)) for start in range(0, count, batch)]
    started = time.monotonic()
    with progress(count, f"features of {what}") as bar:
        found = spread(job, pieces, at, lambda piece: bar.advance(piece[1] - piece[0]))
    elapsed_s = time.monotonic() - started
    logits = [part for _, part in found if part is not None]
    features = np.concatenate([part for part, _ in found])
    return Kept(features, np.concatenate(logits) if logits else None, count / elapsed_s)


def cache_of(paths: Paths) -> Path:
    """Where downloaded weights are kept: beside the locks, out of git, DVC and every output."""
    return paths.state / ".dvc/tmp/genfoundry/weights"


def write_networks(config: Reference, spec: GridSpec, paths: DatasetPaths, folder: Path, at: Places) -> dict[str, Any]:
    """Features of the training and test records by each published network that the settings name.

    Args:
        config: The reference section.
        spec: What the records are.
        paths: The data set.
        folder: Where to write ``<network>/``: the reference while it is being published.
        at: Devices and threads.

    Returns:
        The identity of each network, by name.

    Raises:
        ConfigError: The data are no images, or weights are not there.
        DataError: Weights of another digest or another network.
    """
    identities = {}
    for name, wanted in config.networks.items():
        if not pretrained.takes((spec.channels, *spec.shape)):
            raise ConfigError(
                f"params.yaml: 'datasets.{paths.key}.reference.networks.{name}': takes images of 1 or 3 channels, the "
                f"records are {spec.channels} x {' x '.join(map(str, spec.shape))}; remove it"
            )
        weights = pretrained.locate(name, wanted, paths.root, cache_of(paths))
        target = folder / name
        target.mkdir()
        for split in ("train", "test"):
            file = paths.arrays / f"{split}.npy"
            count = len(np.load(file, mmap_mode="r"))
            job = partial(pretrained_job, weights, file)
            kept = embed_file(job, count, pretrained.BATCH, at, f"{split} records by {name}")
            np.save(target / f"{split}_features.npy", kept.features)
            if kept.logits is not None:
                np.save(target / f"{split}_logits.npy", kept.logits)
        identities[name] = pretrained.identity(weights, kept.features.shape[1])
        write_json(target / "network.json", {**identities[name], "weights": wanted.weights})
    return identities


def reference_networks(paths: DatasetPaths) -> dict[Name, tuple[Weights, dict[str, Any]]]:
    """The published networks of a reference: their weights on this machine and their identity.

    Raises:
        ConfigError: The weights are not there any more.
        DataError: They changed since the reference was made.
    """
    found: dict[Name, tuple[Weights, dict[str, Any]]] = {}
    for name in NAMES:
        file = paths.reference / name / "network.json"
        if not file.is_file():
            continue
        identity = read_json(file)
        source = identity.pop("weights")
        remedy = f"bring them back, or run dvc repro --force reference@{paths.key}"
        wanted = PretrainedNetwork(weights=source, sha256=identity["digest"])
        try:
            weights = pretrained.locate(name, wanted, paths.root, cache_of(paths))
        except DataError as error:
            raise DataError(f"{name}: its weights changed since the reference was made; {remedy} ({error})") from None
        if weights.config != identity.get("config", ""):
            raise DataError(f"{name}: config.json of {source} changed since the reference was made; {remedy}")
        found[name] = weights, identity
    return found
