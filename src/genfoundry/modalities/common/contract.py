"""Lazy exports of a modality's package: one table of names in its ``__init__``, imported on access."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def gathered(table: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """``__getattr__`` of a modality: the names that it offers, by the module that holds each.

    A module is imported when one of its names is asked for. So what comes after ``encode``, which uses ``media`` alone,
    neither loads nor depends on how records are read and cleaned. A module is never named as one of the names: Python
    would give the module.
    """
    homes = {name: module for module, names in table.items() for name in names}

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"no {name!r}; there are {', '.join(homes)}")
        return getattr(importlib.import_module(homes[name]), name)

    return find
