"""`genfoundry record`: reconcile MLflow with the files of the workspace.

A stage that DVC restored from its cache or skipped starts no process and logs nothing (tried); a store may have been
deleted or copied. The lineage files say which results belong to the present state; what a run lacks is logged from
the reports. Running it twice changes nothing.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfoundry.config.code import Sources, difference
from genfoundry.config.dag import UNLOGGED, Node, digests, fingerprint, nodes, read_lineage
from genfoundry.config.params import Settings
from genfoundry.config.sections.sampling import generator_of
from genfoundry.core.io import folder_digest, read_json
from genfoundry.core.paths import ModelPaths
from genfoundry.metrics._record import read_scores_file
from genfoundry.tracking import tags
from genfoundry.tracking.glance import COMPARISON
from genfoundry.tracking.lineage import results
from genfoundry.tracking.names import from_mlflow
from genfoundry.tracking.publish import log_stage
from genfoundry.tracking.recipe import log_recipe
from genfoundry.tracking.registry import register
from genfoundry.tracking.removal import without_files
from genfoundry.tracking.runs import Run, finish, open_parent, open_run, reap
from genfoundry.tracking.store import Store
from genfoundry.tracking.views import RANKED, metric_of, write_views


@dataclass
class Recorded:
    """Report of `genfoundry record`."""

    stages: int = 0
    restored: list[str] = field(default_factory=list)
    """Stages logged from files."""
    refilled: list[str] = field(default_factory=list)
    """Versions whose files were no longer in the store, and were logged again."""
    lost: list[str] = field(default_factory=list)
    """Versions whose files are neither in the store nor in the workspace."""
    stale: dict[str, str] = field(default_factory=dict)
    """Stages without a present result, and why."""
    versions: dict[str, str] = field(default_factory=dict)
    """Registered version by model."""
    reaped: int = 0


def stale_reason(sources: Sources, node: Node) -> str:
    """Why a stage's files are out of date; empty if they are current."""
    root = sources.root
    record = read_lineage(root, node.address)
    if not record:
        return "never ran here"
    missing = [name for name in (*node.deps, *results(node)) if not (root / name).exists()]
    if missing:
        return f"{missing[0]} is missing"
    if record["fingerprint"] != fingerprint(root, node):
        return "settings, code or inputs changed since"
    if changed := difference(sources, node):
        return changed
    edited = [name for name, digest in digests(root, results(node)).items() if record["outputs"].get(name) != digest]
    return f"{edited[0]} was changed by hand" if edited else ""


def present(root: Path, facts: Recorded) -> Iterator[tuple[Node, dict[str, Any]]]:
    """Stages whose files are current, with their lineage."""
    sources = Sources(root)
    for node in (found for found in nodes(root).values() if found.kind not in UNLOGGED):
        reason = stale_reason(sources, node)
        record = read_lineage(root, node.address)
        if reason or not record:
            facts.stale[node.address] = reason
        else:
            facts.stages += 1
            yield node, record


def record(
    store: Store, root: Path, tree: Settings, params_of: Callable[[Node], dict[str, Any]], loader: str
) -> Recorded:
    """Reconcile the store with the workspace.

    Args:
        store: Where to.
        root: Workspace.
        tree: params.yaml.
        params_of: Gives a stage's typed parameters.
        loader: Module that answers `mlflow models` for a registered version.
    """
    facts = Recorded()
    facts.reaped = reap(store)
    whole: dict[str, set[str]] = {}
    runs: dict[str, Run] = {}
    lineages: dict[str, dict[str, Any]] = {}
    for node, lineage in present(root, facts):
        run = open_run(store, root, node)
        lineages[node.address] = lineage
        runs[node.key or node.stage] = run
        whole.setdefault(node.key, set()).add(node.stage)
        if not _logged(run, lineage["fingerprint"]):
            log_stage(run, root, node, lineage, params_of(node))
            _copy_timings(store, run, node, lineage["fingerprint"])
            _note_restored(run, node)
            facts.restored.append(node.address)
            finish(run)
    words, lost = comparison(root), without_files(store, tree.models)
    for key in tree.models:
        # Its generator is that of params.yaml, so the samples must be drawn by that one too.
        if {"train", "sample", "evaluate"} <= whole.get(key, set()):
            paths = ModelPaths(root, key)
            about = _about(tree, key, lineages)
            generator = generator_of(tree, key)
            facts.versions[key] = register(runs[key], key, paths.model, generator, paths.reports, about, loader)
            log_recipe(runs[key], root, key, paths.model)
            _describe_model(runs[key], root, key, facts.versions[key], words["models"].get(key, {}))
    facts.lost = without_files(store, tree.models) if lost else []
    facts.refilled = [address for address in lost if address not in facts.lost]
    _close_parent(store, root, runs, facts, words["datasets"])
    write_views(store)
    return facts


def _logged(run: Run, stage_fingerprint: str) -> bool:
    """Whether a stage's numbers and files are in its run; the files may have been deleted behind MLflow's back."""
    if run.client.get_run(run.run_id).data.tags.get(tags.STAGE + run.stage) != stage_fingerprint:
        return False
    return bool(run.client.list_artifacts(run.run_id, f"{run.stage}/lineage"))


def _about(tree: Settings, key: str, lineages: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Digests of what a model was made from, as tags of its version."""
    train, dataset = lineages[f"train@{key}"], tree.models[key].dataset
    found = {tags.FINGERPRINT: train["fingerprint"], tags.LOCK: train["lock"]}
    found[tags.ARRAYS] = train["inputs"].get(f"artifacts/datasets/{dataset}/arrays", "")
    ingest = lineages.get(f"ingest@{dataset}", {"inputs": {}})
    found[tags.DATA] = ingest["inputs"].get(tree.datasets[dataset].source, "")
    return {name: value for name, value in found.items() if value}


def _note_restored(run: Run, node: Node) -> None:
    before = run.client.get_run(run.run_id).data.tags.get(tags.RESTORED, "")
    run.tags({tags.RESTORED: " ".join(sorted({*before.split(), node.stage}))})


def _copy_timings(store: Store, run: Run, node: Node, stage_fingerprint: str) -> None:
    """Throughput and the like exist in MLflow alone: take them from the run where this very stage ran."""
    query = f"tags.`{tags.STAGE}{node.stage}` = '{stage_fingerprint}'"
    prefix, known = f"{node.stage}/", run.last_steps()
    for other in store.client.search_runs([store.experiment], filter_string=query):
        if other.info.run_id == run.run_id:
            continue
        for key, value in other.data.metrics.items():
            name = from_mlflow(key)
            if name.startswith(prefix) and name.removeprefix(prefix) not in known:
                run.metric(name.removeprefix(prefix), value)
        run.complete()
        return


def comparison(root: Path) -> dict[str, Any]:
    """The report's verdicts in words: by model, and by data set which of two models is better; empty without one."""
    return dict(read_json(root / COMPARISON)) if (root / COMPARISON).is_file() else {"models": {}, "datasets": {}}


def _describe_model(run: Run, root: Path, key: str, version: str, facts: Mapping[str, Any]) -> None:
    """The top of the model's page: scores with error bars, baselines, memorization, version, digest."""
    paths = ModelPaths(root, key)
    scores = read_scores_file(paths.reports)
    words = {name: {"value": f"{entry['value']:.4g}", "against": ""} for name, entry in scores.items()}
    words |= facts.get("scores", {})
    lines = [
        f"**{metric_of(name)} {words[name]['value']}**: {words[name]['against']}"
        for name in scores
        if metric_of(name) in RANKED
    ]
    lines += ["", f"{key}, registered as version {version}, model `{folder_digest(paths.model)[:12]}`", ""]
    if facts.get("copying"):
        verdict = "**yes**" if facts["copies"] else "no more than held-out records"
        lines += [f"Copies training data? {verdict}: {facts['copying']}.", ""]
    lines += ["| score | value, ± half of the 95 % interval | held against |", "|---|---|---|"]
    lines += [f"| {name} | {words[name]['value']} | {words[name]['against']} |" for name in scores]
    run.tags({"mlflow.note.content": "\n".join(lines), tags.VERSION: version})


def _close_parent(
    store: Store, root: Path, runs: dict[str, Run], facts: Recorded, better: Mapping[str, list[str]]
) -> None:
    """The parent's page links every dataset and model of the present state, also those made under an earlier one."""
    parent = open_parent(store, root)
    lines = [
        "State of the repository: datasets, bases and models it is made of.",
        "",
        "| what | run | registered |",
        "|---|---|---|",
    ]
    for key, run in runs.items():
        if run.run_id != parent:
            link = f"[{key}](#/experiments/{store.experiment}/runs/{run.run_id})"
            lines.append(f"| {link} | `{run.run_id[:8]}` | {facts.versions.get(key, '')} |")
    for key, contests in better.items():
        if contests:
            lines += ["", f"Which is better on {key}:", "", *(f"- {words}" for words in contests)]
    store.client.set_tag(parent, "mlflow.note.content", "\n".join(lines))
    store.client.set_terminated(parent, "FINISHED")
