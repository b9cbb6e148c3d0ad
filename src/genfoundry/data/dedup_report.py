"""What deduplication did, in numbers, and which pairs are worth a look."""

from typing import TYPE_CHECKING, Any

from genfoundry.specs import SPLITS

if TYPE_CHECKING:
    import pandas as pd

    from genfoundry.data.keepers import Rule
    from genfoundry.data.planted import Planted

CLOSEST = 24
"""Removed records on the page whose similarity is closest to the threshold."""

CLUSTERS = 8
"""Largest groups of copies on the page."""

MEMBERS = 4
"""Copies shown of each of them."""


def summary(
    records: "pd.DataFrame", duplicates: "pd.DataFrame", pairs: "pd.DataFrame", rule: "Rule", planted: "Planted"
) -> dict[str, Any]:
    """The report: nested numbers and short strings."""
    removed = {
        method: {
            split: int(((duplicates["method"] == method) & (duplicates["removed_split"] == split)).sum())
            for split in SPLITS
        }
        for method in ("exact", "near")
    }
    across = duplicates["removed_split"] != duplicates["kept_split"]
    sizes = duplicates.groupby("kept_id").size()
    labels = dict(zip(records["id"], records["label"].fillna(""), strict=True))
    differ = duplicates["removed_id"].map(labels) != duplicates["kept_id"].map(labels)
    return {
        "records": {
            "in": len(records),
            "kept": int(records["kept"].sum()),
            "removed": len(duplicates),
            "kept_by_split": {split: int((records["kept"] & (records["split"] == split)).sum()) for split in SPLITS},
        },
        "removed": removed,
        "across_splits": int(across.sum()),
        "with_another_label": int(differ.sum()),
        "pairs": {method: int((pairs["method"] == method).sum()) for method in ("exact", "near")},
        "largest_cluster": int(sizes.max()) + 1 if len(sizes) else 1,
        "largest_share_removed": largest_share(records),
        "threshold": rule.threshold,
        "planted": {"copies": planted.count, "recall": planted.recall},
    }


def largest_share(records: "pd.DataFrame", least: int = 10) -> dict[str, Any]:
    """The label, or without labels the file or folder, of ``least`` records or more that lost most of them."""
    group = records["label"].where(records["label"].notna(), records["id"].str.split("#").str[0].str.split("/").str[0])
    sizes = group.groupby(group).size()
    sizes = sizes[sizes >= least]
    if not len(sizes):
        return {"group": "", "share": 0.0}
    shares = (~records["kept"]).groupby(group).mean()[sizes.index].sort_index()
    name = str(shares.idxmax())
    return {"group": name[:80], "share": round(float(shares[name]), 4)}


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
