"""Read params.yaml as one typed, frozen tree.

A stage reads only the sections it names; ``genfoundry check`` reads them all and reports every fault at once.
Sections whose fields belong to a part (a modality, a family) are classes of that part's module.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from genfoundry.config.sections.component import Component
from genfoundry.config.specs import Key, Section
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json
from genfoundry.core.parts import KEY_PATTERN

SectionType = TypeVar("SectionType", bound=Section)

PLAIN = {"Reference", "Evaluation"}
"""Sections without fields of a modality or family: their stages don't depend on its code."""

NO_COMPONENTS = "none"
"""The empty set of components."""

MAX_BYTES = 1_000_000
"""A params.yaml above this is refused before it is parsed: aliases can multiply it."""


class DatasetBlock(Section):
    """One block under ``datasets:``; its sections are typed by the modality."""

    modality: Key
    source: str
    """Folder or file below data/ or imports/, relative to the project."""
    ingest: dict[str, Any]
    validation: dict[str, Any]
    preprocess: dict[str, Any]
    dedup: dict[str, Any]
    split: dict[str, Any]
    encode: dict[str, Any]
    reference: dict[str, Any]


class ModelBlock(Section):
    """One block under ``models:``; ``options`` is typed by the family."""

    dataset: Key
    family: Annotated[str, Field(pattern=r"^$|" + KEY_PATTERN)] = ""
    """Name of a file under models/; empty takes family and options of what ``init_from`` names."""
    init_from: Key = "scratch"
    components: Key = NO_COMPONENTS
    """A set of frozen models that this one learns from or is built on: those of ``components:`` with this ``set``."""
    options: dict[str, Any]
    training: dict[str, Any]
    sampling: dict[str, Any]
    evaluation: dict[str, Any]


class Settings(Section):
    """The whole of params.yaml, sections still raw."""

    format: Literal[1]
    project: Key
    """Name of the MLflow experiment."""
    execution: dict[str, Any]
    numerics: dict[str, Any] = Field(default_factory=dict)
    """What moves the last digits of all that is computed."""
    gate: dict[str, Any] = Field(default_factory=dict)
    """By which rules `genfoundry compare` judges two models; no stage reads it."""
    retraining: dict[str, Any] = Field(default_factory=dict)
    """How `genfoundry retrain` works (`genfoundry.retraining.options`); no stage reads it."""
    bases: dict[Key, dict[str, Any]]
    components: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    datasets: dict[Key, DatasetBlock]
    models: dict[Key, ModelBlock]


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML 1.2 file as a mapping (ruamel reads 1e-4 as a number, as DVC does; PyYAML would not)."""
    try:
        return _parse_yaml(path, path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None


@lru_cache(maxsize=16)
def _parse_yaml(path: Path, content: bytes) -> dict[str, Any]:
    """Parsed once for each content: a stage asks for the same file several times."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    if len(text) > MAX_BYTES or text.count("*") > 100:
        raise ConfigError(f"{path}: {len(text)} characters with {text.count('*')} '*'; too large, or an alias bomb")
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: needs a mapping at the top, got {type(tree).__name__}")
    return tree


def faults(section: type[Section], values: Mapping[str, Any], where: str, file: str = "params.yaml") -> list[str]:
    """Every validation error of a block, one line each: where, what with its value, what to do."""
    try:
        section.model_validate(values)
    except ValidationError as error:
        return [f"{file}: {_fault(section, fault, where)}" for fault in error.errors()]
    return []


def _fault(section: type[Section], fault: Any, where: str) -> str:
    path = [str(step) for step in fault["loc"]]
    place = ".".join(step for step in [where, *path] if step)
    if fault["type"] == "extra_forbidden":
        owner: Any = section
        for step in path[:-1]:
            field = getattr(owner, "model_fields", {}).get(step)
            owner = field.annotation if field else None
            if owner is None:
                break
        known = list(getattr(owner, "model_fields", {}) or {})
        return f"unknown key '{place}'{parts.nearest(path[-1], known)}"
    if fault["type"] == "missing":
        return f"'{place}' is missing; add it (a section may be {{}})"
    return f"'{place}' is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"


def parse(section: type[SectionType], values: Any, where: str, file: str = "params.yaml") -> SectionType:
    """A typed section.

    Args:
        section: Its class.
        values: As read.
        where: Its place in the file; empty for all of it.
        file: What the values were read from, for messages.

    Raises:
        ConfigError: With every fault of the section, one line each.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{file}: '{where}' is {values!r}; needs a block of settings (it may be {{}})")
    lines = faults(section, values, where, file)
    if lines:
        raise ConfigError("\n".join(lines))
    return section.model_validate(values)


def load(root: Path) -> Settings:
    """Load params.yaml, upper levels checked; a model without a family inherits that of its ``init_from``.

    Raises:
        ConfigError: A level is wrong; a model without a family starts from nothing, or sets an option of its own.
    """
    tree = parse(Settings, read_yaml(root / "params.yaml"), "")
    if all(model.family for model in tree.models.values()):
        return tree
    return tree.model_copy(update={"models": {key: _inherited(root, tree, key) for key in tree.models}})


def _inherited(root: Path, tree: Settings, key: str) -> ModelBlock:
    """A model's block with family and options inherited from its ``init_from``.

    Those of a base are known once it lies there in our own form: at its path, or imported. Till then both stay empty.
    """
    block, path = tree.models[key], [key]
    while not tree.models[path[-1]].family and tree.models[path[-1]].init_from in tree.models:
        path.append(tree.models[path[-1]].init_from)
        if path[-1] in path[:-1]:
            return block  # a circle, which `genfoundry check` reports
    last = tree.models[path[-1]]
    if block.family:
        return block
    if last.family:
        architecture = Architecture(family=last.family, options=last.options)
    elif not tree.bases.get(last.init_from, {}).get("path"):
        raise ConfigError(
            f"params.yaml: 'models.{key}.family' is missing; name one, or start from a base or a model that has one"
        )
    elif (found := _architecture(root, tree, last.init_from)) is None:
        return block
    else:
        architecture = found
    for name, value in block.options.items():
        if name not in architecture.options or architecture.options[name] != value:
            theirs = architecture.options.get(name, "its default")
            raise ConfigError(
                f"params.yaml: 'models.{key}.options.{name}' is {value!r}, but {block.init_from!r} has {theirs!r}; "
                "remove it, as options come with the model"
            )
    return block.model_copy(update={"family": architecture.family, "options": dict(architecture.options)})


CONFIG = "config.json"
"""File of family and options in a model folder; `generation/modelfile.py` writes it."""


class Architecture(Section):
    """Family and options in a published model's ``config.json``."""

    family: Key
    options: dict[str, Any]


def _architecture(root: Path, tree: Settings, base: str) -> Architecture | None:
    for folder in (root / str(tree.bases[base]["path"]), root / "artifacts/models" / base / "model"):
        if found := find_architecture(folder):
            return found
    return None


def find_architecture(folder: Path) -> Architecture | None:
    """Family and options of a model folder; None where it has no ``config.json`` that names a family."""
    config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    if not isinstance(config, dict) or "family" not in config:
        return None
    return parse(Architecture, {name: config.get(name) for name in ("family", "options")}, "", str(folder / CONFIG))


def read_architecture(folder: Path) -> Architecture:
    """The same of a folder that is a model's.

    Raises:
        DataError: It is none.
    """
    if found := find_architecture(folder):
        return found
    raise DataError(f"{folder / CONFIG}: no such file, or it names no family; the folder holds no model of genfoundry")


def dataset_section(settings: Settings, key: str, base: type[SectionType]) -> SectionType:
    """A typed section of a dataset, ``Dedup`` for ``dedup:``, with the fields that its modality adds."""
    if key not in settings.datasets:
        raise ConfigError(f"params.yaml: no dataset {key!r}{parts.nearest(key, list(settings.datasets))}")
    block, name = settings.datasets[key], base.__name__.lower()
    return parse(modality_section(block.modality, base), getattr(block, name), f"datasets.{key}.{name}")


def modality_section(modality: str, base: type[SectionType]) -> type[SectionType]:
    """The class of a section as a modality writes it: its own of that name, else ``base``."""
    return base if base.__name__ in PLAIN else getattr(parts.load("modalities", modality), base.__name__, base)


def model_section(settings: Settings, key: str, base: type[SectionType]) -> SectionType:
    """A typed section of a model, ``Sampling`` for ``sampling:``, with the fields that its family adds."""
    block, name = model_block(settings, key), base.__name__.lower()
    return parse(family_section(block.family, base), getattr(block, name), f"models.{key}.{name}")


def model_options(settings: Settings, key: str) -> Section:
    """The section ``options`` of a model, typed by its family's ``Config``."""
    block = model_block(settings, key)
    return parse(family_config(block.family), block.options, f"models.{key}.options")


def choose_objective(values: Mapping[str, Any], key: str) -> tuple[ModuleType, Section] | None:
    """The objective that a model's ``training.objective`` names, with its settings; None for the family's own loss.

    Raises:
        ConfigError: There is no such objective, or its settings are wrong.
    """
    if not values:
        return None
    where = f"models.{key}.training.objective"
    if "name" not in values:
        raise ConfigError(f"params.yaml: '{where}' is {dict(values)!r}; name the objective: {{name: ..., ...}}")
    module = parts.load("objectives", str(values["name"]))
    return module, parse(module.Config, {name: value for name, value in values.items() if name != "name"}, where)


def components_of(settings: Settings, name: str) -> dict[str, str]:
    """The models of a set of components, by role; none for the set ``none``.

    Raises:
        ConfigError: A component is wrong, no component is in the set, or two have the same role in it.
    """
    found: dict[str, str] = {}
    for key, values in settings.components.items():
        one = parse(Component, values, f"components.{key}")
        if one.set != name or name == NO_COMPONENTS:
            continue
        if one.role in found:
            raise ConfigError(f"params.yaml: 'components.{key}': set {name!r} has role {one.role!r} twice; rename one")
        found[one.role] = one.model
    if not found and name != NO_COMPONENTS:
        sets = sorted({str(values.get("set")) for values in settings.components.values()})
        raise ConfigError(f"params.yaml: no component is in the set {name!r}{parts.nearest(name, sets)}")
    return found


def check_roles(settings: Settings, key: str) -> dict[str, str]:
    """The models that one has as components, by role, where they are those that its family and objective name.

    Raises:
        ConfigError: The objective is wrong, a role has no model, or a model has a role that nobody asked for.
    """
    block = model_block(settings, key)
    given = components_of(settings, block.components)
    chosen = choose_objective(block.training.get("objective") or {}, key)
    modules = [parts.load("models", block.family), *([chosen[0]] if chosen else [])]
    wanted = {role for module in modules for role in getattr(module, "COMPONENTS", ())}
    where = f"params.yaml: 'models.{key}.components' is {block.components!r}"
    if missing := sorted(wanted - given.keys()):
        raise ConfigError(
            f"{where}: no model in it has the role {', '.join(missing)}, which {key} needs; add one under 'components:'"
        )
    if idle := sorted(given.keys() - wanted):
        need = ", ".join(sorted(wanted)) or "none"
        raise ConfigError(f"{where}, in which role {', '.join(idle)} is of no use; the roles that {key} needs: {need}")
    return given


def families(settings: Settings, key: str) -> list[str]:
    """A model's family, then those of its components and of theirs; empty if one of them is not known, as a base's."""
    found, todo = list[str](), [key]
    while todo:
        block = settings.models.get(todo.pop())
        if block is None or not block.family:
            return []
        found += [block.family] if block.family not in found else []
        todo += components_of(settings, block.components).values()
    return found


def model_block(settings: Settings, key: str) -> ModelBlock:
    """One block under ``models:``."""
    if key not in settings.models:
        raise ConfigError(f"params.yaml: no model {key!r}{parts.nearest(key, list(settings.models))}")
    if not settings.models[key].family:
        start = settings.models[key].init_from
        raise ConfigError(f"models.{key}: its family is known once {start!r} is imported; run dvc repro base@{start}")
    return settings.models[key]


def family_section(family: str, base: type[SectionType]) -> type[SectionType]:
    """The class of a section as a family writes it: its own of that name, else ``base``."""
    return base if base.__name__ in PLAIN else getattr(parts.load("models", family), base.__name__, base)


def family_config(family: str) -> type[Section]:
    """The class of a family's ``options``."""
    found: type[Section] = parts.load("models", family).Config
    return found
