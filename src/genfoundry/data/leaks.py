"""The final splits: evaluation records that training contains are set aside, and what is left is proven clean."""

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry import pages
from genfoundry.data.dedup import RULE
from genfoundry.data.keepers import Fingerprints, Rule, join, take
from genfoundry.data.leakcheck import Nearest, nearest
from genfoundry.data.setjoin import Collection, contained
from genfoundry.errors import DataError
from genfoundry.io import publish_folder, read_all_records, read_json, read_records, read_table, write_json, write_table
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Split
from genfoundry.specs import EVALUATION_SPLITS, SPLITS, Sets

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8
"""Pairs on the page of each kind."""

ROUNDING = 6
"""Decimals of a share or similarity in a report."""


def guard_splits(modality: ModuleType, config: Split, dedup: Dedup, paths: DatasetPaths) -> None:
    """Publish the ids in use with their split, what was set aside, ``split.json`` and its page.

    Raises:
        DataError: A training record is like an evaluation record, a split is too small, or a label of the test
            records never occurs in training.
    """
    records, prints = _load(modality, dedup, paths)
    rule = Rule(**read_json(paths.unique / RULE))
    aside = _contained(records, prints, config.max_containment)
    records["used"] = ~records["id"].isin(aside["id"])
    evaluation = np.flatnonzero(records["used"] & records["split"].isin(EVALUATION_SPLITS))
    training = np.flatnonzero(records["split"] == "train")
    found = nearest(prints, evaluation, training, rule, config.max_containment)
    closest = _closest(records, evaluation, found)
    report = _report(records, aside, closest, rule)
    _write_page(paths, modality, report, records, aside, closest)
    faults = [*_leaks(closest), *_contract(records, config)]
    if faults:
        page = (paths.reports / "split.html").relative_to(paths.root)
        raise DataError("\n".join([f"datasets.{paths.key}: the splits can't be used; look at {page}", *faults]))
    with publish_folder(paths.splits) as folder:
        write_table(folder / "ids.parquet", records[records["used"]][["id", "sha256", "split"]].reset_index(drop=True))
        write_table(folder / "set_aside.parquet", aside)
    write_json(paths.reports / "split.json", report)


def _load(modality: ModuleType, dedup: Dedup, paths: DatasetPaths) -> "tuple[pd.DataFrame, Fingerprints]":
    """The unique records in the order of their hash, with label, and their fingerprints."""
    import pandas as pd

    records = read_table(paths.unique / "ids.parquet")
    labels = read_all_records(paths.clean, ["id", "label"])
    records["label"] = records["id"].map(labels.set_index("id")["label"])
    names, parts, wanted = [], [], set(records["id"])
    for table in read_records(paths.clean):
        table = table[table["id"].isin(wanted)]
        if len(table):
            names += list(table["id"])
            parts.append(modality.fingerprints(table, dedup))
    place = pd.Series(np.arange(len(names)), index=names)
    return records, take(join(parts), place[records["id"]].to_numpy())


def _contained(records: "pd.DataFrame", prints: Fingerprints, share: float) -> "pd.DataFrame":
    """Evaluation records that a training record contains, with the one that holds most of them."""
    import pandas as pd

    columns = ["id", "split", "contained_in", "share"]
    empty = pd.DataFrame(columns=columns).astype(
        {"id": "str", "split": "str", "contained_in": "str", "share": "float64"}
    )
    evaluation = np.flatnonzero(records["split"].isin(EVALUATION_SPLITS))
    training = np.flatnonzero(records["split"] == "train")
    if not isinstance(prints, Sets) or not len(evaluation) or not len(training):
        return empty
    found = contained(Collection(prints), evaluation, training, share)
    order = np.lexsort((found.second, -found.score, found.first))
    first, place = np.unique(found.first[order], return_index=True)
    if not len(first):
        return empty
    inner, outer = records.iloc[first], records.iloc[found.second[order][place]]
    rows = zip(inner["id"], inner["split"], outer["id"], np.round(found.score[order][place], ROUNDING), strict=True)
    return pd.DataFrame(list(rows), columns=columns).astype(empty.dtypes.to_dict()).sort_values("id", ignore_index=True)


def _closest(records: "pd.DataFrame", evaluation: np.ndarray, found: Nearest) -> "pd.DataFrame":
    """Evaluation records in use with the training record most like them, closest first, leaks before all."""
    import pandas as pd

    names = records["id"].to_numpy()
    table = pd.DataFrame(
        {
            "id": names[evaluation],
            "split": records["split"].to_numpy()[evaluation],
            "nearest": np.where(found.row >= 0, names[found.row], ""),
            "score": np.round(found.score, ROUNDING),
            "containment": np.round(found.containment, ROUNDING),
            "leak": found.leaks,
        }
    )
    return table.sort_values(["leak", "score", "id"], ascending=[False, False, True], ignore_index=True)


def _leaks(closest: "pd.DataFrame") -> list[str]:
    leaks = closest[closest["leak"]]
    if not len(leaks):
        return []
    shown = "; ".join(f"{row.id} ({row.split}) in {row.nearest}" for row in leaks.head(3).itertuples())
    return [f"  {len(leaks)} evaluation records are like training records, which deduplication missed: {shown}"]


def _contract(records: "pd.DataFrame", config: Split) -> list[str]:
    """What training relies on."""
    used = records[records["used"]]
    faults = []
    for split in SPLITS:
        count = int((used["split"] == split).sum())
        if count < config.min_records and not (split == "val" and config.val == 0 and count == 0):
            faults.append(
                f"  split {split} has {count} records, needs split.min_records = {config.min_records}; "
                "add data, or change split.val and split.test"
            )
    known = set(used["label"][used["split"] == "train"].dropna())
    unknown = sorted(set(used["label"][used["split"] == "test"].dropna()) - known)
    if unknown:
        faults.append(
            f"  labels of test records that no training record has: {', '.join(unknown[:10])}; add such records"
        )
    return faults


def _report(records: "pd.DataFrame", aside: "pd.DataFrame", closest: "pd.DataFrame", rule: Rule) -> dict[str, Any]:
    used = records[records["used"]]
    return {
        "records": {split: int((used["split"] == split).sum()) for split in SPLITS},
        "set_aside": {split: int((aside["split"] == split).sum()) for split in EVALUATION_SPLITS},
        "leaks": int(closest["leak"].sum()),
        "threshold": rule.threshold,
        "closest_similarity": float(closest["score"].max()) if len(closest) else 0.0,
        "largest_containment": float(closest["containment"].max()) if len(closest) else 0.0,
        "labels": int(used["label"].nunique()),
    }


def _write_page(
    paths: DatasetPaths,
    modality: ModuleType,
    report: dict[str, Any],
    records: "pd.DataFrame",
    aside: "pd.DataFrame",
    closest: "pd.DataFrame",
) -> None:
    top = aside.sort_values(["share", "id"], ascending=[False, True]).head(SHOWN)
    near = closest[closest["nearest"] != ""].head(SHOWN)
    contents = _contents(paths, {*top["id"], *top["contained_in"], *near["id"], *near["nearest"]})
    aside_count = sum(report["set_aside"].values())
    pages.write_page(
        paths.reports / "split.html",
        f"{paths.key}: splits",
        "Train learns, val picks, test judges. Every evaluation record in use was compared with every training record.",
        pages.tiles({**report["records"], "set aside": aside_count, "leaks": report["leaks"]}),
        "<h2>Records by label</h2>" if report["labels"] else "",
        _labels(records) if report["labels"] else "",
        "<h2>How close evaluation is to training</h2>",
        "<p>Similarity of each evaluation record to the training record most like it; "
        f"{report['threshold']:g} counts as a copy.</p>",
        _histogram(closest),
        "<h2>Closest pairs that stay</h2>" if not report["leaks"] else "<h2>Leaks, then the closest pairs</h2>",
        *(
            _pair(modality, "similarity", row["nearest"], row["id"], row["score"], row["split"], contents)
            for row in near.to_dict("records")
        ),
        "<h2>Set aside: contained in a training record</h2>",
        f"<p>{aside_count:,} evaluation records have most of their word 5-grams inside one training record.</p>",
        *(
            _pair(modality, "contained", row["contained_in"], row["id"], row["share"], row["split"], contents)
            for row in top.to_dict("records")
        ),
    )


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


def _contents(paths: DatasetPaths, names: set[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for table in read_records(paths.clean):
        found.update({row["id"]: row for row in table[table["id"].isin(names)].to_dict("records")})
    return found
