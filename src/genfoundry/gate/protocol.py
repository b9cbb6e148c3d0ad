"""Compare the protocols of two scores: scores are comparable only if these are equal."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_DIGEST = re.compile(r"^[0-9a-f]{32,128}$")


def protocol_difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """Differences between two protocols, one line each; empty if scores under them are comparable.

    A line reads ``likelihood.window: 128 against 64``; digests are cut to 12 characters unless these are equal.
    """
    return list(_differences(a, b, ""))


def _differences(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for name in sorted({*a, *b}):
            place = f"{where}.{name}" if where else str(name)
            if name not in a or name not in b:
                yield f"{place}: {_shown(a[name]) if name in a else 'absent'} against " + (
                    _shown(b[name]) if name in b else "absent"
                )
            else:
                yield from _differences(a[name], b[name], place)
    elif a != b:
        short = _shown(a), _shown(b)
        first, second = short if short[0] != short[1] else (repr(a), repr(b))
        yield f"{where}: {first} against {second}"


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return f"{value[:12]}.." if _DIGEST.match(value) else repr(value) if value == "" else value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(part)}" for name, part in sorted(value.items())) + "}"
    return str(value)
