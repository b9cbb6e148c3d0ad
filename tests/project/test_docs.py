"""Pages that are made from the code, or must agree with it."""

import importlib.util
import re
from pathlib import Path

import pytest

from genfoundry.cli import _parser
from genfoundry.config.dag import KINDS
from genfoundry.config.params import read_yaml
from genfoundry.config.pointers import read_pointer
from genfoundry.core.errors import Exit
from genfoundry.data.embedded.packages import EMBEDDED_MD5, PACKAGES

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src/genfoundry"


def generated() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: page() for name, page in module.PAGES.items()}


@pytest.mark.parametrize(("name", "page"), generated().items())
def test_generated_pages_are_up_to_date(name: str, page: str) -> None:
    assert (ROOT / "docs" / name).read_text() == page, "run make docs"


def test_every_exit_code_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", (ROOT / "docs/exit-codes.md").read_text(), re.M)

    assert {name: int(code) for code, name in rows} == {code.name: int(code) for code in Exit}


def test_the_architecture_page_knows_every_stage_and_layer() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    stages = set(re.findall(r"^\| `(\w+)` \|", page, re.M))

    assert stages == {*KINDS, "report"} == set(read_yaml(ROOT / "dvc.yaml")["stages"])
    layers = page.split("## Layers")[1].split("```")[1]
    named = set(re.findall(r"^([a-z_]+(?:(?: \||,) [a-z_]+)*)", layers, re.M))
    words = {word for line in named for word in re.split(r" \| |, ", line)} - {"text"}
    modules = {path.stem for path in SRC.iterdir() if (path.suffix == ".py" or path.is_dir()) and path.stem[0] != "_"}
    assert words == modules


def test_paths_named_in_the_pages_exist() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
        for name in re.findall(r"`((?:docs|tests|src|benchmarks)/[\w/.]+\.\w+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name} names {name}"


def test_modules_named_in_the_pages_exist() -> None:
    """Decisions too: who reads why something is so looks for it in the code. The page on parts names examples."""
    pages = {*(ROOT / "docs").rglob("*.md")} - {ROOT / "docs/adding-a-part.md"}
    named = [(page.name, name) for page in pages for name in re.findall(r"`([a-z_]+/[\w/]+\.py)`", page.read_text())]

    assert len(named) > 20
    assert [(page, name) for page, name in named if not ((SRC / name).exists() or (ROOT / name).exists())] == []


def test_the_readme_names_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    commands = set(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))

    assert set(re.findall(r"^genfoundry ([a-z]+)\b", text, re.M)) <= commands
    assert set(re.findall(r"^make ([a-z][a-z-]*)", text, re.M)) <= targets


def test_lock_builder_and_data_pointer_agree() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    for name, version in PACKAGES.items():
        assert re.findall(rf"^{name}==(.+)$", lock, re.M) == [version], f"{name} must have one version on every Python"
    assert read_pointer(ROOT) == EMBEDDED_MD5


def test_nothing_of_one_machine_stands_in_the_project() -> None:
    home = str(Path.home())
    for path in ROOT.rglob("*"):
        if (
            path.is_file()
            and path.suffix in {".py", ".md", ".yaml", ".toml", ".lock", ".json"}
            and ".venv" not in path.parts
        ):
            if {"artifacts", "mlruns", ".dvc", ".git", "data"} & set(path.relative_to(ROOT).parts):
                continue
            assert f"{home}/" not in path.read_text(errors="ignore") or len(home) < 3, path


def test_no_two_test_files_have_one_name() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]

    assert len(names) == len(set(names)), "pytest imports them by name: it would collect one of the two"
