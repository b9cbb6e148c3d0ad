"""First-party imports of a module, followed through files: what code a stage runs."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src/genfoundry"

PLUMBING = {"__init__", "core", "pipeline", "state", "tracking"}
"""Rooms that move no result: they name, find, start, show and log. All others are deps of stages that use them."""


def _file(module: str) -> Path | None:
    relative = Path(*module.split(".")[1:])
    for candidate in (SRC / relative.with_suffix(".py"), SRC / relative / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def direct(path: Path) -> set[Path]:
    """Files of genfoundry that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found |= {file for name in names if name.startswith("genfoundry.") and (file := _file(name))}
    return found


def closure(path: Path) -> set[str]:
    """Files below src/ that a stage's result rests on, plumbing left out, as paths from the root."""
    seen: set[Path] = set()
    todo = [path]
    while todo:
        for file in direct(todo.pop()):
            top = file.relative_to(SRC).parts[0].removesuffix(".py")
            if file not in seen and top not in PLUMBING and file.name != "__init__.py":
                seen.add(file)
                todo.append(file)
    return {file.relative_to(ROOT).as_posix() for file in seen}
