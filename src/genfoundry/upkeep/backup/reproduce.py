"""`genfoundry reproduce`: rebuild a registered model from its raw data in a worktree of its own, and compare bytes.

Nothing of the project is changed: the rebuild has its own state root (no checkpoint to resume from, no cached
shards, no MLflow run), and DVC commits nothing to its cache.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.dag import LINEAGE, find, nodes, read_lineage
from genfoundry.config.pointers import md5, read_pointer
from genfoundry.core.clock import Clock
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import file_digest, folder_digest, listed
from genfoundry.core.pin import surroundings
from genfoundry.data.embedded.packages import EMBEDDED_MD5
from genfoundry.pipeline.stage import FAILURE_FILE
from genfoundry.state import children
from genfoundry.state.checkout import Checkout, Git, environment_in
from genfoundry.state.children import failure
from genfoundry.state.events import append_event
from genfoundry.state.journal import home, read_whole, worktrees
from genfoundry.tracking import tags
from genfoundry.tracking.recipe import locked_model, read_recipe
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.store import Store
from genfoundry.upkeep.protection import inputs_of

if TYPE_CHECKING:
    from genfoundry.tracking.entities import Run

LIMIT_S = 7 * 86_400.0
"""A rebuild takes as long as the training took; a person watches it."""


@dataclass
class Reproduction:
    """Result of comparing a rebuilt model with the registered one."""

    name: str
    version: str
    commit: str
    registered: str
    """Content digest of the registered model."""
    rebuilt: str
    notes: list[str] = field(default_factory=list)
    """What was different about code, settings, packages or machine, known before the comparison."""
    files: list[str] = field(default_factory=list)
    """Files of the model that differ."""
    stages: list[str] = field(default_factory=list)
    """Stages whose results differ, in the order of the line: the first is the cause."""

    @property
    def equal(self) -> bool:
        return self.registered == self.rebuilt


def reproduce(
    root: Path,
    state: Path,
    store: Store,
    name: str,
    wanted: str,
    clock: Clock,
    from_arrays: bool = False,
    keep: bool = False,
    echo: bool = True,
) -> Reproduction:
    """Rebuild a registered model and compare it with what is registered.

    Args:
        root: Checkout of the project.
        state: State root.
        store: Where the model is registered.
        name: Of the registered model.
        wanted: Version or alias.
        clock: For the event.
        from_arrays: Train from the arrays of DVC's cache, in place of making them again from the raw data.
        keep: Keep the worktree.
        echo: Show the output of the stages.

    Raises:
        ConfigError: No such version, or nothing says which commit it was made at.
        GenfoundryError: A stage failed, or its data can't be had; with that code.
    """
    work = Checkout(root, worktrees(state) / f".reproduce.{os.getpid()}.partial")
    fetched, version, *_ = fetch_model(store, name, wanted, state / "mlruns/gate/models")
    run = store.client.get_run(store.client.get_model_version(name, version).run_id)
    recipe = read_recipe(store, run.info.run_id)
    commit, notes = _commit(root, run, name, recipe, md5(fetched))
    try:
        work.add(commit)
        notes += _overlay(work.project, recipe)
        notes += _surroundings(root, work.project, run)
        before = (work.project / "dvc.lock").read_text() if (work.project / "dvc.lock").is_file() else ""
        _rebuild(work.project, state, name, from_arrays, echo)
        found = Reproduction(name, version, commit, fetched.name, "", notes)
        _compare(found, work.project, fetched, before)
        if not found.equal:
            found.notes += _inputs(work.project, store, run, name)
    finally:
        if not keep:
            work.remove()
    if keep:
        found.notes.append(f"the worktree stays at {_kept(work, name, version)}")
    append_event(state, "reproduced", clock.now(), model=name, version=version, commit=commit, equal=found.equal)
    return found


def _commit(root: Path, run: "Run", name: str, recipe: Mapping[str, str], model: str) -> tuple[str, list[str]]:
    """The commit whose dvc.lock holds the model, else the one that was checked out when it was trained."""
    git = Git(root)
    model = (locked_model(recipe["dvc.lock"], name) if recipe else "") or model
    holding = git("log", "--all", "--reverse", "--format=%H", f"-S{model}", "--", "dvc.lock", check=False).split()
    for commit in holding:
        if locked_model(git.text(commit, "dvc.lock") or "", name) == model:
            return commit, []
    commit = run.data.tags.get(tags.COMMIT, "")
    if not commit or not git("cat-file", "-t", commit, check=False):
        raise ConfigError(
            f"{name}: no commit here holds its dvc.lock, and the one it was trained at ({commit[:12] or 'none'}) "
            "is not here; git fetch the branch, or restore a backup"
        )
    if not recipe:
        raise ConfigError(
            f"{name}: no commit here holds its dvc.lock, and its run has no recipe; run genfoundry record in a "
            "checkout that holds the model"
        )
    changed = run.data.tags.get(tags.DIRTY) == "true"
    note = "its dvc.lock was never committed: settings and data pointers are taken from the recipe in its run"
    return commit, [note + (", code from a commit with uncommitted changes on top" if changed else "")]


def _overlay(project: Path, recipe: Mapping[str, str]) -> list[str]:
    """Put the recipe's files in place; says which were others at the commit."""
    changed = []
    for path, text in recipe.items():
        target = project / path
        if not target.resolve().is_relative_to(project.resolve()):
            raise ConfigError(f"recipe of the run: path {path!r} leaves the project; the store was tampered with")
        if not target.is_file() or target.read_text() != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            changed.append(path)
    changed = [path for path in changed if path != "dvc.lock"]  # it also lists other models
    return [f"as they were at training, not as in the commit: {', '.join(changed)}"] if changed else []


def _surroundings(root: Path, project: Path, run: "Run") -> list[str]:
    """Differences known before the rebuild that make equal bytes unlikely."""
    notes = []
    then, here = run.data.tags.get(f"{tags.PROCESSOR}train", ""), surroundings()
    if then and then != here:
        notes.append(f"trained on {then}, here is {here}: other kinds of processor, or of C library, round differently")
    locks = [folder / "requirements.lock" for folder in (root, project)]
    digests = [file_digest(lock) if lock.is_file() else "" for lock in locks]
    if digests[0] != digests[1]:
        notes.append(
            "requirements.lock of that commit is not the one of this checkout; install it into an environment of its "
            "own and run reproduce from there, for equal packages"
        )
    return notes


def _rebuild(project: Path, state: Path, name: str, from_arrays: bool, echo: bool) -> None:
    log = home(state) / "reproduce.log"
    log.unlink(missing_ok=True)
    failed = project / ".failure.json"
    # A state root of its own, inside the worktree, where git ignores it.
    environment = environment_in(project, state, **{"GENFOUNDRY_STATE": str(project), FAILURE_FILE: str(failed)})
    environment.pop("MLFLOW_TRACKING_URI", None)

    def run(*words: str, tolerant: bool = False) -> bool:
        command = [sys.executable, "-m", *words]
        ended = children.run(command, project, environment, log, LIMIT_S, echo=echo)
        if ended.code and not tolerant:
            raise failure(command, ended, read_whole(failed), log)
        return ended.code == 0

    def bring(*targets: str) -> None:
        if not run("dvc", "checkout", "--force", *targets, tolerant=True):
            run("dvc", "pull", "--force", *targets)

    if from_arrays:
        bring(*find(project, f"train@{name}").data)
        if "code" in nodes(project):  # commits from before it listed sources
            run("dvc", "repro", "--force", "--no-commit", "--single-item", "code")
        run("dvc", "repro", "--force", "--no-commit", "--single-item", f"train@{name}")
        return
    pointers = [path for path in (project / "data.dvc", *sorted((project / "imports").glob("*.dvc"))) if path.is_file()]
    names = [path.relative_to(project).as_posix() for path in pointers]
    if "data.dvc" in names and read_pointer(project) == EMBEDDED_MD5:
        run("genfoundry.cli", "bootstrap")
        names.remove("data.dvc")
    if names:
        bring(*names)
    run("dvc", "repro", "--force", "--no-commit", f"train@{name}")


def _compare(found: Reproduction, project: Path, registered: Path, before: str) -> None:
    rebuilt = project / "artifacts/models" / found.name / "model"
    found.rebuilt = folder_digest(rebuilt)
    if found.equal:
        return
    ours, theirs = (listed(folder) for folder in (rebuilt, registered))
    found.files = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    after = (project / "dvc.lock").read_text()
    then, now = _outs(before), _outs(after)
    found.stages = [stage for stage in then if stage in now and then[stage] != now[stage]]


def _outs(lock: str) -> dict[str, Any]:
    """md5 of each output by stage, in the order of a dvc.lock; but of lineage, which differs where any code does."""
    from ruamel.yaml import YAML

    stages = (YAML(typ="safe").load(lock) or {}).get("stages") or {}
    return {stage: {out["path"]: out.get("md5") for out in body.get("outs", ()) if LINEAGE not in out["path"]}
            for stage, body in stages.items()}  # fmt: skip


def _inputs(project: Path, store: Store, run: "Run", name: str) -> list[str]:
    """Which inputs of the training differ, by the lineage of both."""
    lineage = read_lineage(project, f"train@{name}") or {}
    then, now = inputs_of(store, run.info.run_id, name), lineage.get("inputs", {})
    changed = sorted(path for path in then.keys() | now.keys() if then.get(path) != now.get(path))
    return [f"the training read something else: {', '.join(changed)}"] if then and changed else []


def _kept(work: Checkout, name: str, version: str) -> Path:
    """Move a worktree that stays to a name that upkeep takes for one."""
    target = work.folder.parent / f"reproduce-{name}-{version}"
    Checkout(work.root, target).remove()
    work.git("worktree", "move", str(work.folder), str(target))
    return target
