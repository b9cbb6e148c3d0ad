"""Reports on a data set by its stages, and the funnel they make: records left after each step, and why others are not.

Every report is written and read here: what a stage no longer counts fails in that stage, not on a page.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from genfoundry.config.specs import SPLITS
from genfoundry.core.io import read_json, write_json
from genfoundry.core.paths import DatasetPaths


class Step(NamedTuple):
    """One step of the funnel."""

    what: str
    left: int
    """Records after it."""
    why: str
    """Removed records by reason."""


@dataclass
class Funnel:
    """The funnel of a data set, and its splits."""

    steps: list[Step] = field(default_factory=list)
    splits: Mapping[str, int] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of what samples are compared with."""
    missing: list[str] = field(default_factory=list)
    """Reports that were not there, and the stage that writes them."""


def _leaves(values: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """Counts of a report by their names; totals are left out."""
    if isinstance(values, Mapping):
        for key, value in sorted(values.items()):
            yield from _leaves(value, name if key == "total" else f"{name} {key}".strip())
    elif isinstance(values, int) and not isinstance(values, bool):
        yield name, values


def reasons(values: Any) -> str:
    """``12 too_short, 3 blank``, or ``none``."""
    if isinstance(values, Mapping):
        values = {key: value for key, value in values.items() if key != "total"} or values.get("total", 0)
    found = [f"{count:,} {name}".strip() for name, count in _leaves(values) if count]
    return ", ".join(found) or "none"


def _ingested(report: Mapping[str, Any]) -> list[Step]:
    rejected, records = report["rejected"], report["records"]
    readable = Step("readable", records, f"rejected: {reasons(rejected)}")
    return [Step("found in the source", records + rejected["total"], ""), readable]


STEPS: Mapping[str, Callable[[Mapping[str, Any]], list[Step]]] = {
    "ingest": _ingested,
    "preprocess": lambda report: [Step("clean", report["records"], f"dropped: {reasons(report['dropped'])}")],
    "deduplicate": lambda report: [
        Step("different", report["records"]["kept"], f"duplicates: {reasons(report['removed'])}")
    ],
    "split": lambda report: [
        Step(
            "in use",
            sum(report["records"].values()),
            f"withheld, contained in a training record: {reasons(report['withheld'])}",
        )
    ],
    "encode": lambda report: [],
    "reference": lambda report: [],
}
"""Steps of the funnel that each stage's report holds, in order."""


def write_report(paths: DatasetPaths, stage: str, report: Mapping[str, Any]) -> None:
    """Publish ``reports/datasets/<key>/<stage>.json``; one without the counts of its steps is a slip of the stage."""
    STEPS[stage](report)
    write_json(paths.reports / f"{stage}.json", report)


def read_splits(folder: Path) -> dict[str, int]:
    """Records in each split of the arrays; empty where they were not made."""
    report = _read(folder, "encode")
    return {name: report[name]["records"] for name in SPLITS if name in report}


def _read(folder: Path, stage: str) -> dict[str, Any]:
    file = folder / f"{stage}.json"
    return dict(read_json(file)) if file.is_file() else {}


def read_funnel(folder: Path) -> Funnel:
    """Read the funnel from the reports under ``reports/datasets/<key>``."""
    funnel = Funnel(splits=read_splits(folder), reference=_read(folder, "reference"))
    for stage, steps in STEPS.items():
        if report := _read(folder, stage):
            funnel.steps += steps(report)
        else:
            funnel.missing.append(f"{folder.name}/{stage}.json (stage {stage})")
    return funnel
