"""Examples of docs/adding-a-part.md, section by section: tests put them into a project and run them."""

import re

from conftest import ROOT, Project
from ruamel.yaml import YAML

PAGE = ROOT / "docs/adding-a-part.md"


def section(title: str) -> str:
    """The text below a heading of the second level."""
    (found,) = re.findall(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.M | re.S)
    return str(found)


def blocks(title: str, language: str) -> list[str]:
    """Its code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", section(title), re.M | re.S)


def add(project: Project, title: str) -> list[str]:
    """Write a section's files and merge its blocks into params.yaml; the files' paths below src/genfoundry."""
    names = re.findall(r"^`([\w/-]+\.py)`:$", section(title), re.M)
    for name, code in zip(names, blocks(title, "python"), strict=True):
        file = project.root / "src/genfoundry" / name
        assert not file.exists(), f"{name} is there already"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    yaml, path = YAML(), project.root / "params.yaml"
    tree = yaml.load(path)
    for block in blocks(title, "yaml"):
        for group, entries in yaml.load(block).items():
            tree.setdefault(group, {}).update(entries)
    yaml.dump(tree, path)
    return names
