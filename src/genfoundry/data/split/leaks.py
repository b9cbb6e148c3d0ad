"""The final splits: withhold records that training and evaluation share, then check that no leak is left."""

import shutil
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.split import Split
from genfoundry.config.specs import EVALUATION_SPLITS, SPLITS
from genfoundry.core.errors import DataError
from genfoundry.core.io import (
    publish_folder,
    read_all_records,
    read_table,
    record_columns,
    write_table,
)
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.funnel import write_report
from genfoundry.data.shards import executor
from genfoundry.data.shards.memo import Memo, memo_of, prune
from genfoundry.data.similarity.fingerprints import Prepared
from genfoundry.data.similarity.keepers import Rule
from genfoundry.data.similarity.setstore import HASH
from genfoundry.data.split import contract
from genfoundry.data.split import page as splitpage
from genfoundry.data.split.guards import COLUMNS, External, read_guards, remove
from genfoundry.data.split.leaksearch import TRAINING, Outcome, Task, groups, most_elements, search
from genfoundry.data.validate.validation import Run, sentence

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 6
"""Decimals of a share or similarity in a report."""

EXTERNAL = "external"
"""Split name of records of external evaluation sets."""


def guard_splits(
    modality: ModuleType,
    config: Split,
    dedup: Dedup,
    preprocess: Preprocess,
    paths: DatasetPaths,
    run: Run | None = None,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish the ids in use with their split, the withheld records, ``split.json`` and its page.

    Raises:
        DataError: More evaluation records than allowed are like a training record, or the contract of the splits is
            broken: one is too small, or a label of the test records never occurs in training.
    """
    records = _records(paths)
    if not len(records):
        raise DataError(f"datasets.{paths.key}: no record reached the splits; look at preprocess.html")
    rule = Rule.read(paths.unique)
    external = read_guards(modality, config.guard, preprocess, dedup, paths.root, paths.key)
    with publish_folder(paths.splits) as folder:
        work = folder / ".work/prints"
        prepared = Prepared.of(modality, dedup, paths.clean, records, external.prints, work, execution)
        training = (records["split"] == "train").to_numpy()
        most = most_elements(float(getattr(dedup, "memory", 0)))
        stays, removed = _guarded(prepared, records, training, external, rule, config.max_containment, most)
        np.save(work.parent / TRAINING, stays)
        memo = memo_of(paths, execution.data_cache, __name__, modality.__name__)
        elements = prepared.elements(len(training))
        tasks = _tasks(prepared, ~training, elements, rule, config.max_containment, most, memo, paths.key)
        # Each one reads all of training: its size counts for each.
        found = list(executor.run(search, tasks, execution, HASH * int(elements.sum()) * len(tasks)))
        prune(memo)
        shutil.rmtree(folder / ".work", ignore_errors=True)
        aside = _aside(records, found)
        records["used"] = ~records["id"].isin({*aside["id"], *removed["removed_id"]})
        closest = _closest(records, found, external)
        used = records[records["used"]].drop(columns="used").reset_index(drop=True)
        outcomes = contract.hold(used, config, paths.key, run)
        shown = splitpage.Found(records, aside, removed, closest, external, outcomes)
        report = _report(shown, rule)
        splitpage.write(paths, modality, report, shown)
        faults = [*_leaks(closest, config.max_leaks), *(f"  {sentence(one)}" for one in outcomes if one.stops)]
        if faults:
            page = (paths.reports / "split.html").relative_to(paths.root)
            raise DataError("\n".join([f"datasets.{paths.key}: the splits can't be used; look at {page}", *faults]))
        write_table(folder / "ids.parquet", used[["id", "sha256", "split"]])
        write_table(folder / "withheld.parquet", aside)
        write_table(folder / "removed.parquet", removed)
    write_report(paths, "split", report)


def _records(paths: DatasetPaths) -> "pd.DataFrame":
    """The unique records in the order of their hash, with label and facts."""
    records = read_table(paths.unique / "ids.parquet")
    names = contract.columns(record_columns(paths.clean))
    facts = read_all_records(paths.clean, ["id", *names]).set_index("id")
    return records.join(facts, on="id")


def _guarded(
    prepared: Prepared,
    records: "pd.DataFrame",
    training: np.ndarray,
    external: External,
    rule: Rule,
    share: float,
    most: float,
) -> "tuple[np.ndarray, pd.DataFrame]":
    """(training records in use, bool by record; those withheld because of external sets)."""
    import pandas as pd

    if external.prints is None:
        return training, pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    stays, parts = np.zeros(len(training), bool), []
    for block in prepared.gather(np.zeros(len(training), bool), training, True, most):
        rows, removed = remove(block, records, external, rule, share)
        stays[block.record[rows]] = True
        parts.append(removed)
    return stays, pd.concat(parts).sort_values("removed_id", ignore_index=True)


def _tasks(
    prepared: Prepared,
    evaluation: np.ndarray,
    elements: np.ndarray,
    rule: Rule,
    share: float,
    most: float,
    memo: Memo,
    key: str,
) -> list[Task]:
    """Groups of evaluation to look for in training; the external sets last."""
    mine = np.flatnonzero(evaluation)
    asked = [mine[group] for group in groups(elements[mine], most)]
    if prepared.guards is not None:
        asked.append(np.empty(0, np.int64))
    return [Task(prepared.work, group, rule, share, most, memo, (key, n)) for n, group in enumerate(asked)]


def _aside(records: "pd.DataFrame", found: list[Outcome]) -> "pd.DataFrame":
    """Evaluation records that a training record contains, with the one that holds most of them."""
    import pandas as pd

    columns = {"id": "str", "split": "str", "contained_in": "str", "share": "float64"}
    inner, outer, share = (np.concatenate([[], *(one[n] for one in found)]) for n in range(3))
    first, second = records.iloc[inner.astype(np.int64)], records.iloc[outer.astype(np.int64)]
    rows = zip(first["id"], first["split"], second["id"], np.round(share, ROUNDING), strict=True)
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns).sort_values("id", ignore_index=True)


def _closest(records: "pd.DataFrame", found: list[Outcome], external: External) -> "pd.DataFrame":
    """Evaluation records in use, external ones too, with the training record most like them; leaks first."""
    import pandas as pd

    names, splits = records["id"].to_numpy(dtype=object), records["split"].to_numpy(dtype=object)
    outside = external.records["id"].to_numpy(dtype=object) if external.prints is not None else None
    tables = []
    for number, one in enumerate(found):
        foreign = outside is not None and number == len(found) - 1
        tables.append(
            pd.DataFrame(
                {
                    "id": (outside if foreign else names)[one.asked],  # type: ignore[index]
                    "split": EXTERNAL if foreign else splits[one.asked],
                    "nearest": ["" if row < 0 else names[row] for row in one.nearest],
                    "score": np.round(one.score, ROUNDING),
                    "containment": np.round(one.containment, ROUNDING),
                    "leak": one.leaks,
                }
            )
        )
    columns = {
        "id": "str",
        "split": "str",
        "nearest": "str",
        "score": "float64",
        "containment": "float64",
        "leak": "bool",
    }
    table = pd.concat(tables) if tables else pd.DataFrame(columns=list(columns)).astype(columns)
    return table.sort_values(["leak", "score", "id"], ascending=[False, False, True], ignore_index=True)


def _leaks(closest: "pd.DataFrame", allowed: int) -> list[str]:
    leaks = closest[closest["leak"]]
    if len(leaks) <= allowed:
        return []
    shown = "; ".join(f"{row.id} ({row.split}) in {row.nearest}" for row in leaks.head(3).itertuples())
    return [
        f"  {len(leaks)} evaluation records are like training records, which deduplication missed "
        f"(split.max_leaks allows {allowed}): {shown}"
    ]


def _report(found: splitpage.Found, rule: Rule) -> dict[str, Any]:
    used, closest = found.records[found.records["used"]], found.closest
    sets = found.removed["guard_id"].str.split(":").str[0]
    return {
        "records": {split: int((used["split"] == split).sum()) for split in SPLITS},
        "withheld": {split: int((found.aside["split"] == split).sum()) for split in EVALUATION_SPLITS},
        "guard": {
            "removed": {
                "total": len(found.removed),
                **{name: int((found.removed["method"] == name).sum()) for name in ("exact", "similar", "contained")},
            },
            "sets": {
                name: {**counts, "removed": int((sets == name).sum())} for name, counts in found.external.counts.items()
            },
        },
        "leaks": int(closest["leak"].sum()),
        "threshold": rule.threshold,
        "closest_similarity": float(closest["score"].max()) if len(closest) else 0.0,
        "largest_containment": float(closest["containment"].max()) if len(closest) else 0.0,
        "labels": int(used["label"].nunique()),
        "contract": {
            "met": sum(one.success for one in found.outcomes),
            "failed": {
                severity: sum(not one.success and one.expectation.severity == severity for one in found.outcomes)
                for severity in ("critical", "warning", "info")
            },
        },
    }
