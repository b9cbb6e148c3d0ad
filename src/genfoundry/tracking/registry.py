"""Models in MLflow: one LoggedModel and one registered version for each content digest; first one becomes champion.

Only `genfoundry record` and `promote` come here, never a stage. Weights stay safetensors; nothing is pickled.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from genfoundry.errors import ConfigError, DataError, InfrastructureError
from genfoundry.io import MANIFEST, folder_digest, publish_folder, read_json, verify_folder
from genfoundry.tracking import tags
from genfoundry.tracking.runs import Run, numbers
from genfoundry.tracking.store import Store, locked
from genfoundry.tracking.store import shown as shown_uri

CHAMPION = "champion"


def register(run: Run, key: str, model: Path, reports: Path) -> tuple[str, bool]:
    """Version of a published model, registered if it was not; True if it was made champion.

    Registering the same bytes again gives the version that is there.
    """
    store, digest = run.store, folder_digest(model)
    scores = numbers(_headline(reports / "scores.json"), "evaluate/")
    with locked(store.lock):
        model_id = _logged_model(run, key, model, digest)
        _log_scores(run, model_id, scores)
        version = _version(store, key, model_id, run.run_id, digest, scores)
        # What the UI reads to show the version beside the model.
        store.client.set_logged_model_tags(
            model_id, {"mlflow.modelVersions": json.dumps([{"name": key, "version": version}])}
        )
        aliases = store.client.get_registered_model(key).aliases
        if CHAMPION not in aliases:
            store.client.set_registered_model_alias(key, CHAMPION, version)
            return version, True
    return version, False


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
    from mlflow.artifacts import download_artifacts
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
        return folder, str(entry.version)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            # By the model's own address: `models:/` ones are looked up in the process's default store (tried).
            made = store.client.get_logged_model(entry.source.removeprefix("models:/"))
            found = Path(download_artifacts(made.artifact_location, dst_path=temporary, tracking_uri=store.uri))
        except (MlflowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise InfrastructureError(f"{shown}: its files can't be fetched ({first}); restore the store") from error
        if verify_folder(found) != digest:
            raise DataError(
                f"{shown}: the store holds {folder_digest(found)[:12]}, registered was {digest[:12] or '-'}"
            )
        with publish_folder(folder) as copy:
            for file in read_json(found / MANIFEST)["files"]:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(found / file, copy / file)
    return folder, str(entry.version)


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
        client.finalize_logged_model(made.model_id, "READY")
        model_id = made.model_id
    outputs = client.get_run(run.run_id).outputs
    linked = {output.model_id for output in outputs.model_outputs} if outputs else set()
    if model_id not in linked:
        client.log_outputs(run.run_id, models=[LoggedModelOutput(model_id, step=0)])
    return model_id


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
    with _as_default(store.uri):
        made = client.create_model_version(
            key,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={name.removeprefix("evaluate/").replace(":", "."): value for name, value in text.items()},
        )
    return str(made.version)


@contextmanager
def _as_default(uri: str) -> Iterator[None]:
    """MLflow's own registry looks models up in the process's default store, whatever client asks (tried)."""
    import mlflow

    before = os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
