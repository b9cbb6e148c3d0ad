"""Names of metrics and parameters as MLflow admits them, and back.

MLflow takes letters, digits and ``_-. :/``, up to 250 characters, and no name that would be another path (``a//b``,
``a/``). Labels and columns of people's data are parts of names, so what is not admitted is written as ``_x0023_`` (here
``#``), the escape of Office Open XML (ECMA-376, ST_Xstring): different names stay different.
"""

import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import TypeVar

Value = TypeVar("Value")

LONGEST = 250
"""Characters of a name, at most (mlflow.utils.validation)."""

_ESCAPED = re.compile(r"_x([0-9A-F]{4,6})_")

_REFUSED = re.compile(
    r"[^\w\-. :/]"
    r"|(?<=/)/|/\Z|\A/"  # an empty step of a path
    r"|(?<=/)\.(?=\.?(?:/|\Z))|\A\.(?=[./]|\Z)"  # "." or ".." as a step, ".." at the beginning
    r"|_(?=x[0-9A-F]{4})"  # what could be read as an escape
)


def to_mlflow(name: str) -> str:
    """The name with every character that MLflow refuses escaped; may be too long."""
    return _REFUSED.sub(lambda found: f"_x{ord(found[0]):04X}_", name)


def from_mlflow(name: str) -> str:
    """The name that ``to_mlflow`` was given."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)


def admitted(values: Mapping[str, Value], prefix: str = "") -> dict[str, Value]:
    """Values under MLflow's names of them; those whose names are too long are left out, which stderr says."""
    named = {to_mlflow(prefix + name): value for name, value in values.items()}
    too_long = tuple(name for name in named if len(name) > LONGEST)
    if too_long:
        _say_left_out(too_long)
    return {name: value for name, value in named.items() if len(name) <= LONGEST}


@cache
def _say_left_out(names: tuple[str, ...]) -> None:
    first = f"{names[0][:80]}..."
    print(
        f"genfoundry: MLflow takes names of at most {LONGEST} characters: {len(names)} values are not logged, "
        f"the first is {first!r}; the reports have them",
        file=sys.stderr,
    )
