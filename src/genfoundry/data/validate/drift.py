"""Drift of records from the accepted ones: columns, labels and distributions against a profile in git.

A profile keeps counts, no record: of a number its percentiles, of a word how often it occurs. Small data differ by
chance: what chance alone reaches once in a thousand times is no drift (Yurdakul 2018 for the stability index).
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.sections.validation import Drift
from genfoundry.core import pages
from genfoundry.core.errors import DataError
from genfoundry.core.io import read_json, write_json
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.validate.distances import LEFT_OUT, POINTS, WORDS, coarse, kolmogorov, stability

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1

FOLDER = "presets/profiles"
"""Where accepted profiles lie: a dependency of every validate stage."""

DRIFT = "drift.json"
"""The report in a data set's reports."""

NORMAL = 3.0902
"""Standard normal deviate that chance exceeds once in a thousand times."""

KOLMOGOROV = 1.9495
"""Deviate of the Kolmogorov law that chance exceeds once in a thousand times."""


def profile_of(table: "pd.DataFrame") -> dict[str, Any]:
    """Profile of the records: for each column its kind, missing values and distribution."""
    columns = {name: _column(table[name]) for name in sorted(table.columns) if name not in LEFT_OUT}
    return {"format": FORMAT, "records": len(table), "columns": columns}


def _column(values: "pd.Series") -> dict[str, Any]:
    present = values.dropna()
    missing = len(values) - len(present)
    if present.dtype.kind in "iuf" and len(present):
        ordered = np.sort(present.to_numpy(np.float64))
        places = np.ceil(np.arange(1, POINTS + 1) / POINTS * len(ordered)).astype(np.int64) - 1
        points = sorted({_short(value) for value in ordered[places]})
        return {"kind": "number", "missing": missing, "points": points, "counts": _counts(present, points).tolist()}
    counts = present.astype("str").value_counts()
    counts = counts.sort_index(kind="stable").sort_values(ascending=False, kind="stable")
    words = {str(name): int(number) for name, number in counts.head(WORDS).items()}
    return {"kind": "word", "missing": missing, "counts": words, "others": int(counts.iloc[WORDS:].sum())}


def _short(value: float) -> float:
    """A number of six digits, which is the same on every machine; a whole one as it is."""
    return float(value) if float(value).is_integer() else float(f"{value:.6g}")


def _counts(values: "pd.Series", points: list[float]) -> np.ndarray:
    """Records up to each point, from behind the one before; the last takes all that are above, int64 (points,)."""
    place = np.searchsorted(np.array(points[:-1]), values.to_numpy(np.float64), "left")
    return np.bincount(place, minlength=len(points))


def compare(accepted: Mapping[str, Any], table: "pd.DataFrame", config: Drift) -> dict[str, Any]:
    """Differences of records from an accepted profile, as nested numbers and short strings.

    Args:
        accepted: What ``profile_of`` gave for the accepted records.
        table: The new records.
        config: Above which values a column has drifted.
    """
    now = profile_of(table)
    old_columns, new_columns = accepted["columns"], now["columns"]
    found = {
        name: _difference(old_columns[name], new_columns[name], table[name], accepted["records"], config)
        for name in sorted(old_columns.keys() & new_columns.keys())
    }
    return {
        "compared": True,
        "records": {"accepted": accepted["records"], "now": len(table)},
        "columns_new": ", ".join(sorted(new_columns.keys() - old_columns.keys())),
        "columns_gone": ", ".join(sorted(old_columns.keys() - new_columns.keys())),
        "drifted": sum(one["drifted"] for one in found.values()),
        "columns": found,
    }


def _difference(
    old: Mapping[str, Any], new: Mapping[str, Any], values: "pd.Series", records: int, config: Drift
) -> dict[str, Any]:
    if old["kind"] != new["kind"]:
        if not old["counts"] or not new["counts"]:  # a column without a value has no kind
            old = {**old, "kind": "word", "counts": {}, "others": records - old["missing"]}
            new = {**new, "kind": "word", "counts": {}, "others": len(values) - new["missing"]}
        else:
            return {"psi": 0.0, "ks": 0.0, "new": "", "gone": "", "drifted": True, "why": f"now a {new['kind']}"}
    came = gone = ""
    ks = 0.0
    if old["kind"] == "number":
        before, after = np.array(old["counts"]), _counts(values.dropna(), old["points"])
        ks = kolmogorov(before, after)
        before, after = coarse(before, after)
    else:
        names = sorted(old["counts"].keys() | new["counts"].keys()) if not old["others"] else sorted(old["counts"])
        held = {name: int(number) for name, number in values.dropna().astype("str").value_counts().items()}
        before = np.array([*(old["counts"].get(name, 0) for name in names), old["others"]])
        after = np.array([held.get(name, 0) for name in names])
        after = np.append(after, sum(held.values()) - after.sum())
        came = ", ".join(sorted(held.keys() - old["counts"].keys())[:10]) if not old["others"] else ""
        gone = ", ".join(sorted(old["counts"].keys() - held.keys())[:10])
    psi, bins = stability(np.append(before, old["missing"]), np.append(after, new["missing"]))
    rate = 1 / max(records, 1) + 1 / max(len(values), 1)
    why = []
    if psi > config.psi and psi > _chi_square(bins - 1) * rate:
        why.append(f"psi {psi:.3g} is above {config.psi:g}")
    if ks > config.ks and ks > KOLMOGOROV * math.sqrt(rate):
        why.append(f"ks {ks:.3g} is above {config.ks:g}")
    return {
        "psi": round(psi, 4),
        "ks": round(ks, 4),
        "new": came,
        "gone": gone,
        "drifted": bool(why),
        "why": "; ".join(why),
    }


def _chi_square(freedom: int) -> float:
    """What a chi-square deviate exceeds once in a thousand times (Wilson and Hilferty 1931)."""
    if freedom < 1:
        return 0.0
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + NORMAL * math.sqrt(spread)) ** 3


def in_words(report: str) -> str:
    """Which columns have drifted, by the text of a report."""
    try:
        measured = json.loads(report)
        columns = measured.get("columns", {})
        drifted = [name for name, one in columns.items() if one.get("drifted")]
    except (ValueError, AttributeError):
        return "not readable"
    # Without `genfoundry accept` there is nothing to compare with (docs/decisions/0004-drift.md).
    if not measured.get("compared", bool(columns)):
        return "nothing accepted"
    return f"drifted: {', '.join(drifted)}" if drifted else "none"


def check(table: "pd.DataFrame", config: Drift, paths: DatasetPaths) -> tuple[dict[str, Any], list[str]]:
    """(the report, faults for an error) of records against the accepted profile, if there is one."""
    path = paths.root / FOLDER / f"{paths.key}.json"
    if not path.is_file():
        return {"compared": False, "records": {"now": len(table)}, "drifted": 0}, []
    accepted = read_json(path)
    if not isinstance(accepted, dict) or accepted.get("format") != FORMAT:
        raise DataError(f"{path}: no profile of format {FORMAT}; make it anew with genfoundry accept {paths.key}")
    report = compare(accepted, table, config)
    faults = [f"  column {name}: {one['why']}" for name, one in report["columns"].items() if one["drifted"]]
    faults += [f"  column {name} is new" for name in report["columns_new"].split(", ") if name]
    faults += [f"  column {name} is gone" for name in report["columns_gone"].split(", ") if name]
    return report, faults if config.action == "error" else []


def section(key: str, report: Mapping[str, Any]) -> str:
    """Part of the validation page."""
    head = "<h2>Against the accepted data</h2>"
    if not report["compared"]:
        return (
            f"{head}<p class=soft>No version of these data was accepted yet: genfoundry accept {key} makes this "
            "one the measure for those to come.</p>"
        )
    counts = report["records"]
    parts = [f"<p>{counts['accepted']:,} records were accepted, {counts['now']:,} are here.</p>"]
    for word, names in (("new", report["columns_new"]), ("gone", report["columns_gone"])):
        parts += [f"<p class=bad>Columns that are {word}: {pages.escape(names)}</p>"] if names else []
    rows = [
        [
            pages.Html("<b class=bad>✗</b>" if one["drifted"] else "<b class=good>✓</b>"),
            name,
            one["psi"],
            one["ks"],
            one["why"],
            one["new"],
            one["gone"],
        ]
        for name, one in sorted(report["columns"].items(), key=lambda item: (not item[1]["drifted"], item[0]))
    ]
    columns = ["", "column", "PSI", "KS", "why", "new values", "values gone"]
    return head + "".join(parts) + pages.table(columns, rows)


def accept(table: "pd.DataFrame", paths: DatasetPaths) -> Path:
    """Write the profile of these records as the accepted one; returns the file to commit."""
    path = paths.root / FOLDER / f"{paths.key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, profile_of(table))
    return path
