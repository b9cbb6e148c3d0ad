"""Digests of the code that a stage's result depends on: of each module that it imports, directly or not.

DVC compares bytes, so with source files as deps a changed comment would retrain. Instead the stage ``code`` writes
``artifacts/code/<stage>@<key>.json`` for every stage, and each stage depends on its own file alone. A module counts
whole, but for comments, layout, docstrings and what only type checkers import; parts that a stage loads by name count
as imported. An import that can't be resolved statically is an error. Why modules, not definitions: docs/decisions/0010.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from genfoundry.config import params as settings
from genfoundry.config.dag import CODE_FILES as FOLDER
from genfoundry.config.dag import Node, nodes
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import canonical_json, publish_folder, read_json

FORMAT = 1
"""Version of the code files. Raise it when the digests change their meaning: every stage then runs once more."""

PLUMBING = (
    "genfoundry.pipeline",  # starts a stage, and proves that it ended
    "genfoundry.state",  # journal, locks, heartbeat: what happened, not what came out
    "genfoundry.tracking",  # shows results in MLflow
    "genfoundry.config.code",  # this
    "genfoundry.config.dag",  # which files a stage reads: their contents are deps themselves
    "genfoundry.config.pointers",
    "genfoundry.config.sections.execution",  # on what it runs: no part of a model's identity (architecture, rule 1)
    "genfoundry.config.sections.table",  # lists sections for the docs and for check; a stage names its own
    "genfoundry.core.clock",
    "genfoundry.core.errors",
    "genfoundry.core.parts",  # finds parts by name: the parts themselves count
    "genfoundry.core.paths",
    "genfoundry.core.processes",
    "genfoundry.core.progress",
    "genfoundry.core.ranks",
)
"""Modules and packages that can't change a result, so they are left out; ``core.io`` and ``core.pages`` can."""

PARTS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("ingest", "validate", "preprocess", "deduplicate", "split", "encode"), ("modalities",)),
    "base": ("models", "formats"),
    "reference": ("networks",),
    "extract": ("models", "networks"),
    "train": ("models", "objectives", "media"),
    "sample": ("models", "media"),
    "evaluate": ("metrics", "media"),
    "report": ("metrics", "networks"),
}
"""Kinds of parts that a stage loads by name. ``roots`` says which of each kind; ``media`` is of a modality no more than
how its samples are shown.
"""

LOADERS: Mapping[str, tuple[str, ...]] = {
    "pipelines": (),  # puts src/ of this project before an installed one
    "genfoundry.config.params": (),  # types a section by the stage's own part
    "genfoundry.data.preprocess.cleaning": ("modalities",),
    "genfoundry.data.shards.memo": (),  # digests sources as a cache key
    "genfoundry.data.similarity.fingerprints": ("modalities",),
    "genfoundry.evaluation.extraction.embedding": ("networks",),
    "genfoundry.evaluation.metrics": ("metrics",),  # of networks it takes but the titles, for the report
    "genfoundry.evaluation.networks": (),  # which there are, and whether what they need is installed
    "genfoundry.evaluation.networks._weights": (),  # finds a file of a package, named by its digest
    "genfoundry.generation.bases": ("formats",),
    "genfoundry.generation.modelfile": ("models",),
    "genfoundry.modalities.common.lookup": ("media",),
    "genfoundry.modalities.common.contract": (),  # imports what a modality's table names: ``roots`` knows the table
    "genfoundry.metrics": (),  # names for people who import the package; stages import the files
}
"""Modules that import dynamically, and the kinds of parts that a stage which imports one must name."""

OPAQUE = {"import_module", "__import__", "__file__", "__doc__", "getdoc", "getsource", "model_json_schema"}
"""Names, of attributes too, whose use hides from the syntax tree what is imported or read."""

OPAQUE_WORDS = OPAQUE | {"exec", "eval"}
"""The same for names that stand alone: ``model.eval()`` is another thing."""

OPAQUE_IMPORTS = ("importlib.resources", "importlib.util", "pkgutil", "runpy")

FINDERS = {"genfoundry.core.parts", "genfoundry.core.parts.load", "genfoundry.core.parts.names"}
"""Imports by which a module may load parts by name."""

PACKAGES = {"genfoundry": "src", "pipelines": ""}
"""First-party packages, and the folders that hold them."""

MADE_UP = re.compile(rb"^(def )?__getattr__\b", re.MULTILINE)
"""A module-level ``__getattr__``, which computes names on access."""

SKIPPED = {"ctx", "kind", "type_comment", "type_ignores"}
"""Fields of syntax trees that say nothing, or not the same in every Python."""


@dataclass(frozen=True)
class Module:
    """Digest and imports of one source file."""

    digest: str
    imports: frozenset[str]
    """First-party modules that it may import, anywhere in it."""
    opaque: tuple[str, ...]
    """Uses of ``OPAQUE_WORDS``: file, line and word."""


class Sources:
    """The modules of a project by name, each file read once, and the settings that name its parts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files: dict[str, Path | None] = {}
        self._modules: dict[str, Module] = {}

    @cached_property
    def tree(self) -> settings.Settings:
        return settings.load(self.root)

    def file(self, name: str) -> Path | None:
        """Where a first-party module lies; None for all other names."""
        if name not in self._files:
            folder = PACKAGES.get(name.partition(".")[0])
            path = self.root.joinpath(folder or "", *name.split("."))
            places = (path.with_name(f"{path.name}.py"), path / "__init__.py") if folder is not None else ()
            self._files[name] = next((file for file in places if file.is_file()), None)
        return self._files[name]

    def module(self, name: str) -> Module | None:
        """The first-party module of that name."""
        if name not in self._modules and (file := self.file(name)):
            self._modules[name] = self._read(name, file)
        return self._modules.get(name)

    def _read(self, name: str, file: Path) -> Module:
        tree = ast.parse(file.read_bytes(), str(file))
        _strip(tree)
        imports, opaque, place = set[str](), set[str](), file.relative_to(self.root).as_posix()
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for base, one in _targets(node, package):
                    imports |= {found for found in (base, one) if self.file(found)}
                    if not self._followed(base, one):
                        opaque.add(f"{place}:{node.lineno}: import of {one}")
            elif (isinstance(node, ast.Name) and node.id in OPAQUE_WORDS) or (
                isinstance(node, ast.Attribute) and node.attr in OPAQUE
            ):
                opaque.add(f"{place}:{node.lineno}: {node.id if isinstance(node, ast.Name) else node.attr}")
        digest = hashlib.sha256(_text(tree).encode()).hexdigest()[:16]
        return Module(digest, frozenset(imports), tuple(sorted(opaque)))

    def named(self, name: str) -> list[str]:
        """The modules that a module names in strings: the table of a modality."""
        file = self.file(name)
        strings = ast.walk(ast.parse(file.read_bytes(), str(file))) if file else ()
        return [
            one.value
            for one in strings
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and self.file(one.value)
        ]

    def _followed(self, base: str, one: str) -> bool:
        """Whether an import statement names every module that it loads."""
        if one.startswith(OPAQUE_IMPORTS) or one in FINDERS:
            return False
        if base.partition(".")[0] not in PACKAGES or self.file(one):
            return True
        # A name in a module, unless there is no such module, or it computes names by ``__getattr__``.
        file = self.file(base)
        return bool(file and base != one and not MADE_UP.search(file.read_bytes()))


def _targets(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, str]]:
    """(module, module or name in it) of everything that a statement imports."""
    if isinstance(node, ast.Import):
        yield from ((one.name, one.name) for one in node.names)
    else:
        base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module or ""
        yield from ((base, f"{base}.{one.name}") for one in node.names)


def _strip(node: ast.AST) -> None:
    """Remove what has no effect at run time: docstrings, ``pass``, and blocks for type checkers."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        if isinstance(block := getattr(node, field, None), list):  # those of lambdas are expressions
            kept = [one for statement in block for one in _kept(statement)]
            setattr(node, field, kept)
            for one in kept:
                _strip(one)


def _kept(statement: ast.AST) -> list[ast.AST]:
    if isinstance(statement, ast.If) and ast.unparse(statement.test).rpartition(".")[2] == "TYPE_CHECKING":
        return [kept for inner in statement.orelse for kept in _kept(inner)]
    idle = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return [] if idle or isinstance(statement, ast.Pass) else [statement]


def _text(node: object) -> str:
    """A syntax tree in a form of our own: ``ast.dump`` says more in newer Pythons, this is equal under 3.11 to 3.13."""
    if isinstance(node, list):
        return f"[{','.join(map(_text, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields if name not in SKIPPED)
    inner = ",".join(f"{name}={_text(value)}" for name, value in fields if value is not None and value != [])
    return f"{type(node).__name__}({inner})"


def plumbing(name: str) -> bool:
    """Whether a module or its package is listed in ``PLUMBING``."""
    return name.startswith(tuple(f"{room}." for room in PLUMBING)) or name in PLUMBING


def roots(sources: Sources, node: Node) -> list[str]:
    """Root modules of a stage: its own, those that type its sections, and the parts that it loads by name.

    Raises:
        ConfigError: params.yaml names a part that is not there.
    """
    typed = ("params", "sections", "sections.numerics")
    found = [f"pipelines.{node.stage}", *(f"genfoundry.config.{name}" for name in typed)]
    for kind in PARTS.get(node.stage, ()):
        if kind == "media":
            dataset = sources.tree.models[node.key].dataset
            found.append(f"genfoundry.modalities.{sources.tree.datasets[dataset].modality}.media")
            continue
        known = parts.names(kind, sources.root / "src/genfoundry")
        for name in (wanted := _wanted(kind, sources.tree, node, known)):
            if name not in known:
                raise ConfigError(f"{node.address}: unknown {kind} part {name!r}{parts.nearest(name, known)}")
        found += [f"{parts.package_of(kind)}.{name}" for name in wanted]
        if kind == "modalities":
            found += [one for name in wanted for one in sources.named(f"genfoundry.{kind}.{name}")]
    return found


def _wanted(kind: str, tree: settings.Settings, node: Node, known: list[str]) -> list[str]:
    """Names of the parts of a kind that a stage loads; all that are known where the settings don't say."""
    if node.kind == "base":
        return known if tree.bases[node.key].get("path") else []  # its folder says its family
    if kind == "modalities":
        return [tree.datasets[node.key].modality]
    if kind == "networks":
        return _networks(tree, node)
    if node.kind != "model":
        return known
    model = tree.models[node.key]
    if kind == "objectives":
        chosen = model.training.get("objective") or {}
        return [str(chosen["name"])] if "name" in chosen else []
    if kind == "models":
        return settings.families(tree, node.key) or known
    return [name for name in known if name not in (model.evaluation.get("skip") or [])]


def _networks(tree: settings.Settings, node: Node) -> list[str]:
    """Published networks that a stage's data sets name; the data set's own is imported by a statement."""
    keys = {"dataset": [node.key], "model": [tree.models[node.key].dataset] if node.key in tree.models else []}
    blocks = (tree.datasets[key].reference.get("networks") for key in keys.get(node.kind, list(tree.datasets)))
    return sorted({str(name) for block in blocks if isinstance(block, dict) for name in block})


def walk(sources: Sources, names: Iterable[str]) -> dict[str, Module]:
    """All first-party modules that are reached by imports from some, plumbing left out."""
    found: dict[str, Module] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found and not plumbing(name) and (module := sources.module(name)):
            found[name] = module
            todo += [name.rpartition(".")[0], *module.imports]
    return dict(sorted(found.items()))


def reached(sources: Sources, node: Node) -> dict[str, str]:
    """Digests of all first-party modules that a stage's result depends on, by name.

    Raises:
        ConfigError: A module imports in a way that can't be resolved; every such place is named.
    """
    found, kinds, faults = walk(sources, roots(sources, node)), set(PARTS.get(node.stage, ())), list[str]()
    for name, module in found.items():
        if name not in LOADERS:
            faults += module.opaque
        elif missing := set(LOADERS[name]) - kinds:
            faults.append(f"{name} loads {', '.join(sorted(missing))} by name: add them to PARTS[{node.stage!r}]")
    if faults:
        raise ConfigError(
            f"{node.address}: what its code rests on can't be followed:\n  " + "\n  ".join(sorted(faults)) + "\n"
            "import what is meant by a statement, or declare the module in LOADERS of genfoundry/config/code.py"
        )
    return {name: module.digest for name, module in found.items()}


def record_of(sources: Sources, node: Node) -> dict[str, Any]:
    """Contents of a stage's code file."""
    return {"format": FORMAT, "modules": reached(sources, node)}


def write_code(root: Path) -> None:
    """Publish the code files of all stages: the stage ``code``."""
    sources = Sources(root)
    with publish_folder(root / FOLDER) as folder:
        for node in nodes(root).values():
            if node.kind != "code":
                (folder / f"{node.address}.json").write_bytes(canonical_json(record_of(sources, node)))


def difference(sources: Sources, node: Node) -> str:
    """Differences between a stage's code file and the present sources; empty if there are none."""
    file = sources.root / FOLDER / f"{node.address}.json"
    if not file.is_file():
        return f"{FOLDER}/{file.name} is missing"
    then, now = read_json(file), record_of(sources, node)
    if then == now:
        return ""
    old, new = then.get("modules", {}), now["modules"]
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return (
        f"{FOLDER}/{file.name} is stale: {', '.join(changed[:3]) or 'its format'}{' ...' * (len(changed) > 3)} changed"
    )


def current(root: Path, node: Node) -> set[str]:
    """Names of the modules that a stage's code file lists.

    Raises:
        ConfigError: The file is out of date, so that DVC would record the result under the wrong code.
    """
    if said := difference(Sources(root), node):
        raise ConfigError(
            f"{said}; run `dvc repro code` first, which --single-item leaves out (with --force if it does nothing, as "
            "after dvc commit)"
        )
    return set(read_json(root / FOLDER / f"{node.address}.json")["modules"])


def check_imports(node: Node, seen: Collection[str]) -> None:
    """Compare the modules that this process imported with those in its stage's digest.

    Raises:
        ConfigError: A module is missing from the digest: a change of it would not re-run the stage.
    """
    own = {name for name in sys.modules if name.partition(".")[0] in PACKAGES}
    missed = sorted(name for name in own - set(seen) if not plumbing(name))
    if missed:
        raise ConfigError(
            f"imported {', '.join(missed)}, which {FOLDER}/{node.address}.json does not tell of: import it by a "
            "statement, or name its kind of part in PARTS of genfoundry/config/code.py"
        )
