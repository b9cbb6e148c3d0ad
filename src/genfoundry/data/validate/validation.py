"""Check the records against their data contract and write a page of the outcomes."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genfoundry.config.sections.validation import Validation
from genfoundry.config.specs import RECORD_COLUMNS
from genfoundry.core import pages
from genfoundry.core.errors import DataError
from genfoundry.core.io import folder_digest, read_all_records, write_json
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.validate import drift
from genfoundry.data.validate.drift import DRIFT
from genfoundry.data.validate.expectations import Outcome, check, merged

if TYPE_CHECKING:
    import pandas as pd


class Run(Protocol):
    """Where files go that are no outputs of the stage."""

    def artifact(self, path: Path, folder: str) -> None: ...


def validate(modality: ModuleType, config: Validation, paths: DatasetPaths, run: Run) -> None:
    """Publish ``validate.json``, ``drift.json`` and their page; Great Expectations' own pages go to the run.

    Raises:
        DataError: A critical expectation failed, or the records drifted and that is an error; all faults are named.
    """
    table = facts(paths.records)
    suite = merged(modality.expectations(), config.expectations)
    with tempfile.TemporaryDirectory() as folder:
        outcomes = check(table, suite, paths.key, Path(folder))
        run.artifact(Path(folder), "data_docs")
    page = paths.reports / "validate.html"
    drifted, faults = drift.check(table, config.drift, paths)
    _write_page(page, paths.key, table, outcomes, drift.section(paths.key, drifted))
    if stops := [outcome for outcome in outcomes if outcome.stops]:
        lines = [f"  {sentence(outcome)}" for outcome in stops]
        where = f"datasets.{paths.key}: {len(stops)} critical expectations failed; fix the data or the contract"
        raise DataError("\n".join([f"{where}, look at {page.relative_to(paths.root)}", *lines]))
    if faults:
        where = f"datasets.{paths.key}: the records differ from the accepted ones, look at"
        remedy = f"fix them, or take them with genfoundry accept {paths.key}"
        raise DataError("\n".join([f"{where} {page.relative_to(paths.root)}; {remedy}", *faults]))
    write_json(paths.reports / DRIFT, drifted)
    write_json(paths.reports / "validate.json", _report(table, outcomes))


def facts(records: Path) -> "pd.DataFrame":
    """All columns of the records but the content."""
    import pyarrow.parquet as pq

    folder_digest(records)
    first = records / "part-00000.parquet"
    names = pq.read_schema(first).names if first.is_file() else list(RECORD_COLUMNS)
    return read_all_records(records, [name for name in names if name != "content"])


def _report(table: "pd.DataFrame", outcomes: Sequence[Outcome]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for outcome in outcomes:
        plain = name = f"{outcome.expectation.type} {outcome.column}".strip()
        number = 2
        while name in report:
            name, number = f"{plain} {number}", number + 1
        report[name] = {
            "success": outcome.success,
            "severity": outcome.expectation.severity,
            "unexpected": outcome.unexpected if outcome.unexpected is not None else 0,
            "observed": outcome.observed,
            "examples": ", ".join(outcome.examples),
        }
    failed = [outcome for outcome in outcomes if not outcome.success]
    return {
        "records": len(table),
        "met": len(outcomes) - len(failed),
        "failed": {
            severity: sum(outcome.expectation.severity == severity for outcome in failed)
            for severity in ("critical", "warning", "info")
        },
        "expectations": report,
    }


def sentence(outcome: Outcome) -> str:
    """An expectation and its result in words."""
    arguments = ", ".join(f"{name} {value}" for name, value in outcome.expectation.kwargs.items())
    parts = [f"{outcome.expectation.type} ({arguments})"]
    if outcome.unexpected:
        parts.append(f"{outcome.unexpected} records break it, such as {', '.join(outcome.examples)}")
    if outcome.observed:
        parts.append(f"observed {outcome.observed}")
    return ": ".join(parts)


def contract_table(outcomes: Sequence[Outcome]) -> str:
    """Expectations as a table: those that failed first, then by severity."""
    ordered = sorted(
        outcomes, key=lambda one: (one.success, ("critical", "warning", "info").index(one.expectation.severity))
    )
    return pages.table(
        ["", "column", "expectation", "severity", "records that break it", "seen"],
        [_row(outcome) for outcome in ordered],
    )


def _write_page(path: Path, key: str, table: "pd.DataFrame", outcomes: Sequence[Outcome], *more: str) -> None:
    failed = [outcome for outcome in outcomes if not outcome.success]
    pages.write_page(
        path,
        f"{key}: validation",
        "What the raw records must keep before anything is made of them. Only a critical failure stops the line.",
        pages.tiles({"records": len(table), "expectations met": len(outcomes) - len(failed), "failed": len(failed)}),
        "<h2>Contract</h2>",
        contract_table(outcomes),
        *more,
        "<h2>The records</h2>",
        *(_profile(table, name) for name in table.columns if name not in ("id", "sha256")),
    )


def _row(outcome: Outcome) -> list[Any]:
    mark = pages.Html("<b class=good>✓</b>" if outcome.success else "<b class=bad>✗</b>")
    words = outcome.expectation.type.removeprefix("expect_").removeprefix("column_").replace("_", " ")
    arguments = ", ".join(f"{k}: {v}" for k, v in outcome.expectation.kwargs.items() if k != "column")
    shown = pages.Html(f"{pages.escape(words)}<br><span class=soft>{pages.escape(arguments)}</span>")
    seen = outcome.observed or ", ".join(outcome.examples)
    broken = "" if outcome.unexpected is None else pages.number(outcome.unexpected)
    return [mark, outcome.column or "(table)", shown, outcome.expectation.severity, broken, seen]


def _profile(table: "pd.DataFrame", name: str) -> str:
    """Distribution of a column as bars."""
    values = table[name].dropna()
    head = f"<h3>{pages.escape(name)}</h3>"
    if not len(values):
        return f"{head}<p class=soft>No record has one.</p>"
    if values.dtype.kind not in "iuf" or values.nunique() <= 12:
        counts = values.astype("str").groupby(values.astype("str")).size()
        counts = counts.reset_index(name="n").sort_values(["n", name], ascending=[False, True]).head(12)
        missing = f"<p class=soft>{len(table) - len(values):,} without</p>" if len(values) < len(table) else ""
        return head + missing + pages.bars({str(k): int(n) for k, n in zip(counts[name], counts["n"], strict=True)})
    # Sizes and lengths spread over decades: cut at quantiles of a round logarithmic scale where they do.
    low, high = float(values.min()), float(values.max())
    edges = np.geomspace(low, high, 11) if low > 0 and high / low > 50 else np.linspace(low, high, 11)
    counts, _ = np.histogram(values, edges)
    names = [pages.number(round(float(edge)) if high >= 100 else round(float(edge), 2)) for edge in edges]
    return head + pages.bars({f"{names[i]} to {names[i + 1]}": int(n) for i, n in enumerate(counts)})
