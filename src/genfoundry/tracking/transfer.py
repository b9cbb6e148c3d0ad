"""Copy an MLflow store to another: runs, models, versions under the same numbers, aliases; idempotent.

The target gives every run and model a new id, so a copied run carries its old id in a tag, by which it is
matched, and ids inside tags and descriptions are changed with it. A run stays RUNNING in the target until all of it is
there: what a kill left is gone on with.
"""

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.core.errors import DataError
from genfoundry.tracking import tags
from genfoundry.tracking.registry import as_default
from genfoundry.tracking.removal import all_models, all_runs, all_versions
from genfoundry.tracking.store import Store
from genfoundry.tracking.versions import Registered
from genfoundry.tracking.views import write_views

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

IDS = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b")

BATCH = 1000
"""Metrics that MLflow takes at once."""


@dataclass
class Copied:
    """Report of a copy."""

    runs: int = 0
    models: int = 0
    versions: int = 0
    skipped: list[str] = field(default_factory=list)
    """Runs that are still open in the source."""


class Transfer:
    """A copy from one store to another."""

    def __init__(self, source: Store, target: Store) -> None:
        self.source, self.target, self.done = source, target, Copied()
        self.ids: dict[str, str] = {}
        """Ids of runs and models in the target, by those in the source."""

    def copy(self) -> Copied:
        """Copy all that the target lacks.

        Raises:
            DataError: The target has a version of that number with other bytes.
        """
        runs = sorted(all_runs(self.source), key=lambda run: run.info.start_time)
        self.done.skipped = [run.info.run_id for run in runs if run.info.status in ("RUNNING", "SCHEDULED")]
        runs = [run for run in runs if run.info.run_id not in self.done.skipped]
        there = self._there()
        # First all ids, then what may name them.
        for run in runs:
            self.ids[run.info.run_id] = there.get(run.info.run_id) or self._create(run)
        models = [model for model in all_models(self.source) if tags.DIGEST in model.tags]
        for model in models:
            self._model(model)
        for run in runs:
            self._fill(run)
        for name in sorted({model.name for model in models}):
            self._registered(name)
        write_views(self.target)
        return self.done

    def _there(self) -> dict[str, str]:
        """Runs of the target by the id that they have in the source: copied before, or of the same state."""
        runs = all_runs(self.target)
        states = {_state(run): run.info.run_id for run in runs if _state(run)[2]}
        same = {run.info.run_id: states[_state(run)] for run in all_runs(self.source) if _state(run) in states}
        return same | {run.data.tags[tags.COPIED]: run.info.run_id for run in runs if tags.COPIED in run.data.tags}

    def _said(self, text: str) -> str:
        """A tag or description with the target's ids."""
        return IDS.sub(lambda match: self.ids.get(match[0], match[0]), text)

    def _create(self, run: "Run") -> str:
        self.done.runs += 1
        state = {name: run.data.tags[name] for name in (tags.KIND, tags.KEY, tags.STATE) if name in run.data.tags}
        made = self.target.client.create_run(
            self.target.experiment,
            start_time=run.info.start_time,
            tags={**state, tags.COPIED: run.info.run_id},
            run_name=run.info.run_name,
        )
        return str(made.info.run_id)

    def _fill(self, run: "Run") -> None:
        """Copy what a run holds, then close it as it was closed."""
        client, run_id = self.target.client, self.ids[run.info.run_id]
        mine = client.get_run(run_id)
        if mine.info.status != "RUNNING":
            # Copied before, or logged there by `genfoundry record`, which knows all but the timings.
            missing = [name for name in run.data.metrics if name not in mine.data.metrics]
            for some in _batches(self._points(run, mine, missing), BATCH):
                client.log_batch(run_id, metrics=some)
            return
        from mlflow.entities import Param, RunTag

        params = [Param(name, value) for name, value in run.data.params.items() if name not in mine.data.params]
        for some in _batches(params, 100):
            client.log_batch(run_id, params=some)
        for some in _batches(self._points(run, mine, run.data.metrics), BATCH):
            client.log_batch(run_id, metrics=some)
        _copy_artifacts(self.source, run.info.run_id, self.target, run_id)
        if run.inputs and run.inputs.dataset_inputs:
            client.log_inputs(run_id, run.inputs.dataset_inputs)
        self._outputs(run, run_id)
        facts = {name: self._said(value) for name, value in run.data.tags.items() if name != tags.COPIED}
        for some in _batches([RunTag(name, value) for name, value in facts.items()], 100):
            client.log_batch(run_id, tags=some)
        client.set_terminated(run_id, run.info.status, end_time=run.info.end_time)

    def _points(self, run: "Run", mine: "Run", names: Iterable[str]) -> Iterator[Any]:
        """Points of curves that are not there yet."""
        for name in names:
            known: set[tuple[int, int]] = set()
            if name in mine.data.metrics:
                history = self.target.client.get_metric_history(mine.info.run_id, name)
                known = {(point.step, point.timestamp) for point in history}
            for point in self.source.client.get_metric_history(run.info.run_id, name):
                if (point.step, point.timestamp) not in known:
                    yield point

    def _outputs(self, run: "Run", run_id: str) -> None:
        from mlflow.entities import LoggedModelOutput

        made = run.outputs.model_outputs if run.outputs else []
        models = [LoggedModelOutput(self.ids[each.model_id], each.step) for each in made if each.model_id in self.ids]
        if models:
            self.target.client.log_outputs(run_id, models=models)

    def _model(self, model: "LoggedModel") -> None:
        """Find or make a model of the same bytes; artifacts before it is READY."""
        client, digest = self.target.client, model.tags[tags.DIGEST]
        found = [each for each in all_models(self.target) if each.tags.get(tags.DIGEST) == digest and digest]
        ready = [each for each in found if each.name == model.name and str(each.status).endswith("READY")]
        if ready:
            self.ids[model.model_id] = ready[0].model_id
            return
        run_id = self.ids.get(model.source_run_id or "")
        made = client.create_logged_model(
            self.target.experiment,
            model.name,
            source_run_id=run_id,
            tags={name: value for name, value in model.tags.items() if not name.startswith("mlflow.")},
            params=model.params,
            model_type=model.model_type,
        )
        self.ids[model.model_id] = made.model_id
        with tempfile.TemporaryDirectory() as folder:
            client.log_model_artifacts(made.model_id, str(_download(self.source, model.artifact_location, folder)))
        for metric in model.metrics or []:
            if metric.run_id in self.ids:
                client.log_metric(
                    self.ids[metric.run_id], metric.key, metric.value, metric.timestamp, metric.step,
                    model_id=made.model_id,
                )  # fmt: skip
        client.finalize_logged_model(made.model_id, "READY")
        self.done.models += 1

    def _registered(self, name: str) -> None:
        """Versions under their own numbers, then aliases."""
        ours = {int(each.version): each for each in all_versions(self.source, [name])}
        ours = {number: each for number, each in ours.items() if each.source.removeprefix("models:/") in self.ids}
        if not ours:
            return
        from mlflow.exceptions import MlflowException

        client = self.target.client
        facts = self.source.client.get_registered_model(name)
        try:
            client.get_registered_model(name)
        except MlflowException:
            client.create_registered_model(name)
        theirs = {int(each.version): each for each in all_versions(self.target, [name])}
        for number, each in sorted(ours.items()):
            if number in theirs:
                if theirs[number].tags.get(tags.DIGEST) != each.tags.get(tags.DIGEST):
                    raise DataError(
                        f"{name}/{number}: the target has another model under this number; copy into an empty store"
                    )
            else:
                self._version(each, number, max(theirs, default=0))
                theirs[number] = each
        client.update_registered_model(name, self._said(facts.description or ""))
        for alias, number in Registered(self.source, name).aliases().items():
            Registered(self.target, name).point(alias, number)

    def _version(self, version: "ModelVersion", number: int, last: int) -> None:
        client, model_id = self.target.client, self.ids[version.source.removeprefix("models:/")]
        run_id = self.ids.get(version.run_id or "")
        facts = {name: self._said(value) for name, value in version.tags.items()}
        with as_default(self.target.uri):
            while True:
                made = client.create_model_version(
                    version.name, f"models:/{model_id}", run_id, tags=facts, model_id=model_id,
                    description=self._said(version.description or ""),
                )  # fmt: skip
                if int(made.version) >= number:
                    break
                # A number that was deleted in the source: numbers are given in order, so it is used up here too.
                client.delete_model_version(version.name, made.version)
        if int(made.version) != number:
            client.delete_model_version(version.name, made.version)
            raise DataError(
                f"{version.name}/{number}: the target would number it {made.version}; copy into an empty store"
            )
        shown = json.dumps([{"name": version.name, "version": str(number)}])
        client.set_logged_model_tags(model_id, {"mlflow.modelVersions": shown})
        self.done.versions += 1


def _state(run: "Run") -> tuple[str, str, str]:
    found = run.data.tags
    return found.get(tags.KIND, ""), found.get(tags.KEY, ""), found.get(tags.STATE, "")


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    some: list[Any] = []
    for item in items:
        some.append(item)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some


def _download(store: Store, address: str, folder: str) -> Path:
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(address, dst_path=folder, tracking_uri=store.uri))


def _copy_artifacts(source: Store, run_id: str, target: Store, new_id: str) -> None:
    """Entry by entry at the top, so that a run of many is not twice on disk at once."""
    for entry in source.client.list_artifacts(run_id):
        with tempfile.TemporaryDirectory() as folder:
            path = source.client.download_artifacts(run_id, entry.path, folder)
            if entry.is_dir:
                target.client.log_artifacts(new_id, path, entry.path)
            else:
                target.client.log_artifact(new_id, path)
