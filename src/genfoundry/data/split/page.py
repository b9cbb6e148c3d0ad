"""The page of the splits: how close evaluation is to training, and which records were withheld."""

from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from genfoundry.config.specs import SPLITS
from genfoundry.core import pages
from genfoundry.core.io import pick_records
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.split.guards import External
from genfoundry.data.validate.expectations import Outcome
from genfoundry.data.validate.validation import contract_table

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8
"""Pairs on the page of each kind."""


class Found(NamedTuple):
    """Tables that the split stage's page shows."""

    records: "pd.DataFrame"
    """Unique records with ``label``, ``split`` and whether they are ``used``."""
    aside: "pd.DataFrame"
    """Withheld evaluation records: those inside a training record."""
    removed: "pd.DataFrame"
    """Withheld training records: those like an external evaluation record."""
    closest: "pd.DataFrame"
    """Evaluation records, external ones too, with the training record most like them; leaks first."""
    external: External
    outcomes: list[Outcome]


def write(paths: DatasetPaths, modality: ModuleType, report: dict[str, Any], found: Found) -> None:
    """Publish ``split.html``."""
    aside = found.aside.sort_values(["share", "id"], ascending=[False, True]).head(SHOWN)
    near = found.closest[found.closest["nearest"] != ""].head(SHOWN)
    gone = found.removed.sort_values(["score", "removed_id"], ascending=[False, True]).head(SHOWN)
    own = {*aside["id"], *aside["contained_in"], *near["id"], *near["nearest"], *gone["removed_id"]}
    contents = pick_records(paths.clean, own)
    outside = found.external.records
    for row in outside.to_dict("records") if len(outside) else ():
        contents.setdefault(row["id"], row)
    pages.write_page(
        paths.reports / "split.html",
        f"{paths.key}: splits",
        "Train learns, val picks, test judges. Every evaluation record in use was compared with every training record.",
        pages.tiles({**report["records"], "withheld": len(found.aside), "leaks": report["leaks"]}),
        "<h2>Contract of the splits</h2>",
        contract_table(found.outcomes),
        "<h2>Records by label</h2>" if report["labels"] else "",
        _labels(found.records) if report["labels"] else "",
        "<h2>How close evaluation is to training</h2>",
        "<p>Similarity of each evaluation record to the training record most like it; "
        f"{report['threshold']:g} counts as a copy.</p>",
        _histogram(found.closest),
        "<h2>Closest pairs that stay</h2>" if not report["leaks"] else "<h2>Leaks, then the closest pairs</h2>",
        *(
            _pair(modality, "similarity", row["nearest"], row["id"], row["score"], row["split"], contents)
            for row in near.to_dict("records")
        ),
        "<h2>Set aside: contained in a training record</h2>",
        f"<p>{len(found.aside):,} evaluation records have most of their word 5-grams inside one training record.</p>",
        *(
            _pair(modality, "contained", row["contained_in"], row["id"], row["share"], row["split"], contents)
            for row in aside.to_dict("records")
        ),
        *_guards(modality, report, gone, contents),
    )


def _guards(modality: ModuleType, report: dict[str, Any], gone: "pd.DataFrame", contents: dict[str, Any]) -> list[str]:
    if not report["guard"]["sets"]:
        return []
    rows = [[name, *counts.values()] for name, counts in report["guard"]["sets"].items()]
    return [
        "<h2>Removed from training: like an external evaluation record</h2>",
        pages.table(["set", "records", "unusable", "training records removed for it"], rows),
        *(
            _pair(modality, row["method"], row["removed_id"], row["guard_id"], row["score"], "external", contents)
            for row in gone.to_dict("records")
        ),
    ]


def _labels(records: "pd.DataFrame") -> str:
    used = records[records["used"]]
    counts = used.groupby(["label", "split"]).size().unstack(fill_value=0).reindex(columns=list(SPLITS), fill_value=0)
    rows = [[label, *(int(row[split]) for split in SPLITS)] for label, row in counts.head(100).iterrows()]
    return pages.table(["label", *SPLITS], rows)


def _histogram(closest: "pd.DataFrame") -> str:
    if not len(closest):
        return "<p class=soft>There is nothing to compare.</p>"
    scores = closest["score"].clip(0, 1)
    edges = np.linspace(np.floor(float(scores.min()) * 10) / 10, 1, 11)
    counts, _ = np.histogram(scores, edges)
    return pages.bars({f"{edges[i]:.2f} to {edges[i + 1]:.2f}": int(n) for i, n in enumerate(counts)})


def _pair(
    modality: ModuleType, what: str, train: str, name: str, score: float, split: str, contents: dict[str, Any]
) -> str:
    return (
        f"<h3>{what} {score:.4f}</h3><p>train <code>{pages.escape(train)}</code><br>{pages.escape(split)} "
        f"<code>{pages.escape(name)}</code></p>{modality.compare(contents[train], contents[name])}"
    )
