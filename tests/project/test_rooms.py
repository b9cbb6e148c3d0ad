"""Doors: a room's `__init__` names in its last line, `Door: a, b.`, which of its modules others may import."""

import ast
from pathlib import Path

import pytest

from genfoundry.config.code import Sources

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"
ROOMS = sorted(
    ".".join(file.parent.relative_to(SRC).parts)
    for file in (SRC / "genfoundry").rglob("__init__.py")
    if any(other.name != "__init__.py" for other in file.parent.glob("*.py"))
)
PARTS = ("genfoundry.models", "genfoundry.metrics", "genfoundry.objectives", "genfoundry.evaluation.networks")
"""Rooms of parts, which are loaded by name: a part has no door, and what several of them share begins with ``_``."""


def room_of(module: str) -> str:
    """The room that a module lies in; empty for the modules of no room."""
    return max((room for room in ROOMS if module == room or module.startswith(f"{room}.")), key=len, default="")


def door_of(room: str) -> set[str]:
    """Modules of a room that others may import."""
    text = ast.get_docstring(ast.parse((SRC / room.replace(".", "/") / "__init__.py").read_text())) or ""
    named = " ".join(text.partition("\nDoor: ")[2].split()).rstrip(".")
    return set(named.split(", ")) if named else set()


def imports_across() -> dict[str, set[tuple[str, str]]]:
    """By room: which of its modules are imported from elsewhere, and by whom; the room itself is module ``""``."""
    sources, found = Sources(ROOT), {room: set() for room in ROOMS}
    for file in (SRC / "genfoundry").rglob("*.py"):
        name = ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
        module = sources.module(name)
        assert module is not None
        for other in module.imports:
            room = room_of(other)
            inside = name == room or name.startswith(f"{room}.")
            if room and sources.file(other) and not inside and other != room:
                found[room].add((other.removeprefix(f"{room}."), name))
    return found


ACROSS = imports_across()


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in PARTS and room != "genfoundry"])
def test_others_come_in_by_the_door(room: str) -> None:
    door = door_of(room)
    past = {f"{by} imports {room}.{module}" for module, by in ACROSS[room] if module not in door}

    assert not past, "not in the room's `Door:` line"
    assert {module for module, _ in ACROSS[room]} == door, "the door names what nobody imports"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ast.parse((SRC / room.replace(".", "/") / "__init__.py").read_text()))
