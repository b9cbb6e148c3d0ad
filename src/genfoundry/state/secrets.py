"""Keep secrets out of journals, logs, events and messages: passwords in addresses, secrets of the environment."""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

HIDDEN = "***"

_NAMES = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY|WEBHOOK", re.I)
"""Environment variables whose values are secrets."""

_LEAST = 6
"""Shorter values are no secrets worth the name, and hiding `1` or `true` everywhere would make logs unreadable."""

_ADDRESS = re.compile(r"(?<=://)[^/\s:@]+(?::[^/\s@]*)?@")
"""User and password in an address."""

_QUERY = re.compile(r"([?&](?:[\w-]*(?:token|key|secret|password|signature|sig|auth)[\w-]*)=)[^&\s\"']+", re.I)
"""Secrets among the arguments of an address."""


@lru_cache(maxsize=4)
def _values(environment: tuple[tuple[str, str], ...]) -> re.Pattern[str] | None:
    found = {value for name, value in environment if _NAMES.search(name) and len(value) >= _LEAST}
    # Longest first: a secret may be the beginning of another.
    words = [re.escape(value) for value in sorted(found, key=len, reverse=True) if not os.path.exists(value)]  # noqa: PTH110
    return re.compile("|".join(words)) if words else None


def redact(text: str) -> str:
    """The text without secrets."""
    if "://" in text:
        text = _QUERY.sub(rf"\1{HIDDEN}", _ADDRESS.sub(f"{HIDDEN}@", text))
    named = tuple((name, value) for name, value in os.environ.items() if _NAMES.search(name))
    pattern = _values(named)
    return pattern.sub(HIDDEN, text) if pattern else text


def redacted(value: Any) -> Any:
    """A JSON value whose texts hold no secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redacted(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return value
