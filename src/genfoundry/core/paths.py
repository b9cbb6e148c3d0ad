"""Paths of the workspace (one state of the project) and of the state root (runs, checkpoints and locks outlive it).

DVC runs a queued experiment in a copy of the workspace and names the main checkout in ``DVC_ROOT``; runs,
checkpoints and locks must survive that copy, so they live under the state root.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from genfoundry.core.errors import ConfigError


def workspace(start: Path | None = None) -> Path:
    """The nearest folder at or above ``start`` (default: the current one) that holds dvc.yaml and params.yaml."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "params.yaml").is_file():
            return folder
    raise ConfigError(f"{here}: no dvc.yaml with a params.yaml here or above; change into the project's folder")


def state_root(root: Path) -> Path:
    """Folder of mlruns/, checkpoints/ and locks/: GENFOUNDRY_STATE, else DVC_ROOT, else the workspace."""
    return Path(os.environ.get("GENFOUNDRY_STATE") or os.environ.get("DVC_ROOT") or root).resolve()


@dataclass(frozen=True)
class Paths:
    """Paths of one dataset, base or model, relative to the workspace ``root``."""

    root: Path
    key: str

    @property
    def state(self) -> Path:
        return state_root(self.root)


class DatasetPaths(Paths):
    """Paths of one dataset."""

    @property
    def folder(self) -> Path:
        return self.root / "artifacts/datasets" / self.key

    @property
    def reports(self) -> Path:
        return self.root / "reports/datasets" / self.key

    @property
    def records(self) -> Path:
        return self.folder / "records"

    @property
    def clean(self) -> Path:
        return self.folder / "clean"

    @property
    def unique(self) -> Path:
        return self.folder / "unique"

    @property
    def copies(self) -> Path:
        """Folder of duplicates.parquet and pairs.parquet."""
        return self.folder / "copies"

    @property
    def splits(self) -> Path:
        return self.folder / "splits"

    @property
    def arrays(self) -> Path:
        return self.folder / "arrays"

    @property
    def index(self) -> Path:
        """Folder of <split>.parquet: which record each row of the arrays is."""
        return self.folder / "index"

    @property
    def reference(self) -> Path:
        return self.folder / "reference"


class ComponentPaths(Paths):
    """Paths of a set of components; ``key`` is the set's name."""

    def file(self, role: str) -> Path:
        """File that names the model of a role, with its digest."""
        return self.root / "artifacts/components" / self.key / f"{role}.json"


class ModelPaths(Paths):
    """Paths of one model or base."""

    @property
    def folder(self) -> Path:
        return self.root / "artifacts/models" / self.key

    @property
    def reports(self) -> Path:
        return self.root / "reports/models" / self.key

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def features(self) -> Path:
        return self.folder / "features"

    @property
    def evaluation(self) -> Path:
        """Folder of the evidence behind the scores: protocols, influences, slices, nearest pairs."""
        return self.reports / "evaluation"
