"""Models in MLflow: one LoggedModel and one registered version for each content digest.

Only `genfoundry record` and `promote` come here, never a stage; no alias is moved here. Weights stay safetensors, and
what comes back from the store is files that a manifest names, checked by digest: nothing in it is ever run.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import MANIFEST, folder_digest, publish_folder, read_json, verify_folder
from genfoundry.state.locks import locked
from genfoundry.tracking import tags
from genfoundry.tracking.runs import Run, numbers
from genfoundry.tracking.store import Store
from genfoundry.tracking.store import shown as shown_uri
from genfoundry.tracking.versions import Registered

MLMODEL = "MLmodel"


def register(run: Run, key: str, model: Path, reports: Path, about: Mapping[str, str] | None = None) -> str:
    """Version of a published model, registered if it was not: the same bytes give the version that is there.

    Args:
        run: Of the model's state.
        key: Name of the registered model.
        model: Published folder.
        reports: Folder of its ``scores.json``.
        about: Tags for version and LoggedModel: digests of what it was made from. Bytes that come a second time, from
            other data, keep what stands there.
    """
    store, digest = run.store, folder_digest(model)
    scores = numbers(_headline(reports / "scores.json"), "evaluate/")
    with locked(store.lock):
        model_id = _logged_model(run, key, model, digest)
        _log_scores(run, model_id, scores)
        version = _version(store, key, model_id, run.run_id, digest, scores)
        entry = Registered(store, key).version(version)
        missing = {name: value for name, value in (about or {}).items() if name not in entry.tags}
        Registered(store, key).tag(version, missing)
        # What the UI reads to show the version beside the model.
        store.client.set_logged_model_tags(
            model_id, {"mlflow.modelVersions": json.dumps([{"name": key, "version": version}]), **missing}
        )
    return version


def fetch_model(store: Store, name: str, version_or_alias: str, target: Path) -> tuple[Path, str]:
    """Folder of a registered model, downloaded and checked against its digest tag, and its version number.

    Only the files that its manifest names arrive, and nothing is loaded from them.

    Args:
        store: Where it is registered.
        name: Of the registered model.
        version_or_alias: ``3`` or ``champion``.
        target: Folder that holds one folder for each digest; a model that is there is not downloaded again.

    Raises:
        ConfigError: No such model, version or alias.
        DataError: What was downloaded is not what was registered.
    """
    from mlflow.exceptions import MlflowException

    by_number = version_or_alias.isdigit()
    get = store.client.get_model_version if by_number else store.client.get_model_version_by_alias
    shown = f"{name}/{version_or_alias}" if by_number else f"{name}@{version_or_alias}"
    try:
        entry = get(name, version_or_alias)
    except MlflowException as error:
        first = str(error).splitlines()[0]
        raise ConfigError(
            f"{shown}: not in the registry {shown_uri(store.uri)} ({first}); run genfoundry record"
        ) from None
    digest = entry.tags.get(tags.DIGEST, "")
    folder = target / digest
    if digest and (folder / MANIFEST).is_file() and verify_folder(folder) == digest:
        os.utime(folder)  # upkeep removes what was not used for long
        return folder, str(entry.version)
    with tempfile.TemporaryDirectory() as temporary:
        found = Path(temporary) / "model"
        _download(store, entry.source.removeprefix("models:/"), digest, found, shown)
        with publish_folder(folder) as copy:
            for file in read_json(found / MANIFEST)["files"]:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found / file, copy / file)
    return folder, str(entry.version)


def _download(store: Store, model_id: str, digest: str, target: Path, shown: str) -> None:
    """The manifest, and then the files that it names; card, signature and whatever else lies there stay where they are.

    Raises:
        InfrastructureError: The store does not give them.
        DataError: They are not what was registered.
    """
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    target.mkdir()
    try:
        # By the model's own address: `models:/` ones are looked up in the process's default store (tried).
        address = store.client.get_logged_model(model_id).artifact_location

        def bring(file: str) -> None:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            came = download_artifacts(f"{address}/{file}", dst_path=str(target.parent / "in"), tracking_uri=store.uri)
            shutil.copyfile(came, target / file)

        bring(MANIFEST)
        # Before a name in it is used: a manifest that was not registered may name any path.
        if folder_digest(target) != digest:
            was = folder_digest(target)[:12]
            raise DataError(f"{shown}: the store holds {was}, registered was {digest[:12] or '-'}; restore the store")
        for file in read_json(target / MANIFEST)["files"]:
            bring(file)
    except (MlflowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InfrastructureError(f"{shown}: its files can't be fetched ({first}); restore the store") from error
    verify_folder(target)


def _headline(scores: Path) -> dict[str, float]:
    if not scores.is_file():
        return {}
    return {name: entry["value"] for name, entry in read_json(scores).items()}


def _logged_model(run: Run, key: str, model: Path, digest: str) -> str:
    from mlflow.entities import LoggedModelOutput

    client, experiment = run.client, run.store.experiment
    found = client.search_logged_models([experiment], filter_string=f"tags.`{tags.DIGEST}` = '{digest}'")
    ready = [entry for entry in found if str(entry.status) in ("READY", "LoggedModelStatus.READY")]
    if ready:
        model_id = ready[0].model_id
        if not any(file.path == MLMODEL for file in client.list_logged_model_artifacts(model_id)):
            _add_flavour(run, model, model_id)
    else:
        config = read_json(model / "config.json")
        params = {name: str(value) for name, value in config["options"].items()}
        params["family"] = config["family"]
        made = client.create_logged_model(
            experiment,
            key,
            source_run_id=run.run_id,
            tags={tags.DIGEST: digest, tags.KEY: key},
            params=params,
            model_type="genfoundry",
        )
        client.log_model_artifacts(made.model_id, str(model))
        _add_flavour(run, model, made.model_id)
        client.finalize_logged_model(made.model_id, "READY")
        model_id = made.model_id
    outputs = client.get_run(run.run_id).outputs
    linked = {output.model_id for output in outputs.model_outputs} if outputs else set()
    if model_id not in linked:
        client.log_outputs(run.run_id, models=[LoggedModelOutput(model_id, step=0)])
    return model_id


def _add_flavour(run: Run, model: Path, model_id: str) -> None:
    from genfoundry.tracking.flavour import write_flavour

    with tempfile.TemporaryDirectory() as folder:
        write_flavour(model, Path(folder), model_id, run.run_id)
        run.client.log_model_artifacts(model_id, folder)


def _log_scores(run: Run, model_id: str, scores: Mapping[str, float]) -> None:
    there = {metric.key for metric in run.client.get_logged_model(model_id).metrics or []}
    for name, value in scores.items():
        if name not in there:
            run.client.log_metric(run.run_id, name, value, model_id=model_id)


def _version(store: Store, key: str, model_id: str, run_id: str, digest: str, scores: Mapping[str, float]) -> str:
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        client.get_registered_model(key)
    except MlflowException:
        client.create_registered_model(
            key, description=f"The model `{key}` of params.yaml; one version for each content digest."
        )
    for entry in client.search_model_versions(f"name = '{key}'"):
        if entry.tags.get(tags.DIGEST) == digest:
            return str(entry.version)
    text = {tags.DIGEST: digest, **{name: f"{value:.6g}" for name, value in scores.items()}}
    with as_default(store.uri):
        made = client.create_model_version(
            key,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={name.removeprefix("evaluate/").replace(":", "."): value for name, value in text.items()},
        )
    return str(made.version)


@contextmanager
def as_default(uri: str) -> Iterator[None]:
    """MLflow's own registry looks models up in the process's default store, whatever client asks (tried)."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
