"""What upkeep must keep: champions, versions with an alias, what they were made from, what workspaces hold."""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.config.dag import parse_lineage
from genfoundry.config.params import load
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, file_digest
from genfoundry.gate.looks import best_champions
from genfoundry.promotion import moves
from genfoundry.state.checkout import Git
from genfoundry.state.events import read_events
from genfoundry.tracking import tags
from genfoundry.tracking.recipe import locked_model, read_recipe
from genfoundry.tracking.removal import all_models, all_versions
from genfoundry.tracking.store import Store
from genfoundry.tracking.versions import Registered
from genfoundry.upkeep.options import Keep

if TYPE_CHECKING:
    from genfoundry.tracking.entities import LoggedModel, ModelVersion, Run

MODEL_PATH = re.compile(r"^artifacts/models/[a-z0-9_-]+/model$")


def workspaces(root: Path) -> list[Path]:
    """This checkout, all its git worktrees, and copies in which DVC runs queued experiments.

    Raises:
        InfrastructureError: git doesn't answer: what stands in another worktree would not be protected.
    """
    git = Git(root)
    facts = git("worktree", "list", "--porcelain").splitlines()
    # The project need not be the top of its repository.
    inside = git("rev-parse", "--show-prefix")
    found = [Path(line.removeprefix("worktree ")) / inside for line in facts if line.startswith("worktree ")]
    found += [path.parent for path in sorted((root / ".dvc/tmp/exps").glob("*/dvc.yaml"))]
    return list(dict.fromkeys([root, *(path for path in found if path.is_dir())]))


@dataclass
class Registry:
    """All registered versions of a project, and which of them stay."""

    store: Store
    versions: list["ModelVersion"]
    models: dict[str, "LoggedModel"]
    kept: dict[tuple[str, str], str] = field(default_factory=dict)
    """Why a version stays, by name and number."""
    serving: set[tuple[str, str]] = field(default_factory=set)
    """Those that an alias means, that a move is about, or that the gate remembers as the best."""
    champions: set[tuple[str, str]] = field(default_factory=set)
    """Those that are or ever were champion."""

    def digest(self, version: "ModelVersion") -> str:
        """Of its weights, by which lineage and workspaces know it."""
        return tags.weights_of(version.tags)

    @property
    def gone(self) -> list["ModelVersion"]:
        """Versions that the policy does not keep, oldest first."""
        gone = [each for each in self.versions if (each.name, str(each.version)) not in self.kept]
        return sorted(gone, key=lambda each: (each.name, int(each.version)))


def read_registry(store: Store, root: Path, state: Path, keep: Keep, now: datetime) -> Registry:
    """The registry, each version with the reason why it stays, if it does."""
    models = {model.model_id: model for model in all_models(store)}
    names = {model.name for model in models.values()} | _keys(root)
    versions = [each for each in all_versions(store, names) if each.source.removeprefix("models:/") in models]
    registry = Registry(store, versions, models)
    for name in sorted({each.name for each in versions}):
        for alias, number in Registered(store, name).aliases().items():
            registry.kept[name, number] = f"alias {alias}"
    registry.kept |= dict.fromkeys(moves.touched(state), "a move of aliases is under way")
    registry.kept |= dict.fromkeys(_best(state), "best champion so far of the gate")
    registry.serving = set(registry.kept)
    held = {digest: place for place in workspaces(root) for digest in _held(place)}
    for each in versions:
        if registry.digest(each) in held:
            registry.kept.setdefault((each.name, str(each.version)), f"in the workspace {held[registry.digest(each)]}")
    registry.champions = _champions(state, versions)
    _keep_newest(registry, keep, now)
    _keep_starts(registry)
    return registry


def _keys(root: Path) -> set[str]:
    try:
        return set(load(root).models)
    except ConfigError:  # a broken params.yaml must not stop upkeep, nor make it delete more
        return set()


def _best(state: Path) -> set[tuple[str, str]]:
    """Registered versions that a gate set remembers as its best champion."""
    addresses = (champion.version.rpartition("/") for champion in best_champions(state))
    return {(name, number) for name, _, number in addresses}


def _held(place: Path) -> Iterable[str]:
    """Digests of the models that lie in a workspace."""
    for manifest in sorted((place / "artifacts/models").glob(f"*/model/{MANIFEST}")):
        yield file_digest(manifest)


def _champions(state: Path, versions: Sequence["ModelVersion"]) -> set[tuple[str, str]]:
    facts = {
        (str(event.get("model")), str(event.get("version")))
        for event in read_events(state, "promoted", "rolled_back", "restored")
    }
    return facts | {(each.name, str(each.version)) for each in versions if tags.CHAMPION_SINCE in each.tags}


def _keep_newest(registry: Registry, keep: Keep, now: datetime) -> None:
    limit = now - timedelta(days=keep.runs_days)
    for name in {each.name for each in registry.versions}:
        mine = sorted((each for each in registry.versions if each.name == name), key=lambda each: -int(each.version))
        # "Beside champion and previous": those do not count.
        others = [each for each in mine if (name, str(each.version)) not in registry.serving]
        for place, each in enumerate(others[: keep.versions], 1):
            pair = (name, str(each.version))
            young = each.creation_timestamp >= limit.timestamp() * 1000
            if pair in registry.champions or young:
                registry.kept.setdefault(pair, f"number {place} of the newest {keep.versions}")


def _keep_starts(registry: Registry) -> None:
    """Also keep the models that kept ones started from or had as components, recursively."""
    by_digest: dict[str, list[ModelVersion]] = {}
    for each in registry.versions:
        by_digest.setdefault(registry.digest(each), []).append(each)
    if not registry.gone:
        return
    open_ends = [each for each in registry.versions if (each.name, str(each.version)) in registry.kept]
    while open_ends:
        child = open_ends.pop()
        for path, digest in inputs_of(registry.store, child.run_id, child.name).items():
            for start in by_digest.get(digest, ()) if MODEL_PATH.match(path) else ():
                pair = (start.name, str(start.version))
                if pair not in registry.kept:
                    registry.kept[pair] = f"{child.name}/{child.version} started from it"
                    open_ends.append(start)


def inputs_of(store: Store, run_id: str, key: str) -> dict[str, str]:
    """Digest of what a model's training read, by path, from the lineage in its run; empty if that is gone."""
    from genfoundry.tracking.runs import tracking_errors

    with tempfile.TemporaryDirectory() as folder:
        try:
            path = store.client.download_artifacts(run_id, f"train/lineage/train@{key}.json", folder)
            lineage = parse_lineage(Path(path).read_bytes(), path)
            used = lineage.get("components", {}).values()
            return {**{f"artifacts/models/{one['model']}/model": one["digest"] for one in used}, **lineage["inputs"]}
        except (*tracking_errors(), OSError, DataError, KeyError):
            return {}


def needed_runs(registry: Registry, runs: Sequence["Run"]) -> set[str]:
    """Ids of runs that kept versions were made in or from: models, datasets, bases, and the parents of them all."""
    by_id = {run.info.run_id: run for run in runs}
    made: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.data.tags.items():
            if name.startswith(tags.OUTPUT):
                made.setdefault(value, set()).add(run.info.run_id)
    needed: set[str] = set()
    for each in registry.versions:
        if (each.name, str(each.version)) in registry.kept:
            # All runs that made these bytes: timings are copied between them.
            needed |= {each.run_id, *made.get(registry.digest(each), ())}
    open_ends = [by_id[run_id] for run_id in needed if run_id in by_id]
    while open_ends:
        run = open_ends.pop()
        inputs = inputs_of(registry.store, run.info.run_id, run.data.tags.get(tags.KEY, ""))
        found = {other for digest in inputs.values() for other in made.get(digest, ())} - needed
        needed |= found
        open_ends += [by_id[run_id] for run_id in found if run_id in by_id]
    needed |= {by_id[run_id].data.tags.get("mlflow.parentRunId", "") for run_id in needed if run_id in by_id}
    return needed


def recipes(registry: Registry) -> dict[str, dict[str, str]]:
    """Recipe of each version that serves, by ``name/3``; empty where its run has none."""
    return {
        f"{each.name}/{each.version}": read_recipe(registry.store, each.run_id)
        for each in registry.versions
        if (each.name, str(each.version)) in registry.serving
    }


def model_objects(serving: Mapping[str, Mapping[str, str]]) -> set[str]:
    """DVC's md5 of each model that serves, as far as its recipe is known."""
    found = set()
    for address, recipe in serving.items():
        if recipe:
            key = address.rpartition("/")[0]
            found.add(locked_model(recipe["dvc.lock"], key))
    return found - {""}
