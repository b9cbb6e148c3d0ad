"""dvc.yaml as genfoundry reads it: the stages with ``foreach`` unrolled, and fingerprints of their inputs.

DVC decides what runs. This reader exists because a stage must know its own outputs and inputs without importing
DVC (which costs a second); a test holds it to DVC's own resolution.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genfoundry.config.params import read_yaml
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import digest_of, file_digest, tree_digest

DATASET_STAGES = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode", "reference")
MODEL_STAGES = ("train", "sample", "extract", "evaluate")
KINDS = {
    "code": "code",
    **dict.fromkeys(DATASET_STAGES, "dataset"),
    "base": "base",
    "component": "component",
    **dict.fromkeys(MODEL_STAGES, "model"),
}
"""What a stage works on; ``report`` works on the repository."""

UNLOGGED = ("code", "component")
"""Kinds whose stages create no MLflow run and no lineage: their outputs are inputs of those that do."""

CODE_FILES = "artifacts/code"
"""Folder of the code digests of each stage; ``config.code`` writes it."""

LINEAGE = "artifacts/lineage"
"""Folder of each stage's lineage; `tracking/lineage.py` writes it."""

CODE = (f"{CODE_FILES}/", "presets/", "src/", "pipelines")
"""Prefixes of deps that are code or presets, in dvc.yaml and in lineage files of all versions."""

NUMERICS = "numerics"
"""The section on which every stage depends whose results hold sums of floats."""


@dataclass(frozen=True)
class Node:
    """One stage of the graph with everything resolved."""

    stage: str
    key: str
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    outs: tuple[str, ...]
    """Outputs, metrics and plots alike."""
    metrics: tuple[str, ...] = ()
    """Those outputs that hold numbers to compare."""

    @property
    def address(self) -> str:
        """The name DVC knows it by: ``train@digits-vae``, or ``report``."""
        return f"{self.stage}@{self.key}" if self.key else self.stage

    @property
    def kind(self) -> str:
        """``code``, ``dataset``, ``base``, ``component``, ``model`` or ``repository``."""
        return KINDS.get(self.stage, "repository")

    @property
    def code(self) -> tuple[str, ...]:
        """Deps that are code or presets, such as prompt files."""
        return tuple(dep for dep in self.deps if dep.startswith(CODE))

    @property
    def data(self) -> tuple[str, ...]:
        return tuple(dep for dep in self.deps if dep not in self.code)


def _fill(text: str, scope: Mapping[str, Any], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        found: Any = scope
        for step in match[1].split("."):
            if not isinstance(found, Mapping) or step not in found:
                raise ConfigError(f"dvc.yaml: {where}: {match[0]} has no value in params.yaml; add '{step}'")
            found = found[step]
        return str(found)

    return re.sub(r"\$\{([^}]+)\}", value, text)


def _names(entries: Iterable[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, Mapping) else str(entry) for entry in entries]


def _node(stage: str, key: str, body: Mapping[str, Any], scope: Mapping[str, Any]) -> Node:
    where = f"{stage}@{key}" if key else stage

    def resolved(*fields: str) -> tuple[str, ...]:
        return tuple(_fill(name, scope, where) for field in fields for name in _names(body.get(field, ())))

    return Node(
        stage=stage,
        key=key,
        cmd=_fill(body["cmd"], scope, where),
        deps=resolved("deps"),
        params=resolved("params"),
        outs=resolved("outs", "metrics", "plots"),
        metrics=resolved("metrics"),
    )


def nodes(root: Path) -> dict[str, Node]:
    """All stages by address, in the order of dvc.yaml."""
    tree, params = read_yaml(root / "dvc.yaml"), read_yaml(root / "params.yaml")
    graph = {}
    for stage, body in tree["stages"].items():
        if "foreach" not in body:
            node = _node(stage, "", body, params)
            graph[node.address] = node
            continue
        group = re.sub(r"^\$\{(.+)\}$", r"\1", body["foreach"])
        if group not in params:
            raise ConfigError(f"params.yaml: '{group}' is missing, of which dvc.yaml makes stages {stage}; add it")
        for key, item in (params[group] or {}).items():
            node = _node(stage, key, body["do"], {**params, "key": key, "item": item})
            graph[node.address] = node
    return graph


def find(root: Path, address: str) -> Node:
    """The stage of that address."""
    graph = nodes(root)
    if address not in graph:
        raise ConfigError(f"dvc.yaml: no stage {address!r}; there are: {', '.join(graph)}")
    return graph[address]


def param_values(root: Path, names: Iterable[str]) -> dict[str, Any]:
    """Values of dotted parameter names in params.yaml."""
    tree = read_yaml(root / "params.yaml")
    values: dict[str, Any] = {}
    for name in names:
        found: Any = tree
        for step in name.split("."):
            if not isinstance(found, Mapping) or step not in found:
                raise ConfigError(f"params.yaml: '{name}' is missing; add it (a section may be {{}})")
            found = found[step]
        values[name] = found
    return values


def lock_digest(root: Path) -> str:
    """sha256 of requirements.lock: what is installed is part of what a stage computes."""
    lock = root / "requirements.lock"
    return file_digest(lock) if lock.is_file() else ""


def digests(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Content digest of each file or folder, by its path."""
    found = {}
    for name in sorted(names):
        if not (root / name).exists():
            raise ConfigError(f"{root / name}: no such file or folder; run dvc repro, which makes it first")
        found[name] = tree_digest(root / name)
    return found


def stage_inputs(root: Path, node: Node) -> dict[str, Any]:
    """All inputs of a stage: contents of its deps, values of its params, requirements.lock."""
    return {
        "deps": digests(root, node.deps),
        "params": param_values(root, node.params),
        "lock": lock_digest(root),
    }


def fingerprint(root: Path, node: Node) -> str:
    """Digest of ``stage_inputs``: equal fingerprints promise equal results."""
    return digest_of(stage_inputs(root, node))


def _stands_on(root: Path, stages: Iterable[Node], data: Mapping[str, str]) -> str:
    stages = list(stages)
    return digest_of(
        {
            "data": dict(data),
            "code": digests(root, {name for node in stages for name in node.code}),
            "params": param_values(root, sorted({name for node in stages for name in node.params})),
            "lock": lock_digest(root),
        }
    )


Lineage = dict[str, Any]
"""A stage's lineage: fingerprint, params, lock, and by path the digests of ``inputs`` and ``outputs``; where there are
some, ``components`` (model and digest by role) and the kind of ``processor``. No time, host, commit or run.
"""


def lineage_file(root: Path, address: str) -> Path:
    return root / LINEAGE / f"{address}.json"


def read_lineage(root: Path, address: str) -> Lineage | None:
    """Lineage of a stage as it last ran here; None if it never did."""
    file = lineage_file(root, address)
    return parse_lineage(file.read_bytes(), str(file)) if file.is_file() else None


def parse_lineage(text: bytes, where: str) -> Lineage:
    """Lineage from the bytes of its file.

    Raises:
        DataError: They are not those of a lineage file.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error}); remove it and run dvc repro") from None
    if not isinstance(found, dict) or not {"fingerprint", "inputs", "outputs"} <= found.keys():
        raise DataError(f"{where}: not the lineage of a stage; remove it and run dvc repro")
    return found


def source_digest(root: Path, graph: Mapping[str, Node], key: str) -> str:
    """Content digest of a dataset's source: recorded by its ingest stage, else computed."""
    (source,) = graph[f"ingest@{key}"].data
    lineage = read_lineage(root, f"ingest@{key}")
    return str(lineage["inputs"][source]) if lineage else tree_digest(root / source)


def state(root: Path, node: Node) -> str:
    """Digest of the state of the dataset, model or repository that a stage works on: one MLflow run each.

    A dataset's state is its source, the settings and code of its stages. A model's is its arrays and starting
    weights, the settings and code from reference to evaluate; raw records that change no array don't change it.
    """
    graph = nodes(root)
    if node.kind == "dataset":
        stages = [graph[f"{stage}@{node.key}"] for stage in DATASET_STAGES]
        source = tree_digest(root / graph[f"ingest@{node.key}"].data[0]) if node.stage == "ingest" else None
        return _stands_on(root, stages, {"source": source or source_digest(root, graph, node.key)})
    if node.kind == "model":
        train = graph[f"train@{node.key}"]
        dataset = next(Path(name).parent.name for name in train.data if name.endswith("/arrays"))
        stages = [graph[f"reference@{dataset}"], *(graph[f"{stage}@{node.key}"] for stage in MODEL_STAGES)]
        return _stands_on(root, stages, digests(root, train.data))
    if node.kind == "base":
        return _stands_on(root, [node], {})
    return repository_state(root)


def repository_state(root: Path) -> str:
    """Digest of what git and DVC track: settings, code of all stages, data pointers, lock; not of the commit."""
    graph = nodes(root)
    shared = {NUMERICS, "components"} & {name for node in graph.values() for name in node.params}
    pointers = [root / "data.dvc", *sorted((root / "imports").glob("*.dvc"))]
    return digest_of(
        {
            "data": {file.name: file_digest(file) for file in pointers if file.is_file()},
            "code": digests(root, {name for node in graph.values() for name in node.code if node.kind != "code"}),
            "params": param_values(root, ["datasets", "models", "bases", *shared]),
            "lock": lock_digest(root),
        }
    )
