"""Reference of grids: train the feature network, compare it with a linear classifier, store features of all splits."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.reference import Reference
from genfoundry.config.specs import SPLITS, GridSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import file_digest, publish_folder, write_json
from genfoundry.core.paths import DatasetPaths
from genfoundry.core.progress import progress
from genfoundry.evaluation.calibration import calibration
from genfoundry.evaluation.extraction.embedding import locate_networks, write_networks
from genfoundry.evaluation.extraction.spread import places
from genfoundry.evaluation.networks.domain import (
    PREPROCESSING,
    Classifier,
    Components,
    FeatureNetwork,
    Layout,
    as_grid,
    embed,
    repeatable,
    save,
)
from genfoundry.evaluation.subsample import subsample
from genfoundry.metrics import fid_domain, is_domain, kid_domain

TRAIN_BATCH = 128
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.05
VAL_EVERY = 50

ROWS_PER_FEATURE = 10
"""Fewer rows per feature and the error bars of the Frechet distance stop holding (measured)."""

LEAST_ROWS = 3
"""The kernel distance's error bar leaves one row out of at least three."""

ENOUGH_ROWS = 20_000
"""Training rows for the linear classifier and the components, whose cost is a full pass each step."""


class Grids(NamedTuple):
    """One split: stored levels and class numbers."""

    levels: np.ndarray
    """Stored levels (N, C, *shape), memory-mapped."""
    labels: np.ndarray | None
    """int64 (N,)."""


def read_grids(arrays: Path, split: str) -> Grids:
    """A split as the encode stage wrote it."""
    labels = arrays / f"{split}_labels.npy"
    levels = np.load(arrays / f"{split}.npy", mmap_mode="r")
    return Grids(levels, np.load(labels) if labels.is_file() else None)


def _batches(count: int, steps: int, seed: int) -> Iterator[np.ndarray]:
    """Row numbers of each training batch: a new permutation an epoch, its tail left out."""
    size, epoch, done = min(TRAIN_BATCH, count), 0, 0
    while True:
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(count)
        for start in range(0, count - size + 1, size):
            if done == steps:
                return
            yield order[start : start + size]
            done += 1
        epoch += 1


def _val_loss(network: FeatureNetwork, val: Grids) -> float:
    """Mean cross-entropy on the validation records, in nats."""
    return F.cross_entropy(_logits(network.eval(), val), torch.from_numpy(val.labels)).item()


def _logits(network: FeatureNetwork, grids: Grids) -> Tensor:
    _, logits = embed(network, grids.levels)
    assert logits is not None
    return torch.from_numpy(logits)


def train(layout: Layout, splits: dict[str, Grids], config: Reference) -> tuple[Classifier, int]:
    """A classifier of the training records and the step it was taken from.

    That of the lowest loss on the validation records; the last one where there are none.
    """
    grids, val = splits["train"], splits["val"]
    with repeatable(config.seed):
        network = Classifier(layout)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        labels = torch.from_numpy(grids.labels)
        best, best_step = float("inf"), 0
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with progress(config.steps, "feature network") as bar:
            for step, rows in enumerate(_batches(len(grids.levels), config.steps, config.seed), start=1):
                network.train()
                logits = network.classify(network.embed(as_grid(grids.levels[np.sort(rows)])))
                loss = F.cross_entropy(logits, labels[np.sort(rows)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                if step % VAL_EVERY == 0 or step == config.steps:
                    val_loss = _val_loss(network, val) if len(val.levels) else -step
                    if val_loss < best:
                        best, best_step = val_loss, step
                        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
                bar.advance(note=f"loss {loss.item():.3f}")
        network.load_state_dict(kept)
    return network.eval(), best_step


def linear_accuracy(splits: dict[str, Grids], classes: int) -> float:
    """Accuracy on the test records of multinomial logistic regression on the pixels, fitted to convergence."""
    rows = subsample(len(splits["train"].levels), ENOUGH_ROWS)
    inputs = as_grid(splits["train"].levels[rows]).flatten(1)
    labels = torch.from_numpy(splits["train"].labels[rows])
    with repeatable():
        weights = torch.zeros(inputs.shape[1], classes, requires_grad=True)
        offsets = torch.zeros(classes, requires_grad=True)
        optimizer = torch.optim.LBFGS([weights, offsets], max_iter=100, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            # One prior observation's weight on the penalty, as scikit-learn's default has it.
            loss = F.cross_entropy(inputs @ weights + offsets, labels) + (weights**2).sum() / (2 * len(rows))
            loss.backward()
            return loss

        optimizer.step(closure)
        with torch.no_grad():
            test = splits["test"]
            guesses = (as_grid(test.levels).flatten(1) @ weights + offsets).argmax(dim=1).numpy()
    return float((guesses == test.labels).mean())


def components(layout: Layout, grids: Grids) -> Components:
    """Principal components of the training records, largest first, each with its largest entry positive."""
    rows = subsample(len(grids.levels), ENOUGH_ROWS)
    inputs = as_grid(grids.levels[rows]).flatten(1).numpy().astype(np.float64)
    mean = inputs.mean(axis=0)
    _, _, axes = np.linalg.svd(inputs - mean, full_matrices=False)
    axes = axes[: layout.dimension]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    network = Components(layout)
    network.mean.copy_(torch.from_numpy(mean))
    network.components.copy_(torch.from_numpy(axes.T.copy()))
    return network.eval()


def _labelled(splits: dict[str, Grids], spec: GridSpec) -> bool:
    if len(spec.labels) < 2 or any(grids.labels is None for grids in splits.values()):
        return False
    return all(grids.labels.min(initial=0) >= 0 for grids in splits.values())


def choose(splits: dict[str, Grids], spec: GridSpec, config: Reference) -> tuple[FeatureNetwork, dict[str, Any]]:
    """The classifier where there are labels and it beats the linear one clearly, else the principal components.

    Returns:
        The network and the numbers that decided.
    """
    pixels = spec.channels * int(np.prod(spec.shape))
    dimension = max(2, min(config.features, len(splits["test"].levels) // ROWS_PER_FEATURE))
    classes = len(spec.labels)
    layout = Layout(
        kind="conv",
        channels=spec.channels,
        shape=spec.shape,
        dimension=dimension,
        classes=classes,
        preprocessing=PREPROCESSING[spec.storage],
    )
    numbers: dict[str, Any] = {}
    if _labelled(splits, spec):
        network, step = train(layout, splits, config)
        guesses = _logits(network, splits["test"]).argmax(dim=1).numpy()
        accuracy = float((guesses == splits["test"].labels).mean())
        linear = linear_accuracy(splits, classes)
        numbers = {"accuracy": accuracy, "linear_accuracy": linear, "best_step": step}
        if 1 - accuracy <= config.max_error_ratio * (1 - linear):
            return network, numbers
        print(
            f"reference: the network errs on {1 - accuracy:.1%} of the held-out records, a linear classifier on "
            f"{1 - linear:.1%}; principal components are used instead (raise reference.steps or max_error_ratio)"
        )
    dimension = min(dimension, pixels, len(splits["train"].levels))
    layout = layout.model_copy(update={"kind": "pca", "classes": 0, "dimension": dimension})
    return components(layout, splits["train"]), numbers


def floors(features: dict[str, np.ndarray], logits: dict[str, np.ndarray] | None) -> dict[str, float]:
    """Baseline: scores of real training records against the test records at equal n, as of a perfect model."""
    test = features["test"]
    train_features = features["train"][subsample(len(features["train"]), len(test))]
    found = {
        "fid_domain": fid_domain.score(train_features, test, fid_domain.Config()).value,
        "kid_domain": kid_domain.score(train_features, test, kid_domain.Config()).value,
        "n": len(train_features),
    }
    if logits:
        found["is_domain"] = is_domain.score(logits["test"], is_domain.Config()).value
    return found


def write_grid_reference(paths: DatasetPaths, spec: GridSpec, config: Reference) -> dict[str, Any]:
    """Publish the feature network with features and logits of all splits; returns the numbers for the report.

    Beside the rows, ``statistics.npz`` holds ``mu`` and ``sigma`` of the test features, as other FID tools read them;
    published networks have a folder each.
    """
    arrays = paths.arrays
    splits = {split: read_grids(arrays, split) for split in SPLITS}
    for split in ("train", "test"):
        if len(splits[split].levels) < LEAST_ROWS:
            raise DataError(
                f"{arrays}: {len(splits[split].levels)} records in split {split!r}; scores need at least {LEAST_ROWS}: "
                "change the shares under split, or add data"
            )
    networks = locate_networks(config, spec, paths)
    network, numbers = choose(splits, spec, config)
    features, logits = {}, {}
    with publish_folder(paths.reference) as folder:
        layout = save(network, folder)
        for split, grids in splits.items():
            features[split], classified = embed(network, grids.levels, f"{split} records")
            np.save(folder / f"{split}_features.npy", features[split])
            if classified is not None:
                logits[split] = classified
                np.save(folder / f"{split}_logits.npy", classified)
        test = features["test"].astype(np.float64)
        np.savez(folder / "statistics.npz", mu=test.mean(axis=0), sigma=np.cov(test, rowvar=False))
        records = {split: _records(arrays, split, grids) for split, grids in splits.items()}
        write_json(folder / "records.json", records)
        published = write_networks(networks, paths, folder, places(Execution()))
    if logits:
        found = calibration(logits["test"], splits["test"].labels)
        numbers["calibration"] = {"error": found.error, "se": found.se, "if_perfect": found.if_perfect}
    if published:
        numbers["networks"] = published
    return {
        "kind": layout.kind,
        "dimension": layout.dimension,
        "digest": layout.digest,
        "records": {split: len(grids.levels) for split, grids in splits.items()},
        "floor": floors(features, logits),
        **numbers,
    }


def _records(arrays: Path, split: str, grids: Grids) -> dict[str, Any]:
    return {"split": split, "n": len(grids.levels), "digest": file_digest(arrays / f"{split}.npy")}
