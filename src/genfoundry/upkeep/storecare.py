"""Retention in the MLflow store: plan removal of unneeded versions and models, old runs, leftovers of kills."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.tracking import tags
from genfoundry.tracking.removal import all_runs, artifact_bytes, erase_model, erase_run, erase_version, unfinished
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.protection import Registry, needed_runs

if TYPE_CHECKING:
    from genfoundry.tracking.entities import LoggedModel, Run

Planned = tuple[str, str, int, str, Callable[[], Any]]
"""Kind, what, bytes, why, and how."""

HALF_MADE = timedelta(days=1)
"""A model that is still without a version after so long was left by a kill."""


def plan_store(registry: Registry, state: Path, keep: Keep, now: datetime) -> Iterator[Planned]:
    """Versions and models first, then runs: a run goes only after what was made in it."""
    store = registry.store
    half_runs, tagged = unfinished(store)
    # One that still has its version goes with it, if the version still is to go.
    half_models = [model for model in tagged if model.model_id not in _used(registry)]
    for run in half_runs:
        reason = run.data.tags[tags.UPKEEP]
        yield "run", _name(run), artifact_bytes(store, run.info.artifact_uri), f"begun before: {reason}", partial(
            erase_run, store, run, reason
        )  # fmt: skip
    for model in half_models:
        yield _model(registry, model, f"begun before: {model.tags[tags.UPKEEP]}")
    for version in registry.gone:
        pair = (version.name, str(version.version))
        champion = pair in registry.champions
        why = f"more than {keep.versions} newer versions" if champion else _why_version(version, keep, now)
        model = registry.models[version.source.removeprefix("models:/")]
        what = f"{pair[0]}/{pair[1]}"
        size = artifact_bytes(store, model.artifact_location)
        yield "version", what, size, why, partial(erase_version, store, version, why)
    yield from _versionless(registry, half_models, now)
    yield from _old_runs(registry, half_runs, keep, now)


def _why_version(version: Any, keep: Keep, now: datetime) -> str:
    days = (now.timestamp() - version.creation_timestamp / 1000) / 86_400
    if days > keep.runs_days:
        return f"never champion, {days:.0f} days old"
    return f"more than {keep.versions} newer versions"


def _model(registry: Registry, model: "LoggedModel", why: str) -> Planned:
    size = artifact_bytes(registry.store, model.artifact_location)
    return "model", f"{model.name} {model.model_id}", size, why, partial(erase_model, registry.store, model)


def _used(registry: Registry) -> set[str]:
    return {version.source.removeprefix("models:/") for version in registry.versions}


def _versionless(registry: Registry, begun: list["LoggedModel"], now: datetime) -> Iterator[Planned]:
    skip = _used(registry) | {model.model_id for model in begun}
    for model in registry.models.values():
        young = now.timestamp() - model.creation_timestamp / 1000 < HALF_MADE.total_seconds()
        if model.model_id not in skip and tags.DIGEST in model.tags and not young:
            yield _model(registry, model, "no version was ever made of it")


def _old_runs(registry: Registry, begun: list["Run"], keep: Keep, now: datetime) -> Iterator[Planned]:
    limit_ms = (now - timedelta(days=keep.runs_days)).timestamp() * 1000
    runs = all_runs(registry.store)
    skip = {run.info.run_id for run in begun}
    old = [run for run in runs if run.info.run_id not in skip and _ended(run) and _time(run) < limit_ms]
    if not old:
        return
    needed = needed_runs(registry, runs)
    old = [run for run in old if run.info.run_id not in needed and not _was_champion(run, registry)]
    gone = {run.info.run_id for run in old}
    parents = {run.data.tags.get("mlflow.parentRunId", "") for run in runs if run.info.run_id not in gone}
    for run in sorted(old, key=_time):
        if run.info.run_id in parents or run.data.tags.get(tags.KIND) not in ("dataset", "model", "base", "repository"):
            continue
        days = (now.timestamp() * 1000 - _time(run)) / 86_400_000
        what = "failed" if run.info.status in ("FAILED", "KILLED") else "of no champion and no kept version"
        why = f"{what}, {days:.0f} days old"
        yield "run", _name(run), artifact_bytes(registry.store, run.info.artifact_uri), why, partial(
            erase_run, registry.store, run, why
        )  # fmt: skip


def _name(run: "Run") -> str:
    return f"{run.info.run_name} {run.info.run_id}"


def _ended(run: "Run") -> bool:
    return run.info.status in ("FINISHED", "FAILED", "KILLED")


def _time(run: "Run") -> float:
    return float(run.info.end_time or run.info.start_time)


def _was_champion(run: "Run", registry: Registry) -> bool:
    pair = (run.data.tags.get(tags.KEY, ""), run.data.tags.get(tags.VERSION, ""))
    return pair in registry.champions
