"""The page that shows what was taken for a copy of what."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from genfoundry import pages
from genfoundry.data.dedup_report import MEMBERS
from genfoundry.paths import DatasetPaths

if TYPE_CHECKING:
    import pandas as pd

BINS = 20


def write(
    paths: DatasetPaths,
    modality: ModuleType,
    report: Mapping[str, Any],
    duplicates: "pd.DataFrame",
    shown: "tuple[pd.DataFrame, pd.DataFrame]",
    contents: Mapping[str, Mapping[str, Any]],
) -> None:
    """Publish ``deduplicate.html``."""
    records, planted = report["records"], report["planted"]
    closest, members = shown
    share = report["largest_share_removed"]
    headline = {
        "records in": records["in"],
        "kept": records["kept"],
        "exact copies": sum(report["removed"]["exact"].values()),
        "near copies": sum(report["removed"]["near"].values()),
        "copies across splits": report["across_splits"],
        "threshold": report["threshold"],
    }
    pages.write_page(
        paths.reports / "deduplicate.html",
        f"{paths.key}: deduplication",
        "A record goes only if a record that stays is similar to it; each pair below was verified in full.",
        pages.tiles(headline),
        "<h2>What went</h2>",
        _removed(report),
        f"<p>Of {planted['copies']:,} planted near copies that the rule covers, {planted['recall']:.2%} are found. "
        f"The group that lost most is <code>{pages.escape(share['group'] or '-')}</code> with {share['share']:.1%}. "
        f"{report['with_another_label']:,} removed records bear another label than the record that stays for them.</p>",
        "<h2>Similarity of the near copies to the record that stays</h2>",
        _histogram(duplicates, report["threshold"]),
        "<h2>Closest calls</h2>",
        f"<p class=soft>The {len(closest)} removed records that are least similar to the one that stays. "
        "If these are copies, all are.</p>",
        *(_pair(modality, row, contents) for row in closest.to_dict("records")),
        "<h2>Largest groups</h2>",
        *(_group(modality, name, group, contents) for name, group in members.groupby("kept_id", sort=False)),
        "" if len(members) else "<p class=soft>No record has more than one copy.</p>",
    )


def _removed(report: Mapping[str, Any]) -> str:
    splits = list(report["records"]["kept_by_split"])
    rows = [[method, *(report["removed"][method][split] for split in splits)] for method in ("exact", "near")]
    rows.append(["kept", *report["records"]["kept_by_split"].values()])
    return pages.table(["", *splits], rows)


def _histogram(duplicates: "pd.DataFrame", threshold: float) -> str:
    scores = duplicates[duplicates["method"] == "near"]["score"]
    if not len(scores):
        return "<p class=soft>There are no near copies.</p>"
    width = max((1 - threshold) / BINS, 1e-6)
    counts = {}
    for number in range(BINS):
        low, high = threshold + number * width, threshold + (number + 1) * width
        inside = (scores >= low) & ((scores < high) | (number == BINS - 1))
        inside |= (scores < low) & (number == 0)
        counts[f"{low:.4g} to {high:.4g}"] = int(inside.sum())
    return pages.bars(counts)


def _pair(modality: ModuleType, row: Mapping[str, Any], contents: Mapping[str, Mapping[str, Any]]) -> str:
    kept, removed = contents[row["kept_id"]], contents[row["removed_id"]]
    return (
        f"<h3>similarity {row['score']:.4f}</h3>"
        f"<p><span class=good>stays</span> <code>{pages.escape(row['kept_id'])}</code> "
        f"<span class=soft>{_where(kept)}</span><br><span class=bad>goes</span> "
        f"<code>{pages.escape(row['removed_id'])}</code> <span class=soft>{_where(removed)}</span></p>"
        f"{modality.compare(kept, removed)}"
    )


def _where(record: Mapping[str, Any]) -> str:
    label = record["label"]
    return pages.escape(f"{record['split']}{f', label {label}' if isinstance(label, str) else ''}")


def _group(modality: ModuleType, name: str, group: "pd.DataFrame", contents: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        [row["removed_id"], row["method"], row["score"], row["removed_split"]]
        for row in group.head(MEMBERS).to_dict("records")
    ]
    more = f"<p class=soft>and {len(group) - MEMBERS:,} more</p>" if len(group) > MEMBERS else ""
    return (
        f"<h3>{len(group) + 1:,} alike</h3><p><span class=good>stays</span> <code>{pages.escape(name)}</code> "
        f"<span class=soft>{_where(contents[name])}</span></p>{modality.show(contents[name])}"
        f"{pages.table(['goes', 'method', 'similarity', 'split'], rows)}{more}"
    )
