"""`genfoundry check`: list every configuration error that can be detected before a stage runs."""

import importlib.metadata
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from genfoundry.commands.look import look
from genfoundry.config import params as settings
from genfoundry.config.code import Sources, difference, record_of
from genfoundry.config.dag import CODE_FILES, nodes, param_values
from genfoundry.config.sections.base import Base
from genfoundry.config.sections.component import Component
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.numerics import Numerics
from genfoundry.config.sections.table import DATASET_SECTIONS, MODEL_SECTIONS
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, GenfoundryError, InfrastructureError
from genfoundry.data.embedded.bootstrap import data_difference
from genfoundry.evaluation.metrics import Metric, load_metric
from genfoundry.evaluation.networks import network_faults
from genfoundry.gate.rules import Gate, unknown_metrics
from genfoundry.retraining.options import Retraining
from genfoundry.state.checkout import Git

LEAST_FREE_GIB = 3
"""The default pipeline writes about half a gigabyte; below this a user's own data will not fit."""


def check(root: Path) -> tuple[list[str], list[str]]:
    """(faults, notes), one line each: where, what with its value, what to do."""
    faults, notes = contents(root)
    if faults := [*_environment(root), *_data(root), *faults]:
        return list(dict.fromkeys(faults)), [*notes, *_notes(root)]
    faults, stale = _code(root)
    return faults, [*stale, *notes, *_notes(root)]


def contents(root: Path) -> tuple[list[str], list[str]]:
    """The same of settings and data alone: what a commit, and a copy of its data, bring along."""
    try:
        tree = settings.load(root)
    except ConfigError as error:
        return str(error).splitlines(), []
    faults = [*_blocks(tree), *_links(root, tree), *_graph(root)]
    return (faults, []) if faults else look(root, tree)


def _environment(root: Path) -> Iterator[str]:
    if sys.version_info[:2] not in ((3, 11), (3, 12), (3, 13)):
        yield f"Python is {sys.version.split()[0]}; the lock holds for 3.11 to 3.13: run make install PYTHON=python3.11"
    try:
        # Not by looking for .git: the project may be a folder of a larger repository.
        Git(root)("rev-parse", "--git-dir")
    except ConfigError as error:
        yield str(error)
    except InfrastructureError as error:
        yield f"{root}: no git repository that DVC could work in ({error}); run git init"
    if not (root / ".dvc").is_dir():
        yield f"{root}: no .dvc folder; run dvc init"
    for line in (root / "requirements.lock").read_text().splitlines():
        match = re.match(r"^([A-Za-z0-9._-]+)==([^ ;]+)(?: ; (.+))?$", line)
        if match and _applies(match[3]):
            yield from _installed(match[1], match[2])


def _applies(marker: str | None) -> bool:
    if not marker:
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate()


def _installed(name: str, wanted: str) -> Iterator[str]:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        yield f"package {name} {wanted} is not installed; run make install"
        return
    # A local build such as 2.13.0+cpu is the locked version.
    if found.split("+")[0] != wanted:
        yield f"package {name} is {found}, the lock says {wanted}; run make install"


def _data(root: Path) -> Iterator[str]:
    try:
        difference = data_difference(root)
    except GenfoundryError as error:
        difference = str(error)
    if difference:
        yield difference


def _blocks(tree: settings.Settings) -> Iterator[str]:
    """Faults of every section of every block."""
    yield from settings.faults(Execution, tree.execution, "execution")
    yield from settings.faults(Numerics, tree.numerics, "numerics")
    gate = list(settings.faults(Gate, tree.gate, "gate"))
    yield from gate or unknown_metrics(settings.parse(Gate, tree.gate, "gate"))
    yield from settings.faults(Retraining, tree.retraining, "retraining")
    for key, base in tree.bases.items():
        yield from settings.faults(Base, base, f"bases.{key}")
        yield from _part("formats", str(base.get("format", "genfoundry")), f"bases.{key}.format")
    for key, component in tree.components.items():
        yield from settings.faults(Component, component, f"components.{key}")
    for key, dataset in tree.datasets.items():
        module = yield from _part("modalities", dataset.modality, f"datasets.{key}.modality")
        for name, default in DATASET_SECTIONS.items():
            section = settings.modality_section(dataset.modality, default) if module else default
            yield from settings.faults(section, getattr(dataset, name), f"datasets.{key}.{name}")
    for key, model in tree.models.items():
        if not model.family:
            continue  # known once its base is imported
        module = yield from _part("models", model.family, f"models.{key}.family")
        if module:
            yield from settings.faults(module.Config, model.options, f"models.{key}.options")
        for name, default in MODEL_SECTIONS.items():
            section = settings.family_section(model.family, default) if module else default
            yield from settings.faults(section, getattr(model, name), f"models.{key}.{name}")
        yield from _metrics(key, model.evaluation.get("metrics") or {})
        skip = model.evaluation.get("skip")
        for name in skip if isinstance(skip, list) else []:
            yield from _metric(str(name), f"models.{key}.evaluation.skip")


def _metrics(key: str, chosen: Any) -> Iterator[str]:
    for name, options in chosen.items() if isinstance(chosen, dict) else ():
        where = f"models.{key}.evaluation.metrics.{name}"
        metric = yield from _metric(name, where)
        if metric:
            yield from settings.faults(metric.config, options or {}, where)


def _metric(name: str, where: str) -> Iterator[str]:
    """Yields a fault or nothing; returns the metric."""
    metric: Metric | None = None
    try:
        metric = load_metric(name)
    except ConfigError as error:
        yield f"params.yaml: '{where}': {error}"
    return metric  # type: ignore[return-value]


def _part(kind: parts.Kind, name: str, where: str) -> Iterator[str]:
    """Yields a fault or nothing; returns the module."""
    module: ModuleType | None = None
    try:
        module = parts.load(kind, name)
    except ConfigError as error:
        yield f"params.yaml: '{where}': {error}"
    return module  # type: ignore[return-value]


def _links(root: Path, tree: settings.Settings) -> Iterator[str]:
    """Faults of references between blocks: names that point to no block."""
    for key, base in tree.bases.items():
        if (path := base.get("path")) and not (root / str(path)).exists():
            yield f"params.yaml: 'bases.{key}.path' is {path!r}: no such file or folder; put the model there"
    for key in tree.bases.keys() & tree.models.keys():
        yield f"params.yaml: {key!r} is both a base and a model; rename one, they share artifacts/models/"
    for key in tree.datasets.keys() & (tree.models.keys() | tree.bases.keys()):
        yield f"params.yaml: {key!r} is both a dataset and a model; rename one, so that a run is found by its name"
    for key in tree.components.keys() & (tree.models.keys() | tree.bases.keys() | tree.datasets.keys()):
        yield f"params.yaml: {key!r} is a component and something else too; rename it, so that a run is found by name"
    for key, dataset in tree.datasets.items():
        source = Path(dataset.source)
        where = f"params.yaml: 'datasets.{key}.source' is {dataset.source!r}"
        if source.is_absolute() or source.parts[:1] not in (("data",), ("imports",)) or ".." in source.parts:
            yield f"{where}; needs a path below data/ or imports/"
        elif (root / source.parts[0]).exists() and not (root / source).exists():
            yield f"{where}: no such file or folder; put the data there"
        yield from network_faults(dataset.reference.get("networks"), f"datasets.{key}.reference.networks")
        yield from _weights(root, key, dataset.reference.get("networks"))
    yield from _components(tree)
    yield from _labels(tree)
    starts = {**tree.bases, **tree.models}
    for key, model in tree.models.items():
        if model.dataset not in tree.datasets:
            near = parts.nearest(model.dataset, list(tree.datasets))
            yield f"params.yaml: 'models.{key}.dataset' is {model.dataset!r}{near}"
        if model.init_from not in starts:
            near = parts.nearest(model.init_from, list(starts))
            yield f"params.yaml: 'models.{key}.init_from' is {model.init_from!r}{near}"
        if circle := _circle(tree, key):
            yield (
                f"params.yaml: 'models.{key}': init_from and components go in a circle: {' needs '.join(circle)}; "
                "start one from a base"
            )


def _components(tree: settings.Settings) -> Iterator[str]:
    """Components without a model, and sets that do not hold what a model needs of them."""
    for key, component in tree.components.items():
        if (name := component.get("model")) not in {*tree.bases, *tree.models}:
            near = parts.nearest(str(name), [*tree.bases, *tree.models])
            yield f"params.yaml: 'components.{key}.model' is {name!r}{near}"
    for key, model in tree.models.items():
        try:
            if model.family in parts.names("models"):
                settings.check_roles(tree, key)
        except ConfigError as error:
            yield from str(error).split("\n")


def _labels(tree: settings.Settings) -> Iterator[str]:
    """Models that are conditional on labels which their texts can't have: only a column names those."""
    for key, model in tree.models.items():
        dataset = tree.datasets.get(model.dataset)
        if not dataset or dataset.modality not in parts.names("modalities") or not model.options.get("conditional"):
            continue
        ingest = settings.modality_section(dataset.modality, DATASET_SECTIONS["ingest"])
        if ingest.FOLDERS == "places" and not dataset.ingest.get("label_column"):
            yield (
                f"params.yaml: 'models.{key}.options.conditional' is true, but 'datasets.{model.dataset}.ingest."
                "label_column' names no column with labels; name one, or set conditional to false"
            )


def _circle(tree: settings.Settings, key: str) -> list[str]:
    """A cycle of model dependencies through this model, first and last the same; empty if there is none."""
    needs: dict[str, list[str]] = {name: [model.init_from] for name, model in tree.models.items()}
    for name, model in tree.models.items():
        needs[name] += [str(one.get("model")) for one in tree.components.values() if one.get("set") == model.components]
    ways = [[key]]
    while ways:
        way = ways.pop()
        for needed in needs.get(way[-1], ()):
            if needed == key:
                return [*way, key]
            if needed not in way:
                ways.append([*way, needed])
    return []


def _weights(root: Path, key: str, networks: Any) -> Iterator[str]:
    """Faults of published weights that are missing; the reference stage would fail only after its training."""
    for name, network in networks.items() if isinstance(networks, dict) else ():
        path = network.get("weights") if isinstance(network, dict) else None
        if isinstance(path, str) and "://" not in path and not (root / path).exists():
            yield (
                f"params.yaml: 'datasets.{key}.reference.networks.{name}.weights' is {path!r}: no such file or folder; "
                "put the weights there"
            )


def _graph(root: Path) -> Iterator[str]:
    """Faults of dvc.yaml against params.yaml and the source tree."""
    try:
        graph = nodes(root)
    except ConfigError as error:
        yield str(error)
        return
    for node in graph.values():
        try:
            param_values(root, node.params)
        except ConfigError as error:
            yield f"dvc.yaml: {node.address}: {error}"
        for name in node.code:
            if not (root / name).exists() and not name.startswith(CODE_FILES):
                yield f"dvc.yaml: {node.address}: dep {name!r} is no file or folder of the project"


def _code(root: Path) -> tuple[list[str], list[str]]:
    """Faults in code digests, and a note on each code file that is out of date with the sources."""
    sources, stale = Sources(root), []
    try:
        for node in nodes(root).values():
            if node.kind != "code":
                stale += [record_of(sources, node) and difference(sources, node)]
    except ConfigError as error:
        return [str(error)], []
    stale = [found for found in stale if found]
    if not stale or not (root / CODE_FILES).is_dir():
        return [], []
    more = f" (and {len(stale) - 1} more)" if stale[1:] else ""
    return [], [f"{stale[0]}{more}; dvc repro writes them anew (if it skips code, run dvc repro --force code)"]


def _notes(root: Path) -> list[str]:
    free_gib = shutil.disk_usage(root).free / 2**30
    return [f"{free_gib:.1f} GiB free on disk; large data may not fit"] if free_gib < LEAST_FREE_GIB else []
