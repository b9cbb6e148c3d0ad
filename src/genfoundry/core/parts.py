"""The folder is the registry: a family, objective, metric, modality or network is the module or package of that name.

``load("models", "vae")`` imports ``genfoundry/models/vae.py``; nothing has to be registered.
"""

import difflib
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Literal

from genfoundry.core.errors import ConfigError

KEY_PATTERN = r"^[a-z0-9][a-z0-9_-]*$"

Kind = Literal["models", "objectives", "formats", "metrics", "modalities", "networks"]

FOLDERS: dict[Kind, str] = {"networks": "evaluation/networks"}
"""Where the parts of a kind lie, if not in the folder of that name."""


def package_of(kind: Kind) -> str:
    """The package whose modules are the parts of a kind."""
    return f"genfoundry.{FOLDERS.get(kind, kind).replace('/', '.')}"


def names(kind: Kind, package: Path = Path(__file__).parents[1]) -> list[str]:
    """Names of all parts of a kind, sorted: modules, and packages but for ``common`` and those with an underscore."""
    folder = package / FOLDERS.get(kind, kind)
    found = {file.stem for file in folder.glob("*.py")} | {file.parent.name for file in folder.glob("*/__init__.py")}
    return sorted(name for name in found - {"common"} if not name.startswith("_"))


def nearest(word: str, words: list[str]) -> str:
    """``; did you mean 'x'?`` or the list of choices, ready to end an error message."""
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(words)) or 'none'}"


def known(kind: Kind, name: str) -> None:
    """Refuse a name that no part of that kind has.

    Raises:
        ConfigError: There is no such part.
    """
    if not re.match(KEY_PATTERN, name) or name not in names(kind):
        raise ConfigError(f"unknown {kind} part {name!r}{nearest(name, names(kind))}")


def load(kind: Kind, name: str) -> ModuleType:
    """The module of a part.

    Raises:
        ConfigError: There is no such part.
    """
    known(kind, name)
    return importlib.import_module(f"{package_of(kind)}.{name}")
