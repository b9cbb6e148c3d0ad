"""Read a source of any modality into shards of records; reject and count what can't be read."""

import shutil
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.specs import REJECTED_COLUMNS
from genfoundry.core.errors import DataError
from genfoundry.core.io import publish_folder, write_table
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.funnel import write_report
from genfoundry.data.ingest.sources import shards
from genfoundry.data.shards.memo import memo_of, prune
from genfoundry.modalities.common.values import Kinds

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 3
"""Examples that an error message names for each reason."""

LISTED = 50
"""Labels that a report lists by name."""


class Rejects:
    """Rejected records: rows for ``rejected.parquet``, counts by reason, an error above the limit."""

    def __init__(self) -> None:
        self.tables: list[pd.DataFrame] = []

    def add(self, table: "pd.DataFrame") -> None:
        if len(table):
            self.tables.append(table)

    def table(self) -> "pd.DataFrame":
        import pandas as pd

        if not self.tables:
            return pd.DataFrame(columns=list(REJECTED_COLUMNS), dtype="str")
        return pd.concat(self.tables, ignore_index=True).sort_values(["reason", "id"], ignore_index=True)

    def counts(self) -> dict[str, int]:
        """Number by reason, in the order of the alphabet."""
        total: Counter[str] = Counter()
        for table in self.tables:
            total.update(table["reason"])
        return dict(sorted(total.items()))

    def check(self, kept: int, limit: float, where: str, setting: str) -> None:
        """Raise DataError where nothing is left or the rejected share is above the limit."""
        counts = self.counts()
        away = sum(counts.values())
        if kept and away <= limit * (kept + away):
            return
        table = self.table()
        listed = [
            f"  {reason}: {count}, such as "
            + "; ".join(
                f"{row.id} ({row.detail})" for row in table[table["reason"] == reason].head(EXAMPLES).itertuples()
            )
            for reason, count in counts.items()
        ]
        share = f"{away} of {kept + away} records ({away / max(kept + away, 1):.1%}) are {setting.rpartition('_')[2]}"
        raise DataError("\n".join([f"{where}: {share}, {setting} allows {limit:.1%}; fix them or raise it", *listed]))


def read_source(
    modality: ModuleType,
    source: Path,
    config: Ingest,
    paths: DatasetPaths,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish the records of a source, with ``rejected.parquet`` beside them, and ``ingest.json``."""
    rejects = Rejects()
    labels: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    kinds = Kinds()
    size = count = written = 0
    memo = memo_of(paths, execution.data_cache, __name__, modality.__name__)
    with publish_folder(paths.records) as folder:
        work = folder / ".work"
        for shard in shards(modality, source, config, work, memo):
            rejects.add(shard.rejected())
            labels.update(shard.facts["labels"])
            splits.update(shard.facts["splits"])
            kinds.merge(shard.facts["kinds"])
            size, count = size + shard.facts["bytes"], count + shard.facts["records"]
            if shard.facts["records"]:
                shard.records.replace(folder / f"part-{written:05d}.parquet")
                written += 1
            shutil.rmtree(shard.folder)
        shutil.rmtree(work, ignore_errors=True)
        prune(memo)
        kinds.check(str(_shown(source, paths)))
        rejects.check(count, config.max_rejected, str(_shown(source, paths)), "ingest.max_rejected")
        write_table(folder / "rejected.parquet", rejects.table())
    report: dict[str, Any] = {
        "records": count,
        "bytes": size,
        "rejected": {"total": sum(rejects.counts().values()), **rejects.counts()},
        "given_splits": dict(sorted(splits.items())),
        "labels": {"total": len(labels), "records": dict(sorted(labels.items())) if len(labels) <= LISTED else {}},
    }
    write_report(paths, "ingest", report)


def _shown(source: Path, paths: DatasetPaths) -> Path:
    return source.relative_to(paths.root) if source.is_relative_to(paths.root) else source
