"""The page that shows what was taken for a copy of what."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from genfoundry.core import pages
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.deduplicate.report import ALARM, CROWDED_ALARM, MEMBERS

if TYPE_CHECKING:
    import pandas as pd

SHARES = 12
"""Groups in the table of shares removed."""


def write(
    paths: DatasetPaths,
    modality: ModuleType,
    report: Mapping[str, Any],
    shares: "pd.DataFrame",
    shown: "tuple[pd.DataFrame, pd.DataFrame]",
    contents: Mapping[str, Mapping[str, Any]],
) -> None:
    """Publish ``deduplicate.html``."""
    records = report["records"]
    closest, members = shown
    headline = {
        "records in": records["in"],
        "kept": records["kept"],
        "exact copies": sum(report["removed"]["exact"].values()),
        "near copies": sum(report["removed"]["near"].values()),
        "of the content kept": f"{report['content']['kept'] / max(report['content']['in'], 1):.1%}",
        "copies across splits": report["across_splits"],
        "threshold": report["threshold"],
    }
    pages.write_page(
        paths.reports / "deduplicate.html",
        f"{paths.key}: deduplication",
        "A record goes only if a record that stays is similar to it; each pair below was verified in full.",
        pages.tiles(headline),
        _alarm(report),
        "<h2>What went</h2>",
        _removed(report),
        f"<p>{report['with_another_label']:,} removed records bear another label than the one that stays for them.</p>",
        "<h2>What the rule finds</h2>",
        _recall(report),
        "<h2>Who lost most</h2>",
        _shares(shares),
        "<h2>Similarity of the near copies to the record that stays</h2>",
        _histogram(report),
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
    rows = [[method, *(report["removed"][method][split] for split in splits)] for method in report["removed"]]
    rows.append(["kept", *report["records"]["kept_by_split"].values()])
    return pages.table(["", *splits], rows)


def _recall(report: Mapping[str, Any]) -> str:
    """Recall on synthetic duplicates by kind, and why the rule is as it is."""
    made = report["synthetic"]
    kinds = made["recall_by_kind"]
    if not kinds:
        return f"<p>The rule finds {made['recall']:.2%} of {made['copies']:,} synthetic duplicates that it covers.</p>"
    said = [
        f"Of {made['copies']:,} synthetic near-duplicates, the rule finds {made['recall']:.1%} (mean of all kinds)."
    ]
    if made["missed"]:
        said.append(f"<b>Duplicates of these kinds mostly stay: {', '.join(made['missed'])}.</b>")
    if report["lookalikes"]:
        said.append(
            "The set is full of look-alikes: different pictures nearly reach the threshold. So only copies go whose "
            "pixels stayed in place, at the threshold from which look-alikes are rare."
        )
    if report["least_threshold"]:
        said.append(
            f"The calibrated threshold would be lower than {report['threshold']:g}, which is the least: many synthetic "
            "copies can't be followed, as of flat pictures or small signs."
        )
    rows = [[kind, f"{share:.1%}"] for kind, share in kinds.items()]
    return f"<p>{' '.join(said)}</p>{pages.table(['kind of copy', 'found'], rows)}"


def _alarm(report: Mapping[str, Any]) -> str:
    lost, records = report["largest_share_removed"], report["records"]
    near = sum(report["removed"]["near"].values())
    if report["lookalikes"] and near > CROWDED_ALARM * records["in"]:
        return (
            f"<p class=bad><b>{near:,} of {records['in']:,} records are gone as near copies, in a set full of "
            "look-alikes.</b> Look at the closest calls before you train on what is left; "
            "<code>dedup.threshold</code> raises the bar.</p>"
        )
    if not lost["alarms"]:
        return ""
    return (
        f"<p class=bad><b>{lost['alarms']:,} of the groups below lost more than {ALARM:.0%} of their records, "
        f"<code>{pages.escape(lost['group'])}</code> most of all ({lost['share']:.1%}).</b> That may be right "
        "(mirrors, templates that were filled in). Look at the pairs before you train on what is left.</p>"
    )


def _shares(shares: "pd.DataFrame") -> str:
    if not len(shares):
        return "<p class=soft>No group has ten records.</p>"
    rows = [
        [row["group"][:80], row["records"], row["kept"], f"{row['share']:.1%}"]
        for row in shares.head(SHARES).to_dict("records")
    ]
    more = f"<p class=soft>and {len(shares) - SHARES:,} more that lost less</p>" if len(shares) > SHARES else ""
    return pages.table(["source, label or folder", "records", "kept", "removed"], rows) + more


def _histogram(report: Mapping[str, Any]) -> str:
    if not any(report["similarity"].values()):
        return "<p class=soft>There are no near copies.</p>"
    return pages.bars(report["similarity"])


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
