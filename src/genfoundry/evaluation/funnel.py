"""Funnel of a data set: records left after each step, and why others were rejected, dropped, removed or withheld."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from genfoundry.config.specs import SPLITS
from genfoundry.evaluation.results import read_report


class Stage(NamedTuple):
    """One step of the funnel."""

    what: str
    left: int
    """Records after it."""
    why: str
    """Removed records by reason."""


@dataclass
class Funnel:
    """The funnel of a data set, its splits and its reference."""

    stages: list[Stage] = field(default_factory=list)
    splits: Mapping[str, int] = field(default_factory=dict)
    reference: Mapping[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


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


def read_funnel(folder: Path) -> Funnel:
    """Read the funnel from the data stages' reports under ``reports/datasets/<key>``."""
    funnel = Funnel()
    ingest = read_report(folder, "ingest.json", "ingest", funnel.missing)
    preprocess = read_report(folder, "preprocess.json", "preprocess", funnel.missing)
    deduplicate = read_report(folder, "deduplicate.json", "deduplicate", funnel.missing)
    split = read_report(folder, "split.json", "split", funnel.missing)
    encode = read_report(folder, "encode.json", "encode", funnel.missing)
    if ingest:
        read = ingest["records"] + ingest["rejected"]["total"]
        funnel.stages.append(Stage("found in the source", read, ""))
        funnel.stages.append(Stage("readable", ingest["records"], f"set aside: {reasons(ingest['rejected'])}"))
    if preprocess:
        funnel.stages.append(Stage("clean", preprocess["records"], f"dropped: {reasons(preprocess['dropped'])}"))
    if deduplicate:
        removed = f"copies: {reasons(deduplicate['removed'])}"
        funnel.stages.append(Stage("different", deduplicate["records"]["kept"], removed))
    if encode:
        aside = f"set aside, contained in a training record: {reasons(split.get('set_aside', 0))}"
        funnel.stages.append(Stage("in use", encode["records"], aside))
        funnel.splits = {name: encode[name]["records"] for name in SPLITS if name in encode}
    funnel.reference = read_report(folder, "reference.json", "reference", funnel.missing)
    return funnel
