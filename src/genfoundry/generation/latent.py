"""Latent spaces of trained models: encode, decode, interpolate, traverse, and pictures of the results.

For every family with the ``Latent`` protocol; the functions take a loaded model and numpy arrays, and need no pipeline.
Letters: N records, C channels, H and W pixels, Z latent, S steps, D dimensions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import canonical_json, read_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.generator import to_levels, to_range
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.modalities.common.exhibits import LATENT
from genfoundry.modalities.common.lookup import media_of
from genfoundry.nn.contract import Latent

LATENTS = "latents.npy"

ACTIVE = 0.01
"""Least variance over records of an active unit's posterior mean (Burda et al. 2016, arXiv:1509.00519, section 5.1)."""

SHOWN, STEPS, SPAN = 10, 9, 3.0
"""Rows of a picture; columns of it; deviations of the prior to which a dimension is moved."""

BATCH = 256


def _model(loaded: LoadedModel) -> tuple[Latent, GridSpec]:
    if not isinstance(loaded.model, Latent) or not isinstance(loaded.spec, GridSpec):
        raise ConfigError(f"latent: family {loaded.family!r} has no latent space of grids; choose one such as vae")
    return loaded.model, loaded.spec


def _labels(loaded: LoadedModel, labels_N: np.ndarray | None, count: int, device: torch.device) -> Tensor | None:
    """Labels on the device, or None for a family that heeds none."""
    if "label" not in loaded.model.heeds:
        return None
    if labels_N is None or len(labels_N) != count:
        given = "none" if labels_N is None else len(labels_N)
        raise ConfigError(
            f"latent: the model is conditional, {count} labels are needed, got {given}; give each its own"
        )
    return torch.as_tensor(np.asarray(labels_N), dtype=torch.int64, device=device)


def posterior(
    loaded: LoadedModel, levels_NCHW: np.ndarray, labels_N: np.ndarray | None = None, batch: int = BATCH
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and log variance of the latent of each record: float32 (N, Z) each, for stored levels (N, C, *shape).

    Raises:
        ConfigError: The family has no latent space, or is conditional and lacks labels.
        DataError: The levels have another shape than the model's.
    """
    model, spec = _model(loaded)
    if levels_NCHW.dtype != spec.dtype or levels_NCHW.shape[1:] != (spec.channels, *spec.shape):
        raise DataError(
            f"latent: got {levels_NCHW.dtype} {levels_NCHW.shape}, the model takes {spec.storage} "
            f"(N, {spec.channels}, {', '.join(map(str, spec.shape))}); encode records of the model's data set"
        )
    device = next(loaded.model.parameters()).device
    labels = _labels(loaded, labels_N, len(levels_NCHW), device)
    found: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for start in range(0, len(levels_NCHW), batch):
            rows = slice(start, start + batch)
            grid = to_range(torch.tensor(levels_NCHW[rows]), spec).to(device)
            found.append(model.encode(grid, None if labels is None else labels[rows]))
    mean, log_var = (torch.cat(parts).float().cpu().numpy() for parts in zip(*found, strict=True))
    return mean, log_var


def encode(
    loaded: LoadedModel, levels_NCHW: np.ndarray, labels_N: np.ndarray | None = None, batch: int = BATCH
) -> np.ndarray:
    """Mean latent of each record: float32 (N, Z), for uint8 (N, C, H, W)."""
    return posterior(loaded, levels_NCHW, labels_N, batch)[0]


def decode(
    loaded: LoadedModel, latents_NZ: np.ndarray, labels_N: np.ndarray | None = None, batch: int = BATCH
) -> np.ndarray:
    """Mean picture of each latent: uint8 (N, C, H, W)."""
    model, spec = _model(loaded)
    device = next(loaded.model.parameters()).device
    labels = _labels(loaded, labels_N, len(latents_NZ), device)
    found = []
    with torch.inference_mode():
        for start in range(0, len(latents_NZ), batch):
            rows = slice(start, start + batch)
            latent = torch.as_tensor(latents_NZ[rows], dtype=torch.float32, device=device)
            found.append(to_levels(model.decode(latent, None if labels is None else labels[rows]), spec))
    return torch.cat(found).numpy()


def path(a_Z: np.ndarray, b_Z: np.ndarray, steps: int, spherical: bool = True) -> np.ndarray:
    """Latents from a to b, both included: float32 (S, Z).

    Spherical by default (Shoemake 1985; White 2016, arXiv:1609.04468): the middle of a straight line is shorter than
    its ends, and a normal law of many dimensions has next to nothing there. Lengths go from a's to b's evenly. Straight
    where there is no angle: one of both is zero, or they point in equal or opposite directions.
    """
    share_S1 = np.linspace(0, 1, steps, dtype=np.float64)[:, None]
    a, b = np.asarray(a_Z, np.float64), np.asarray(b_Z, np.float64)
    lengths = np.linalg.norm(a), np.linalg.norm(b)
    cosine = a @ b / (lengths[0] * lengths[1]) if all(lengths) else 1.0
    if not spherical or abs(cosine) > 1 - 1e-7:
        return ((1 - share_S1) * a + share_S1 * b).astype(np.float32)
    angle = math.acos(cosine)
    directions = np.sin((1 - share_S1) * angle) * a / lengths[0] + np.sin(share_S1 * angle) * b / lengths[1]
    return (directions / math.sin(angle) * ((1 - share_S1) * lengths[0] + share_S1 * lengths[1])).astype(np.float32)


def interpolate(
    loaded: LoadedModel,
    a_Z: np.ndarray,
    b_Z: np.ndarray,
    steps: int,
    spherical: bool = True,
    label: int | None = None,
) -> np.ndarray:
    """Pictures on the way between two latents: uint8 (S, C, H, W); a conditional family draws all with one label."""
    return decode(loaded, path(a_Z, b_Z, steps, spherical), None if label is None else np.full(steps, label))


def traverse(
    loaded: LoadedModel,
    latent_Z: np.ndarray,
    dimensions: Sequence[int],
    span: float,
    steps: int,
    label: int | None = None,
) -> np.ndarray:
    """Pictures of a latent with one dimension at a time set from -span to span: uint8 (D, S, C, H, W)."""
    moved_DSZ = np.tile(np.asarray(latent_Z, np.float32), (len(dimensions), steps, 1))
    for row, dimension in enumerate(dimensions):
        moved_DSZ[row, :, dimension] = np.linspace(-span, span, steps)
    count = len(dimensions) * steps
    levels = decode(loaded, moved_DSZ.reshape(count, -1), None if label is None else np.full(count, label))
    return levels.reshape(len(dimensions), steps, *levels.shape[1:])


@dataclass(frozen=True)
class Usage:
    """How much of a latent space is used."""

    kl_Z: np.ndarray
    """Mean over records of each dimension's KL from the standard normal prior, in nats: float64 (Z,)."""
    active: int
    """Dimensions whose posterior mean varies over records by more than ``ACTIVE``."""

    @property
    def order(self) -> list[int]:
        """Dimensions, most used first."""
        return [int(dimension) for dimension in np.argsort(-self.kl_Z, kind="stable")]


def usage(mean_NZ: np.ndarray, log_var_NZ: np.ndarray) -> Usage:
    """How much of the latent space the posteriors of N records use."""
    mean, log_var = mean_NZ.astype(np.float64), log_var_NZ.astype(np.float64)
    kl_Z = 0.5 * (mean**2 + np.exp(log_var) - 1 - log_var).mean(0)
    return Usage(kl_Z, int((mean.var(0) > ACTIVE).sum()))


def find_latents(model: ModelPaths, dataset: DatasetPaths, ids: Sequence[str]) -> np.ndarray:
    """Mean latents of test records by their ids, as the sample stage left them: float32 (len(ids), Z).

    Raises:
        DataError: The model's family has no latents, or an id is no test record.
    """
    latents = model.samples / LATENTS
    if not latents.is_file():
        raise DataError(f"{latents}: no such file; run dvc repro, with a family that has a latent space, such as vae")
    rows = read_table(dataset.index / "test.parquet", ["row", "id"]).set_index("id")["row"]
    unknown = [name for name in ids if name not in rows.index]
    if unknown:
        raise DataError(f"{dataset.index}: {unknown[0]!r} is no test record; see the ids in test.parquet")
    return np.load(latents)[rows.loc[list(ids)].to_numpy()]


def write_latents(loaded: LoadedModel, arrays: Path, artifacts: Path, report: Path) -> None:
    """Add ``latents.npy`` of the test records to a model's samples, and pictures and ``latent.json`` to their report.

    Nothing for a family without a latent space of grids.
    """
    if not isinstance(loaded.model, Latent) or not isinstance(loaded.spec, GridSpec):
        return
    levels = np.load(arrays / "test.npy", mmap_mode="r")
    labels = np.load(arrays / "test_labels.npy") if (arrays / "test_labels.npy").is_file() else None
    mean_NZ, log_var_NZ = posterior(loaded, levels, labels)
    np.save(artifacts / LATENTS, mean_NZ)
    used = usage(mean_NZ, log_var_NZ)
    pairs = _pairs(labels, len(levels))
    firsts = [first for first, _ in pairs]
    shown = used.order[: max(min(used.active, SHOWN), 1)]

    def rows(numbers: list[int]) -> np.ndarray | None:
        return None if labels is None else labels[numbers]

    def label(row: int) -> int | None:
        return None if labels is None else int(labels[row])

    both = [np.asarray(levels[firsts]), decode(loaded, mean_NZ[firsts], rows(firsts))]
    between = [interpolate(loaded, mean_NZ[a], mean_NZ[b], STEPS, label=label(a)) for a, b in pairs]
    moved = traverse(loaded, mean_NZ[0], shown, SPAN, STEPS, label(0))
    media = media_of(loaded.spec)
    for name, shown_NCHW, columns in (
        ("reconstruction", both, len(firsts)),
        ("interpolation", between, STEPS),
        ("traversal", moved, STEPS),
    ):
        media.sheet(np.concatenate(shown_NCHW), columns).save(report / name)
    (report / LATENT).write_bytes(canonical_json(_facts(used, pairs, shown)))


def _facts(used: Usage, pairs: list[tuple[int, int]], shown: list[int]) -> dict[str, Any]:
    """Contents of ``latent.json``: test rows that the pictures show, and how many dimensions are active."""
    return {
        "latent": len(used.kl_Z),
        "active_units": used.active,
        "kl": [round(float(kl), 6) for kl in used.kl_Z],
        "reconstructed": [first for first, _ in pairs],
        "interpolated": [list(pair) for pair in pairs],
        "traversed": {"row": 0, "dimensions": shown, "span": SPAN, "steps": STEPS},
    }


def _pairs(labels_N: np.ndarray | None, count: int) -> list[tuple[int, int]]:
    """Rows to show, two by two: the first two records of each label (a pair must share it), else neighbours."""
    if labels_N is None:
        return [(row, (row + 1) % count) for row in range(min(count, SHOWN))]
    found = [np.flatnonzero(labels_N == label)[:2] for label in np.unique(labels_N)]
    return [(int(rows[0]), int(rows[-1])) for rows in found[:SHOWN]]
