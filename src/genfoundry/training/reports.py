"""Reports of a training: ``train.json``, and its curves ``history.csv`` and ``validation.csv``. Needs no torch."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genfoundry.core.io import publish_file, read_json, write_json

TRAIN, HISTORY, VALIDATION = "train.json", "history.csv", "validation.csv"

Curve = list[tuple[float, float]]


def write_train(
    folder: Path,
    report: Mapping[str, Any],
    history: Sequence[dict[str, float]],
    validations: Sequence[dict[str, float]],
) -> None:
    """Publish the reports below ``reports/models/<key>``."""
    _write_csv(folder / HISTORY, history)
    _write_csv(folder / VALIDATION, validations)
    write_json(folder / TRAIN, report)


def _write_csv(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Publish rows as CSV, columns in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with publish_file(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_train(folder: Path) -> dict[str, Any]:
    """Steps, losses, parameters and processor; empty without a file."""
    return dict(read_json(folder / TRAIN)) if (folder / TRAIN).is_file() else {}


def processor_of(text: str) -> str:
    """The kind of processor that a ``train.json`` names, which may be an old one or damaged."""
    try:
        return str(json.loads(text).get("processor", "an unknown kind"))
    except ValueError:
        return "an unknown kind"


def _finite(row: Mapping[str, str], name: str) -> float:
    try:
        return float(row.get(name) or "nan")
    except ValueError:
        return math.nan


def read_curves(folder: Path) -> dict[str, Curve]:
    """Training and validation losses over steps, as far as they are finite; empty without files."""
    found: dict[str, Curve] = {}
    for file in (HISTORY, VALIDATION):
        if not (folder / file).is_file():
            continue
        with (folder / file).open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        for name in [name for name in (rows[0] if rows else {}) if name and "loss" in name]:
            points = [(_finite(row, "step"), _finite(row, name)) for row in rows]
            points = [point for point in points if all(map(math.isfinite, point))]
            if points:
                found[name] = points
    return found
