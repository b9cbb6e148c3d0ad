"""Statistics of deduplication, and the pairs that its page shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.specs import SPLITS, tops

if TYPE_CHECKING:
    import pandas as pd

    from genfoundry.data.deduplicate.calibration import Synthetic
    from genfoundry.data.similarity.keepers import Rule

BINS = 10
"""Steps of the histogram of similarities."""

ALARM = 0.5
"""A group that loses more than this share is flagged: whole sources have vanished from well-known corpora."""

CROWDED_ALARM = 0.1
"""Share of near copies that is flagged in a set full of look-alikes."""

CLOSEST = 24
"""Removed records on the page whose similarity is closest to the threshold."""

CLUSTERS = 8
"""Largest groups of copies on the page."""

MEMBERS = 4
"""Copies shown of each of them."""


def summary(
    records: "pd.DataFrame",
    duplicates: "pd.DataFrame",
    pairs: "pd.DataFrame",
    shares: "pd.DataFrame",
    rule: "Rule",
    synthetic: "Synthetic",
    methods: Sequence[str] = ("exact", "near"),
) -> dict[str, Any]:
    """The report: nested numbers and short strings."""
    removed = {
        method: {
            split: int(((duplicates["method"] == method) & (duplicates["removed_split"] == split)).sum())
            for split in SPLITS
        }
        for method in methods
    }
    across = duplicates["removed_split"] != duplicates["kept_split"]
    sizes = duplicates.groupby("kept_id").size()
    labels = records.set_index("id")["label"].fillna("")
    differ = labels.loc[duplicates["removed_id"]].to_numpy() != labels.loc[duplicates["kept_id"]].to_numpy()
    return {
        "records": {
            "in": len(records),
            "kept": int(records["kept"].sum()),
            "removed": len(duplicates),
            "kept_by_split": {split: int((records["kept"] & (records["split"] == split)).sum()) for split in SPLITS},
        },
        "content": {"in": int(records["size"].sum()), "kept": int(records["size"][records["kept"]].sum())},
        "removed": removed,
        "across_splits": int(across.sum()),
        "with_another_label": int(differ.sum()),
        "pairs": {method: int((pairs["method"] == method).sum()) for method in methods},
        "largest_cluster": int(sizes.max()) + 1 if len(sizes) else 1,
        "largest_share_removed": largest_share(shares),
        "threshold": rule.threshold,
        "similarity": histogram(duplicates, rule.threshold),
        "synthetic": {
            "copies": synthetic.count,
            "recall": synthetic.recall,
            "recall_by_kind": synthetic.kinds,
            "missed": synthetic.missed,
        },
        "lookalikes": synthetic.crowded,
        "least_threshold": synthetic.least,
    }


def largest_share(shares: "pd.DataFrame") -> dict[str, Any]:
    """The group that lost most of its records, and how many lost more than ``ALARM``, of ``shares``."""
    if not len(shares):
        return {"group": "", "share": 0.0, "alarms": 0}
    share = round(float(shares["share"].iloc[0]), 4)
    return {"group": str(shares["group"].iloc[0])[:80], "share": share, "alarms": int((shares["share"] > ALARM).sum())}


def shares(records: "pd.DataFrame", least: int = 10) -> "pd.DataFrame":
    """Groups of ``least`` records or more: ``group, records, kept, share`` removed; those that lost most first.

    A group is a source; without sources a label; without labels the file or folder.
    """
    import pandas as pd

    group = pd.Series(tops(records["id"]), index=records.index, dtype="str")
    for column in ("label", "source"):
        if column in records:
            group = records[column].where(records[column].notna(), group)
    kept = records["kept"].groupby(group).agg(["size", "sum"])
    kept = kept[kept["size"] >= least].rename_axis("group").reset_index()
    kept = kept.rename(columns={"size": "records", "sum": "kept"})
    kept["share"] = 1 - kept["kept"] / kept["records"]
    return kept.sort_values(["share", "group"], ascending=[False, True], ignore_index=True)


def histogram(duplicates: "pd.DataFrame", threshold: float) -> dict[str, int]:
    """Near copies by their similarity to the record that stays, in steps from the threshold to 1."""
    scores = duplicates["score"][duplicates["method"] == "near"].to_numpy()
    if threshold >= 1:
        return {"1": len(scores)}
    edges = np.linspace(threshold, 1, BINS + 1)
    place = np.clip(np.searchsorted(edges, scores, "right") - 1, 0, BINS - 1)
    counts = np.bincount(place, minlength=BINS).tolist()
    return {f"{low:.4g} to {high:.4g}": count for low, high, count in zip(edges, edges[1:], counts, strict=False)}


def choose(duplicates: "pd.DataFrame") -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(removed records closest to the threshold, members of the largest groups)."""
    near = duplicates[duplicates["method"] == "near"].sort_values(["score", "removed_id"])
    sizes = duplicates.groupby("kept_id").size().rename("size").reset_index()
    top = sizes[sizes["size"] > 1].sort_values(["size", "kept_id"], ascending=[False, True]).head(CLUSTERS)
    members = duplicates.merge(top, on="kept_id").sort_values(
        ["size", "kept_id", "removed_id"], ascending=[False, True, True]
    )
    return near.head(CLOSEST), members


def ids_of(shown: "tuple[pd.DataFrame, pd.DataFrame]") -> set[str]:
    """Ids of the records that the page shows."""
    closest, members = shown
    heads = members.groupby("kept_id").head(MEMBERS)
    return {*closest["removed_id"], *closest["kept_id"], *heads["removed_id"], *members["kept_id"]}
