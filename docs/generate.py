"""Write docs/settings.md and docs/tags.md from the code: ``make docs``; a test holds the files to it."""

from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from genfoundry import parts, settings
from genfoundry.specs import Section
from genfoundry.tracking import tags

HERE = Path(__file__).parent


def default(field: FieldInfo) -> str:
    """A field's default as one writes it in YAML."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, Section):
        return "`{}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "`''`" if value == "" else f"`{list(value) if isinstance(value, tuple) else value}`"


def kind(field: FieldInfo) -> str:
    text = str(field.annotation).removeprefix("<class '").removesuffix("'>")
    return text.replace("typing.", "").replace("genfoundry.settings.", "").replace("|", "or")


def table(section: type[Section]) -> list[str]:
    first = (section.__doc__ or "").strip().splitlines()
    lines = [" ".join(line.strip() for line in first), ""]
    if not section.model_fields:
        return [*lines, "No fields.", ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {kind(field)} | {default(field)} | {meaning} |")
    return [*lines, ""]


def settings_page() -> str:
    """The whole of params.yaml, block by block."""
    lines = [
        "# Settings",
        "",
        "Made from the code by `make docs`. Every section of a block is written out, even if empty.",
        "",
    ]
    for title, section in (("execution", settings.Execution), ("bases.<name>", settings.Base)):
        lines += [f"## `{title}`", "", *table(section)]
    for name, common in settings.DATASET_SECTIONS.items():
        lines += [f"## `datasets.<name>.{name}`", ""]
        owners = {
            key: getattr(parts.load("modalities", key), name.capitalize(), None) for key in parts.names("modalities")
        }
        lines += table(common) if not all(owners.values()) else []
        for key, owner in owners.items():
            if owner is not None and owner is not common:
                lines += [f"### with `modality: {key}`", "", *table(owner)]
    lines += ["## `models.<name>.options`", ""]
    for key in parts.names("models"):
        lines += [f"### with `family: {key}`", "", *table(parts.load("models", key).Config)]
    for name, section in settings.MODEL_SECTIONS.items():
        lines += [f"## `models.<name>.{name}`", "", *table(section)]
    for title, section in (("optimizer", settings.Optimizer), ("schedule", settings.Schedule)):
        lines += [f"### `training.{title}`", "", *table(section)]
    lines += [
        "### `validation.expectations[]`",
        "",
        *table(settings.Expectation),
        "### `evaluation.metrics.<name>`",
        "",
    ]
    for key in parts.names("metrics"):
        lines += [f"`{key}`:", "", *table(parts.load("metrics", key).Config)]
    return "\n".join(lines).rstrip() + "\n"


def tags_page() -> str:
    """Tags that genfoundry writes to MLflow."""
    lines = ["# MLflow tags", "", "Made from the code by `make docs`.", "", "| tag | meaning |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {meaning} |" for name, meaning in tags.MEANING.items())]) + "\n"


PAGES = {"settings.md": settings_page, "tags.md": tags_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (HERE / name).write_text(page())
