"""Write docs/settings.md, tags.md and metrics.md from the code: ``make docs``; a test holds the files to it."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from genfoundry.config import params as settings
from genfoundry.config.sections.base import Base
from genfoundry.config.sections.component import Component
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.numerics import Numerics
from genfoundry.config.sections.table import DATASET_SECTIONS, MODEL_SECTIONS
from genfoundry.config.specs import Section
from genfoundry.core import parts
from genfoundry.evaluation.evidence import CATALOGUE, asked_for
from genfoundry.evaluation.metrics import Metric, load_metric, metric_names
from genfoundry.evaluation.networks import published
from genfoundry.gate.rules import Gate
from genfoundry.retraining.options import Retraining
from genfoundry.tracking import tags

HERE = Path(__file__).parent


def default(field: FieldInfo) -> str:
    """A field's default as one writes it in YAML."""
    if field.default_factory:
        return f"`{field.default_factory()}`".replace("'", "")  # type: ignore[call-arg]
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Section):
        return "`{}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "`''`" if value == "" else f"`{list(value) if isinstance(value, tuple) else value}`"


def kind(annotation: Any) -> str:
    """A type as a reader of YAML knows it, without the conditions it is annotated with."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind(inner[0])
    if origin is Literal:
        return "one of " + ", ".join(f"`{value}`" for value in inner)
    if origin is UnionType:
        return " or ".join(kind(part) for part in inner)
    if origin:
        return f"{origin.__name__}[{', '.join('...' if part is Ellipsis else kind(part) for part in inner)}]"
    if blocks(annotation):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return "nothing" if annotation is type(None) else str(getattr(annotation, "__name__", annotation))


def table(section: type[Section]) -> list[str]:
    """Its fields; a block without an explanation has that of its type."""
    first = (section.__doc__ or "").strip().splitlines()
    lines = [" ".join(line.strip() for line in first), ""]
    if not section.model_fields:
        return [*lines, "No fields.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        inside = blocks(field.annotation)
        meaning = " ".join((field.description or (inside[0].__doc__ if inside else None) or "").split())
        if not meaning:
            raise SystemExit(f"{section.__module__}.{section.__name__}.{name}: no docstring; say what it sets")
        lines.append(f"| `{name}` | {kind(field.annotation)} | {default(field)} | {meaning} |")
    return [*lines, ""]


def blocks(annotation: Any) -> list[type[Section]]:
    """Sections that a type holds."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [each for part in get_args(annotation) for each in blocks(part)]


def reached(sections: Iterable[type[Section]]) -> dict[str, type[Section]]:
    """Blocks inside of these, at any depth, by name."""
    found: dict[str, type[Section]] = {}
    for section in sections:
        inside = {each.__name__: each for field in section.model_fields.values() for each in blocks(field.annotation)}
        found |= inside | reached(inside.values())
    return dict(sorted(found.items()))


def settings_page() -> str:
    """The whole of params.yaml, block by block."""
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`. Every section of a block is written out, even if empty.",
        "",
    ]
    shown: list[type[Section]] = []

    def show(title: str, section: type[Section]) -> list[str]:
        shown.append(section)
        return [title, "", *table(section)]

    for title, section in (
        ("execution", Execution),
        ("numerics", Numerics),
        ("gate", Gate),
        ("retraining", Retraining),
        ("bases.<name>", Base),
        ("components.<name>", Component),
    ):
        lines += show(f"## `{title}`", section)
    for name, common in DATASET_SECTIONS.items():
        owners = {
            key: getattr(parts.load("modalities", key), common.__name__, None) for key in parts.names("modalities")
        }
        title = f"## `datasets.<name>.{name}`"
        lines += [title, ""] if all(owners.values()) else show(title, common)
        for key, owner in owners.items():
            if owner is not None and owner is not common:
                lines += show(f"### with `modality: {key}`", owner)
    for key in published():
        lines += show(f"### `reference.networks.{key}`", parts.load("networks", key).Config)
    lines += ["## `models.<name>.options`", ""]
    for key in parts.names("models"):
        lines += show(f"### with `family: {key}`", parts.load("models", key).Config)
    for name, section in MODEL_SECTIONS.items():
        lines += show(f"## `models.<name>.{name}`", section)
        for key in parts.names("models"):
            if (own := settings.family_section(key, section)) is not section:
                lines += show(f"### with `family: {key}`", own)
    lines += ["### `evaluation.metrics.<name>`", ""]
    for key in parts.names("metrics"):
        lines += show(f"`{key}`:", parts.load("metrics", key).Config)
    lines += ["## Types", "", "Blocks inside the blocks above.", ""]
    for name, section in reached(shown).items():
        lines += [f"### {name}", "", *table(section)]
    return "\n".join(lines).rstrip() + "\n"


def tags_page() -> str:
    """Tags that genfoundry writes to MLflow."""
    lines = ["# MLflow tags", "", "Made from the code by `make docs`.", "", "| tag | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {meaning} |" for name, meaning in tags.MEANING.items())]) + "\n"


DIRECTIONS = {True: "higher is better", False: "lower is better", None: "neither end is good"}


def metrics_page() -> str:
    """docs/metrics.part.md, then every file under metrics/ and every piece of evidence."""
    lines = [(HERE / "metrics.part.md").read_text().rstrip(), "", "## At a glance", ""]
    lines += ["| metric | what | direction | asks for |", "|---|---|---|---|"]
    metrics = [load_metric(name) for name in metric_names()]
    for metric in metrics:
        if metric.network and not has_all(metric):
            continue
        asked = ", ".join(f"`{item}`" for item in asked_for(metric))
        off = "" if metric.by_default else " (only if named)"
        lines.append(f"| `{metric.name}`{off} | {metric.title} | {DIRECTIONS[metric.higher_is_better]} | {asked} |")
    for file in parts.names("metrics"):
        module = parts.load("metrics", file)
        lines += ["", f"## `{file}`", "", f"**{module.TITLE}**; {DIRECTIONS[module.HIGHER_IS_BETTER]}.", ""]
        of_networks = [metric for metric in metrics if metric.network and metric.module is module and has_all(metric)]
        if of_networks:
            lines += ["Scores: " + ", ".join(f"`{metric.name}`" for metric in of_networks) + ".", ""]
        lines += [inspect.getdoc(module) or "", "", *_described(module), f"*Caveat*: {module.CAVEAT}", ""]
        lines += [f"*Cost*: {module.COST}"]
    lines += ["", "## Networks", "", "| network | weights | what it takes | needs |", "|---|---|---|---|"]
    for name in parts.names("networks"):
        part = parts.load("networks", name)
        needs = f"`pip install 'genfoundry[{part.EXTRA}]'`" if part.EXTRA else ""
        lines.append(f"| `{name}` ({part.TITLE}) | {part.LICENCE} | {part.TAKES} | {needs} |")
    for name in parts.names("networks"):
        part = parts.load("networks", name)
        lines += ["", f"### `{name}`", "", inspect.getdoc(part) or "", "", f"*Caveat*: {part.CAVEAT}"]
    lines += ["", "## Evidence", "", "What a metric may ask for, by the names of its parameters.", ""]
    lines += ["| evidence | what |", "|---|---|"]
    lines += [f"| `{name}` | {item.what} |" for name, item in CATALOGUE.items()]
    return "\n".join(lines) + "\n"


def has_all(metric: Metric) -> bool:
    """Whether the network has what its score asks for: logits need classes."""
    return bool(parts.load("networks", metric.network).CLASSES) or not any("_logits" in each for each in metric.asks)


def _described(module: ModuleType) -> list[str]:
    """What ``score`` says comes out, up to its arguments."""
    text = (inspect.getdoc(module.score) or "").split("\nArgs:")[0].strip()
    return [f"*Score*: {text}", ""]


PAGES = {"settings.md": settings_page, "tags.md": tags_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
