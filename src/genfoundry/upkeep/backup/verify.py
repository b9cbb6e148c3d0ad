"""`genfoundry verify`: hash every stored byte again, to detect silent corruption."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from genfoundry.core.errors import DataError, InfrastructureError
from genfoundry.tracking import tags
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.removal import all_models, all_versions
from genfoundry.tracking.store import embedded_uri, open_store, store_uri
from genfoundry.upkeep import dvccache
from genfoundry.upkeep.backup.depot import Depot


@dataclass
class Verified:
    """What was checked, and its faults."""

    objects: int = 0
    models: int = 0
    faults: list[str] = field(default_factory=list)
    """A line each, with the remedy."""


def verify(root: Path, state: Path, project: str, backups: Sequence[Path] = (), remove: bool = False) -> Verified:
    """Hash DVC's cache, all registered models and folders of backups.

    Args:
        root: Checkout.
        state: State root.
        project: Name of the project.
        backups: Folders of backups.
        remove: Delete damaged objects of DVC's cache, so that DVC fetches or makes them again.
    """
    done = Verified()
    cache = dvccache.cache_folder(root)
    for md5, path in dvccache.objects(cache):
        done.objects += 1
        if dvccache.damaged(md5, path):
            done.faults.append(_object_fault(path, remove))
    if store_uri(state) != embedded_uri(state) or (state / "mlruns/mlflow.db").is_file():
        _models(state, project, done)
    for folder in backups:
        done.faults += Depot(folder).faults()
    return done


def _object_fault(path: Path, remove: bool) -> str:
    if remove:
        path.unlink()
        return f"{path}: damaged, removed; dvc pull fetches it again, dvc repro makes it again"
    return f"{path}: damaged; remove it (genfoundry verify --remove), then dvc pull, or dvc repro, or restore a backup"


def _models(state: Path, project: str, done: Verified) -> None:
    store = open_store(state, project)
    names = {model.name for model in all_models(store) if tags.DIGEST in model.tags}
    for version in all_versions(store, names):
        done.models += 1
        # One at a time: all together may not fit beside the originals.
        with tempfile.TemporaryDirectory() as folder:
            try:
                fetch_model(store, version.name, str(version.version), Path(folder))
            except (DataError, InfrastructureError) as error:
                done.faults.append(
                    f"{error}; restore a backup, or genfoundry reproduce {version.name}/{version.version}"
                )
