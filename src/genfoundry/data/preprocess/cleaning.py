"""Clean records shard by shard, assign each one a split, and report what was dropped and why."""

import importlib
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.split import Split
from genfoundry.config.specs import FILE, REJECTED_COLUMNS, SPLITS
from genfoundry.core import pages
from genfoundry.core.io import file_digest, publish_folder, read_json, read_table, shards, write_json, write_table
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.funnel import write_report
from genfoundry.data.ingest.reading import Rejects
from genfoundry.data.preprocess.splitting import Plan, plan, splits_of
from genfoundry.data.shards import executor
from genfoundry.data.shards.memo import Memo, memo_of, prune, remembered

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 6
"""Examples on the page for each reason."""

CARRIED = ("source", "license", "language", "time", "group", FILE)
"""Columns that pass through cleaning unchanged."""


class Task(NamedTuple):
    """One shard to clean."""

    modality: str
    """Name of the modality's module."""
    shard: Path
    config: Preprocess
    split: Split
    plan: Plan
    """For this shard alone: one entry in ``places``."""
    target: Path
    """Folder for the result: ``clean.parquet``, ``rejected.parquet``, ``shown.json``."""
    memo: Memo


def clean_records(
    modality: ModuleType,
    config: Preprocess,
    split: Split,
    paths: DatasetPaths,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish the clean records, with ``rejected.parquet`` beside them, ``preprocess.json`` and its page."""
    rejects, shown = Rejects(), _Shown()
    counts: Counter[str] = Counter()
    facts: dict[str, _Range] = {}
    memo = memo_of(paths, execution.data_cache, __name__, modality.__name__)
    where = f"datasets.{paths.key}"
    with publish_folder(paths.clean) as folder:
        divided = plan(paths.records, split, where)
        parts = shards(paths.records)
        work = folder / ".work"
        tasks = [
            Task(modality.__name__, part, config, split, Plan(divided.known, [places]), work / part.name, memo)
            for part, places in zip(parts, divided.places, strict=True)
        ]
        written = count = 0
        size = sum(part.stat().st_size for part in parts)
        for done in executor.run(clean_shard, tasks, execution, size):
            rejects.add(read_table(done / "rejected.parquet"))
            shown.add(read_json(done / "shown.json"))
            table = _facts(done / "clean.parquet")
            count += len(table)
            counts.update(table["split"])
            for name in table.columns.difference(["split"]) if len(table) else ():
                facts.setdefault(name, _Range()).add(table[name])
            if len(table):
                (done / "clean.parquet").replace(folder / f"part-{written:05d}.parquet")
                written += 1
            shutil.rmtree(done)
        shutil.rmtree(work, ignore_errors=True)
        prune(memo)
        rejects.check(count, config.max_dropped, f"{where}: preprocess", "preprocess.max_dropped")
        write_table(folder / "rejected.parquet", rejects.table())
    reasons = rejects.counts()
    report = {
        "records": count,
        "dropped": {"total": sum(reasons.values()), **reasons},
        "splits": {name: counts[name] for name in SPLITS},
        "facts": {name: found.report() for name, found in sorted(facts.items())},
    }
    write_report(paths, "preprocess", report)
    pages.write_page(
        paths.reports / "preprocess.html",
        f"{paths.key}: preprocessing",
        "What became canonical, how it is divided, and every reason for which a record was dropped.",
        pages.tiles({"records kept": count, "dropped": sum(reasons.values()), **report["splits"]}),
        f"<p class=soft>{_divided(split)}</p>",
        "<h2>Facts of the clean records</h2>",
        pages.table(["fact", "least", "mean", "most"], [[k, *v.report().values()] for k, v in sorted(facts.items())]),
        "<h2>Dropped, by reason</h2>",
        pages.bars(reasons) if reasons else "<p class=soft>Nothing was dropped.</p>",
        shown.html(rejects.table()),
    )


def clean_shard(task: Task) -> Path:
    """Clean one shard; the folder with the result."""
    places = task.plan.places[0]
    key = {
        "modality": task.modality,
        "shard": file_digest(task.shard),
        "preprocess": task.config.model_dump(mode="json"),
        "split": task.split.model_dump(mode="json", include={"by", "val", "test", "salt"}),
        "known": sorted(task.plan.known),
        "places": None if places is None else places.tobytes().hex(),
    }
    remembered(task.memo, key, task.target, partial(_clean_into, task))
    return task.target


def _clean_into(task: Task, target: Path) -> None:
    import pandas as pd

    modality = importlib.import_module(task.modality)
    records = read_table(task.shard)
    clean, dropped = modality.clean(records, task.config)
    for name in CARRIED:
        if name in records and name not in clean:
            clean[name] = clean["id"].map(dict(zip(records["id"], records[name], strict=True)))
    splits = splits_of(records, clean, task.split, task.plan, 0)
    clean["split"] = pd.Series(splits, index=clean.index, dtype="str")
    between = [(name, "gap", "left out before the next split") for name in clean["id"][clean["split"] == ""]]
    clean = clean[clean["split"] != ""]
    dropped = pd.concat([dropped, pd.DataFrame(between, columns=list(REJECTED_COLUMNS), dtype="str")])
    write_table(target / "clean.parquet", clean.reset_index(drop=True))
    write_table(target / "rejected.parquet", dropped.reset_index(drop=True))
    write_json(target / "shown.json", _examples(modality, records, dropped))


def _facts(shard: Path) -> "pd.DataFrame":
    """Split and numeric facts of a clean shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pq.read_schema(shard)
    names = [one.name for one in schema if pa.types.is_integer(one.type) or pa.types.is_floating(one.type)]
    return read_table(shard, ["split", *names])


def _divided(split: Split) -> str:
    how = {
        "hash": "by a salted hash of the content: a record stays in its split when data grow",
        "group": "by a salted hash of the group: a group stays in its split when data grow",
        "time": "by time: the newest records test" + ("" if split.test_from else "; the borders move with new data"),
        "contiguous": "by place in each source: its last records test; the borders move with new data",
    }
    return f"What comes without a split is divided {how[split.by]}."


class _Range:
    """Least, mean and most of a fact over all shards."""

    def __init__(self) -> None:
        self.least, self.most, self.total, self.count = float("inf"), float("-inf"), 0.0, 0

    def add(self, values: "pd.Series") -> None:
        self.least, self.most = min(self.least, float(values.min())), max(self.most, float(values.max()))
        self.total, self.count = self.total + float(values.sum()), self.count + len(values)

    def report(self) -> dict[str, float]:
        return {"least": self.least, "mean": round(self.total / self.count, 4), "most": self.most}


def _examples(modality: ModuleType, records: "pd.DataFrame", dropped: "pd.DataFrame") -> dict[str, Any]:
    """For each reason, the first records that it dropped, as [id, HTML]."""
    shown: dict[str, list[list[str]]] = {}
    wanted = dropped.groupby("reason", sort=True).head(SHOWN)
    found = records[records["id"].isin(wanted["id"])].drop_duplicates("id").set_index("id", drop=False)
    for row in wanted.itertuples():
        shown.setdefault(str(row.reason), []).append([str(row.id), modality.show(found.loc[row.id].to_dict())])
    return shown


class _Shown:
    """Examples of dropped records over all shards."""

    def __init__(self) -> None:
        self.held: dict[str, list[list[str]]] = {}

    def add(self, shown: dict[str, list[list[str]]]) -> None:
        for reason, rows in shown.items():
            held = self.held.setdefault(reason, [])
            held += rows[: SHOWN - len(held)]

    def html(self, dropped: "pd.DataFrame") -> str:
        details = dict(zip(dropped["id"], dropped["detail"], strict=True))
        parts = []
        for reason, held in sorted(self.held.items()):
            rows = [[name, details[name], pages.Html(shown)] for name, shown in held]
            parts += [
                f"<h3>{pages.escape(reason)}</h3>",
                pages.table(["record", "why", "as read"], rows),
            ]
        return "".join(parts)
