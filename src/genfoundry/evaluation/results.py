"""Read the stages' outputs in ``reports/`` for the comparison page; missing files are listed on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.evaluation.details import read_details
from genfoundry.evaluation.influences import INFLUENCES, read_influences
from genfoundry.metrics._record import PROTOCOLS, SCORES, read_protocols_file, read_scores_file
from genfoundry.modalities.common.exhibits import Exhibit, exhibits, read_latent
from genfoundry.training.reports import HISTORY, TRAIN, Curve, read_curves, read_train

LATENT_PICTURES = ("reconstruction", "interpolation", "traversal")
"""Pictures of a latent space, as the sample stage names them."""


@dataclass
class ModelResult:
    """Everything about one model that the page shows."""

    key: str
    dataset: str
    family: str
    settings: Mapping[str, Any]
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    curves: Mapping[str, Curve] = field(default_factory=dict)
    latent: Mapping[str, Any] = field(default_factory=dict)
    """Use of the latent space, and which records its pictures show; empty for a family without one."""
    latent_pictures: Mapping[str, bytes] = field(default_factory=dict)
    influences: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    slices: Mapping[str, Any] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)
    """Metrics with too few data, and the reason."""
    pairs: bytes = b""
    """Picture of the nearest pairs."""
    distances: bytes = b""
    nearest: Mapping[str, Any] = field(default_factory=dict)
    samples: list[Exhibit] = field(default_factory=list)
    """The first samples, as their modality shows them."""
    missing: list[str] = field(default_factory=list)
    """Files that were not there, and the stage that writes them."""

    def higher_is_better(self, key: str) -> bool | None:
        """Direction of a score, as its protocol has it; None where neither end is good."""
        direction = self.protocols.get(key, {}).get("higher_is_better")
        return None if direction is None else bool(direction)


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def read_model(folder: Path, key: str, dataset: str, family: str, settings: Mapping[str, Any]) -> ModelResult:
    """Results of one model under ``reports/models/<key>``."""
    result = ModelResult(key, dataset, family, settings)
    result.scores, result.protocols = read_scores_file(folder), read_protocols_file(folder / "evaluation")
    for file in (folder / SCORES, folder / "evaluation" / PROTOCOLS):
        if not file.is_file():
            result.missing.append(f"{file.parent.name}/{file.name} (stage evaluate)")
    result.train = read_train(folder)
    if not result.train:
        result.missing.append(f"{folder.name}/{TRAIN} (stage train)")
    result.curves = read_curves(folder)
    if not result.curves:
        result.missing.append(f"{folder.name}/{HISTORY} (stage train)")
    result.influences = read_influences(folder / "evaluation" / INFLUENCES)
    result.slices, result.not_measured, result.nearest = read_details(folder / "evaluation")
    result.pairs, result.distances = (
        _bytes(folder / "evaluation/pairs.png"),
        _bytes(folder / "evaluation/distances.png"),
    )
    result.latent = read_latent(folder / "samples")
    result.latent_pictures = {name: _bytes(folder / f"samples/{name}.png") for name in LATENT_PICTURES}
    result.samples = exhibits(folder / "samples")
    if not result.samples:
        result.missing.append(f"{folder.name}/samples (stage sample)")
    return result
