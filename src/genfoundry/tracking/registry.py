"""Models in MLflow: one LoggedModel and one registered version for each model folder with its generator.

A version's digest is the sha256 of its ``generator.json``, which names the digest of the model folder and the settings
of the generator; the folder's manifest names its files. So one digest covers all that moves a sample.

Only `genfoundry record` and `promote` come here, never a stage; no alias is moved here. Weights stay safetensors, and
what comes back from the store is files that a manifest names, checked by digest: nothing in it is ever run.
"""

import ast
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from genfoundry.config.params import find_architecture, read_architecture
from genfoundry.config.sections.sampling import GENERATOR, default_generator, generator_json, release_digest
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError, InfrastructureError
from genfoundry.core.io import MANIFEST, folder_digest, listed, publish_folder, verify_folder
from genfoundry.metrics._record import read_scores_file
from genfoundry.state.locks import locked
from genfoundry.tracking import tags
from genfoundry.tracking.names import admitted
from genfoundry.tracking.runs import Run, numbers
from genfoundry.tracking.store import Store
from genfoundry.tracking.store import shown as shown_uri
from genfoundry.tracking.versions import Registered

if TYPE_CHECKING:
    from genfoundry.tracking.entities import ModelVersion

MLMODEL = "MLmodel"


class Fetched(NamedTuple):
    """A registered version on this machine."""

    folder: Path
    """Its model folder, whose name is the digest of the weights."""
    version: str
    digest: str
    """As it was registered."""
    generator: Mapping[str, Any]
    """Settings of its generator."""


def register(
    run: Run,
    key: str,
    model: Path,
    generator: Mapping[str, Any],
    reports: Path,
    about: Mapping[str, str] | None = None,
    loader: str = "",
) -> str:
    """Version of a published model, registered if it was not: the same bytes and settings give the one that is there.

    Files of it that are no longer in the store are logged again.

    Args:
        run: Of the model's state.
        key: Name of the registered model.
        model: Published folder.
        generator: Settings of its generator.
        reports: Folder of its ``scores.json``.
        about: Tags for version and LoggedModel: digests of what it was made from. Bytes that come a second time, from
            other data, keep what stands there.
        loader: Module that answers `mlflow models`; empty for none.
    """
    store, made = run.store, _Release(model, dict(generator), loader)
    values = {name: score["value"] for name, score in read_scores_file(reports).items()}
    scores = admitted(numbers(values), "evaluate/")
    with locked(store.lock):
        model_id = _logged_model(run, key, made)
        _log_scores(run, model_id, scores)
        version = _version(store, key, model_id, run.run_id, made, scores)
        entry = Registered(store, key).version(version)
        missing = {name: value for name, value in (about or {}).items() if name not in entry.tags}
        Registered(store, key).tag(version, missing)
        # What the UI reads to show the version beside the model.
        store.client.set_logged_model_tags(
            model_id, {"mlflow.modelVersions": json.dumps([{"name": key, "version": version}]), **missing}
        )
    return version


@dataclass(frozen=True)
class _Release:
    """The files and tags of a version."""

    model: Path
    generator: dict[str, Any]
    loader: str

    @property
    def weights(self) -> str:
        return folder_digest(self.model)

    @property
    def digest(self) -> str:
        return release_digest(self.weights, self.generator)

    @property
    def tags(self) -> dict[str, str]:
        shown = json.dumps(self.generator, sort_keys=True, ensure_ascii=False)
        return {tags.DIGEST: self.digest, tags.WEIGHTS: self.weights, tags.GENERATOR: shown}


def fetch_model(store: Store, name: str, version_or_alias: str, target: Path) -> Fetched:
    """A registered version, downloaded and checked against its digest tag.

    Only the files that its manifest names arrive, and nothing is loaded from them.

    Args:
        store: Where it is registered.
        name: Of the registered model.
        version_or_alias: ``3`` or ``champion``.
        target: Folder that holds one folder for each digest of weights; one that is there is not downloaded again.

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
    weights = tags.weights_of(entry.tags)
    folder = target / weights
    if weights and (folder / MANIFEST).is_file() and verify_folder(folder) == weights:
        os.utime(folder)  # upkeep removes what was not used for long
    else:
        with tempfile.TemporaryDirectory() as temporary:
            found = Path(temporary) / "model"
            _download(store, entry.source.removeprefix("models:/"), weights, found, shown)
            with publish_folder(folder) as copy:
                for file in listed(found):
                    (copy / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(found / file, copy / file)
    generator = _generator(store, entry, weights, folder, shown)
    return Fetched(folder, str(entry.version), entry.tags.get(tags.DIGEST, ""), generator)


def _generator(store: Store, entry: "ModelVersion", weights: str, folder: Path, shown: str) -> dict[str, Any]:
    """Settings of a version's generator.

    A version from before generators were registered has them in its run, as the sample stage logged its parameters;
    without these it takes its family's defaults.

    Raises:
        DataError: The tags don't say what was registered.
    """
    digest, facts = entry.tags.get(tags.DIGEST, ""), entry.tags.get(tags.GENERATOR)
    if facts is not None:
        try:
            generator = dict(json.loads(facts))
        except (ValueError, TypeError):
            generator = {}
        if release_digest(weights, generator) != digest:
            raise DataError(
                f"{shown}: weights {weights[:12]} with generator {facts} are not what was registered as {digest[:12]}; "
                "its tags were changed: restore the store"
            )
        return generator
    architecture = find_architecture(folder)
    if not architecture or architecture.family not in parts.names("models"):
        return {}  # nobody here can draw with it; its bytes can be fetched all the same
    generator = default_generator(architecture.family)
    params = store.client.get_run(entry.run_id).data.params if entry.run_id else {}
    # Rows of a matrix moved no sample then, so what they were says nothing.
    for name in generator.keys() - {"batch"}:
        if (text := params.get(f"sampling.{name}")) is not None:
            generator[name] = text if isinstance(generator[name], str) else _literal(text, f"{shown}: sampling.{name}")
    return generator


def _literal(text: str, where: str) -> Any:
    """A number or list as `Run.params` wrote it down."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise DataError(f"{where} of its run is {text!r}, neither number nor list; restore the store") from None


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
        for file in listed(target):
            bring(file)
    except (MlflowException, OSError) as error:
        first = str(error).splitlines()[0]
        raise InfrastructureError(f"{shown}: its files can't be fetched ({first}); restore the store") from error
    verify_folder(target)


def _logged_model(run: Run, key: str, made: _Release) -> str:
    from mlflow.entities import LoggedModelOutput

    client, experiment = run.client, run.store.experiment
    found = client.search_logged_models([experiment], filter_string=f"tags.`{tags.DIGEST}` = '{made.digest}'")
    ready = [entry for entry in found if str(entry.status) in ("READY", "LoggedModelStatus.READY")]
    if ready:
        model_id = ready[0].model_id
        there = {file.path for file in client.list_logged_model_artifacts(model_id)}
        if {path.name for path in made.model.iterdir()} - there:
            # Deleted behind MLflow's back.
            client.log_model_artifacts(model_id, str(made.model))
        if MLMODEL not in there:
            _add_flavour(run, made, model_id)
    else:
        architecture = read_architecture(made.model)
        params = {name: str(value) for name, value in architecture.options.items()}
        params["family"] = architecture.family
        model_id = client.create_logged_model(
            experiment,
            key,
            source_run_id=run.run_id,
            tags={**made.tags, tags.KEY: key},
            params=params,
            model_type="genfoundry",
        ).model_id
        client.log_model_artifacts(model_id, str(made.model))
        _add_flavour(run, made, model_id)
        client.finalize_logged_model(model_id, "READY")
    outputs = client.get_run(run.run_id).outputs
    linked = {output.model_id for output in outputs.model_outputs} if outputs else set()
    if model_id not in linked:
        client.log_outputs(run.run_id, models=[LoggedModelOutput(model_id, step=0)])
    return model_id


def _add_flavour(run: Run, made: _Release, model_id: str) -> None:
    from genfoundry.tracking.flavour import write_flavour

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / GENERATOR).write_bytes(generator_json(made.weights, made.generator))
        if made.loader:
            write_flavour(made.model, Path(folder), model_id, run.run_id, made.loader)
        run.client.log_model_artifacts(model_id, folder)


def _log_scores(run: Run, model_id: str, scores: Mapping[str, float]) -> None:
    there = {metric.key for metric in run.client.get_logged_model(model_id).metrics or []}
    for name, value in scores.items():
        if name not in there:
            run.client.log_metric(run.run_id, name, value, model_id=model_id)


def _version(store: Store, key: str, model_id: str, run_id: str, made: _Release, scores: Mapping[str, float]) -> str:
    from mlflow.exceptions import MlflowException

    client = store.client
    try:
        client.get_registered_model(key)
    except MlflowException:
        client.create_registered_model(
            key,
            description=f"The model `{key}` of params.yaml; one version for each weights and generator.",
        )
    for entry in client.search_model_versions(f"name = '{key}'"):
        if entry.tags.get(tags.DIGEST) == made.digest:
            return str(entry.version)
    text = {**made.tags, **{name: f"{value:.6g}" for name, value in scores.items()}}
    with as_default(store.uri):
        version = client.create_model_version(
            key,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={name.removeprefix("evaluate/").replace(":", "."): value for name, value in text.items()},
        )
    return str(version.version)


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
