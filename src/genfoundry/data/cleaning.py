"""Make records canonical, shard by shard; give each one its split; show what was dropped and why."""

from collections import Counter
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING

from genfoundry import pages
from genfoundry.data.ingest import Rejects
from genfoundry.data.splitting import assign
from genfoundry.io import publish_folder, read_records, write_json, write_records, write_table
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Preprocess, Split
from genfoundry.specs import RECORD_COLUMNS, SPLITS

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 6
"""Examples on the page for each reason."""


def clean_records(modality: ModuleType, config: Preprocess, split: Split, paths: DatasetPaths) -> None:
    """Publish the clean records, with ``rejected.parquet`` beside them, ``preprocess.json`` and its page."""
    rejects, examples = Rejects(), _Examples(modality)
    counts: Counter[str] = Counter()
    facts: dict[str, _Range] = {}
    known = {name for table in read_records(paths.records, ["split"]) for name in table["split"].dropna().unique()}

    def tables() -> "Iterator[pd.DataFrame]":
        for records in read_records(paths.records):
            clean, dropped = modality.clean(records, config)
            rejects.add(dropped)
            examples.gather(records, dropped)
            clean["split"] = [
                assign(given, digest, split, known)
                for given, digest in zip(clean["split"], clean["sha256"], strict=True)
            ]
            counts.update(clean["split"])
            for name in clean.columns.difference(list(RECORD_COLUMNS)):
                if clean[name].dtype.kind in "iuf" and len(clean):
                    facts.setdefault(name, _Range()).add(clean[name])
            yield clean

    with publish_folder(paths.clean) as folder:
        count = write_records(folder, tables())
        rejects.check(count, config.max_dropped, f"datasets.{paths.key}: preprocess", "preprocess.max_dropped")
        write_table(folder / "rejected.parquet", rejects.table())
    reasons = rejects.counts()
    report = {
        "records": count,
        "dropped": {"total": sum(reasons.values()), **reasons},
        "splits": {name: counts[name] for name in SPLITS},
        "facts": {name: found.report() for name, found in sorted(facts.items())},
    }
    write_json(paths.reports / "preprocess.json", report)
    pages.write_page(
        paths.reports / "preprocess.html",
        f"{paths.key}: preprocessing",
        "What became canonical, how it is divided, and every reason for which a record was dropped.",
        pages.tiles({"records kept": count, "dropped": sum(reasons.values()), **report["splits"]}),
        "<h2>Facts of the clean records</h2>",
        pages.table(["fact", "least", "mean", "most"], [[k, *v.report().values()] for k, v in sorted(facts.items())]),
        "<h2>Dropped, by reason</h2>",
        pages.bars(reasons) if reasons else "<p class=soft>Nothing was dropped.</p>",
        examples.html(rejects.table()),
    )


class _Range:
    """Least, mean and most of a fact over all shards."""

    def __init__(self) -> None:
        self.least, self.most, self.total, self.count = float("inf"), float("-inf"), 0.0, 0

    def add(self, values: "pd.Series") -> None:
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        self.total, self.count = self.total + float(values.sum()), self.count + len(values)

    def report(self) -> dict[str, float]:
        return {"least": self.least, "mean": round(self.total / self.count, 4), "most": self.most}


class _Examples:
    """The first records that each reason dropped, as HTML."""

    def __init__(self, modality: ModuleType) -> None:
        self.modality = modality
        self.shown: dict[str, list[tuple[str, str]]] = {}

    def gather(self, records: "pd.DataFrame", dropped: "pd.DataFrame") -> None:
        for row in dropped.itertuples():
            held = self.shown.setdefault(str(row.reason), [])
            if len(held) < SHOWN:
                record = records[records["id"] == row.id].iloc[0].to_dict()
                held.append((str(row.id), self.modality.show(record)))

    def html(self, dropped: "pd.DataFrame") -> str:
        details = dict(zip(dropped["id"], dropped["detail"], strict=True))
        parts = []
        for reason, held in sorted(self.shown.items()):
            rows = [[name, details[name], shown] for name, shown in held]
            parts += [
                f"<h3>{pages.escape(reason)}</h3>",
                pages.table(["record", "why", "as read"], rows, raw=["as read"]),
            ]
        return "".join(parts)
