"""What an evaluation says beside its scores, in ``evaluation/``: slices, what could not be measured, nearest pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfoundry.core.io import canonical_json, read_json

DETAILS, PAIRS = "details.json", "pairs.json"


def write_details(folder: Path, slices: Mapping[str, Any], not_measured: Mapping[str, str]) -> None:
    """Write scores by slice, and by metric why it could not be measured."""
    (folder / DETAILS).write_bytes(canonical_json({"slices": slices, "not_measured": not_measured}))


def write_pairs(folder: Path, **pairs: Any) -> None:
    """Write the samples nearest to training records."""
    (folder / PAIRS).write_bytes(canonical_json(pairs))


def read_details(folder: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Any]]:
    """(slices, not measured, pairs); each empty without its file."""
    details, pairs = (read_json(folder / name) if (folder / name).is_file() else {} for name in (DETAILS, PAIRS))
    return details.get("slices", {}), details.get("not_measured", {}), pairs
