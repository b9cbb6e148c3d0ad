"""Delete runs, artifacts and registered versions from MLflow for good; an interrupted deletion is completed later.

MLflow's own delete only hides (tried): rows and artifacts stay until `mlflow gc`. Here an entity is first tagged for
deletion, then hidden, then its artifacts are deleted, then its row; the next upkeep goes on with tagged ones. On a
server the row stays hidden, as only its owner can run `mlflow gc`.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from genfoundry.core.io import MANIFEST
from genfoundry.state.locks import locked
from genfoundry.tracking import tags
from genfoundry.tracking.store import Store
from genfoundry.tracking.versions import Registered

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion


def pages(search: Callable[..., Any], *arguments: Any, **more: Any) -> Iterator[Any]:
    """All entries of a search that answers in pages."""
    token = None
    while True:
        page = search(*arguments, page_token=token, **more)
        yield from page
        token = page.token
        if not token:
            return


def all_runs(store: Store, query: str = "", hidden: bool = False) -> list["Run"]:
    """Runs of the project, newest first; ``hidden``: those that were deleted but for their row."""
    from mlflow.entities import ViewType

    view = ViewType.DELETED_ONLY if hidden else ViewType.ACTIVE_ONLY
    return list(
        pages(store.client.search_runs, [store.experiment], filter_string=query, run_view_type=view, max_results=500)
    )


def all_models(store: Store) -> list["LoggedModel"]:
    """LoggedModels of the project that were not deleted."""
    return list(pages(store.client.search_logged_models, [store.experiment]))


def all_versions(store: Store, names: Iterable[str]) -> list["ModelVersion"]:
    """Registered versions of these models."""
    return [
        version
        for name in sorted(set(names))
        for version in pages(store.client.search_model_versions, f"name = '{name}'", max_results=200)
    ]


def _local(address: str) -> Path | None:
    """Folder of an artifact address on this machine; None if a server has it."""
    parsed = urlparse(address)
    if parsed.scheme not in ("", "file"):
        return None
    return Path(unquote(parsed.path))


def without_files(store: Store, names: Iterable[str]) -> list[str]:
    """Addresses of versions of these models whose manifest is not in the store, such as ``digits-vae/3``.

    A server is asked about versions with an alias only, as each costs a request.
    """
    places = {model.model_id: model.artifact_location for model in all_models(store)}
    aliased = {name: set(Registered(store, name).aliases().values()) for name in sorted(set(names))}
    lost = []
    for version in all_versions(store, names):
        model_id, number = version.source.removeprefix("models:/"), str(version.version)
        folder = _local(places.get(model_id, ""))
        if model_id in places and folder is None and number in aliased[version.name]:
            there = any(file.path == MANIFEST for file in store.client.list_logged_model_artifacts(model_id))
        else:
            there = folder is None or (model_id in places and (folder / MANIFEST).is_file())
        if not there:
            lost.append(f"{version.name}/{number}")
    return lost


def _repository(store: Store, address: str) -> Any:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    return get_artifact_repository(address, tracking_uri=store.uri)


def artifact_bytes(store: Store, address: str) -> int:
    """Size of all artifacts below an address."""
    folder = _local(address)
    if folder is not None:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    repository = _repository(store, address)

    def below(path: str | None) -> int:
        return sum(below(file.path) if file.is_dir else file.file_size or 0 for file in repository.list_artifacts(path))

    return below(None)


def _delete_artifacts(store: Store, address: str, owner: str) -> None:
    folder = _local(address)
    if folder is None:
        _repository(store, address).delete_artifacts()
        return
    # .../<run id>/artifacts: the folder of the run goes with it.
    folder = folder.parent if folder.parent.name == owner else folder
    shutil.rmtree(folder, ignore_errors=True)


def _hard(store: Store, method: str, identity: str) -> None:
    """Drop the row, which only a client that owns the database can."""
    backend = store.client._tracking_client.store
    if hasattr(backend, method):
        getattr(backend, method)(identity)


def erase_run(store: Store, run: "Run", reason: str) -> None:
    """Delete a run and its artifacts."""
    run_id = run.info.run_id
    if run.info.lifecycle_stage == "active":
        store.client.set_tag(run_id, tags.UPKEEP, reason)
        store.client.delete_run(run_id)
    _delete_artifacts(store, run.info.artifact_uri, run_id)
    _hard(store, "_hard_delete_run", run_id)


def erase_version(store: Store, version: "ModelVersion", reason: str) -> bool:
    """Delete a registered version and its LoggedModel; False if an alias means it by now."""
    with locked(store.lock):
        if str(version.version) in Registered(store, version.name).aliases().values():
            return False
        model_id = version.source.removeprefix("models:/")
        # Without its digest nobody takes it for a whole model any more.
        store.client.set_logged_model_tags(model_id, {tags.UPKEEP: reason, tags.DIGEST: ""})
        store.client.delete_model_version(version.name, version.version)
    erase_model(store, store.client.get_logged_model(model_id))
    return True


def erase_model(store: Store, model: "LoggedModel") -> None:
    """Delete a LoggedModel that no version needs, artifacts first: its row is what leads to them."""
    _delete_artifacts(store, model.artifact_location, model.model_id)
    store.client.delete_logged_model(model.model_id)
    _hard(store, "_hard_delete_logged_model", model.model_id)


def unfinished(store: Store) -> tuple[list["Run"], list["LoggedModel"]]:
    """Runs and models whose deletion was begun and not ended."""
    runs = [run for run in all_runs(store, hidden=True) if tags.UPKEEP in run.data.tags]
    if not hasattr(store.client._tracking_client.store, "_hard_delete_run"):
        runs = []  # on a server hidden rows stay, for ever the same ones
    runs += [run for run in all_runs(store) if tags.UPKEEP in run.data.tags]
    models = [model for model in all_models(store) if tags.UPKEEP in model.tags]
    return runs, models
