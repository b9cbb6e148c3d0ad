"""The final splits: what training and evaluation share is taken out of one of them, and the rest is proven clean."""

import shutil
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.data import contract, splitpage
from genfoundry.data.dedup import RULE
from genfoundry.data.guards import External, read_guards, remove
from genfoundry.data.keepers import Rule
from genfoundry.data.leakcheck import nearest
from genfoundry.data.prints import Gathered, gather
from genfoundry.data.setjoin import Collection, contained
from genfoundry.data.validation import Run, sentence
from genfoundry.errors import DataError
from genfoundry.io import (
    publish_folder,
    read_all_records,
    read_json,
    read_table,
    record_columns,
    write_json,
    write_table,
)
from genfoundry.paths import DatasetPaths
from genfoundry.settings import Dedup, Execution, Preprocess, Split
from genfoundry.specs import EVALUATION_SPLITS, SPLITS, Sets

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 6
"""Decimals of a share or similarity in a report."""

EXTERNAL = "external"
"""What stands for the split of a record of an external evaluation set."""


def guard_splits(
    modality: ModuleType,
    config: Split,
    dedup: Dedup,
    preprocess: Preprocess,
    paths: DatasetPaths,
    run: Run | None = None,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish the ids in use with their split, what was taken out, ``split.json`` and its page.

    Raises:
        DataError: More evaluation records than allowed are like a training record, or the contract of the splits is
            broken: one is too small, or a label of the test records never occurs in training.
    """
    records = _records(paths)
    rule = Rule(**read_json(paths.unique / RULE))
    external = read_guards(modality, config.guard, preprocess, dedup, paths.root, paths.key)
    with publish_folder(paths.splits) as folder:
        gathered = gather(modality, dedup, paths, records, external.prints, folder / ".work", execution)
        shutil.rmtree(folder / ".work", ignore_errors=True)
        if gathered is None:
            raise DataError(f"datasets.{paths.key}: no record reached the splits; look at preprocess.html")
        training, removed = remove(gathered, records, external, rule, config.max_containment)
        aside = _contained(records, gathered, training, config.max_containment)
        gone = {*aside["id"], *removed["removed_id"]}
        records["used"] = ~records["id"].isin(gone)
        closest = _closest(records, gathered, training, external, rule, config.max_containment)
        used = records[records["used"]].drop(columns="used").reset_index(drop=True)
        outcomes = contract.hold(used, config, paths.key, run)
        found = splitpage.Found(records, aside, removed, closest, external, outcomes)
        report = _report(found, rule)
        splitpage.write(paths, modality, report, found)
        faults = [*_leaks(closest, config.max_leaks), *(f"  {sentence(one)}" for one in outcomes if one.stops)]
        if faults:
            page = (paths.reports / "split.html").relative_to(paths.root)
            raise DataError("\n".join([f"datasets.{paths.key}: the splits can't be used; look at {page}", *faults]))
        write_table(folder / "ids.parquet", used[["id", "sha256", "split"]])
        write_table(folder / "set_aside.parquet", aside)
        write_table(folder / "removed.parquet", removed)
    write_json(paths.reports / "split.json", report)


def _records(paths: DatasetPaths) -> "pd.DataFrame":
    """The unique records in the order of their hash, with label and facts."""
    records = read_table(paths.unique / "ids.parquet")
    names = contract.columns(record_columns(paths.clean))
    facts = read_all_records(paths.clean, ["id", *names]).set_index("id")
    return records.join(facts, on="id")


def _contained(records: "pd.DataFrame", gathered: Gathered, training: np.ndarray, share: float) -> "pd.DataFrame":
    """Evaluation records that a training record contains, with the one that holds most of them."""
    import pandas as pd

    columns = {"id": "str", "split": "str", "contained_in": "str", "share": "float64"}
    empty = pd.DataFrame(columns=list(columns)).astype(columns)
    prints, evaluation = gathered.prints, gathered.evaluation
    if not isinstance(prints, Sets) or not len(evaluation) or not len(training):
        return empty
    found = contained(Collection(prints), evaluation, training, share)
    first, second = gathered.record[found.first], gathered.record[found.second]
    order = np.lexsort((second, -found.score, first))
    first, place = np.unique(first[order], return_index=True)
    if not len(first):
        return empty
    inner, outer = records.iloc[first], records.iloc[second[order][place]]
    rows = zip(inner["id"], inner["split"], outer["id"], np.round(found.score[order][place], ROUNDING), strict=True)
    return pd.DataFrame(list(rows), columns=list(columns)).astype(columns).sort_values("id", ignore_index=True)


def _closest(
    records: "pd.DataFrame", gathered: Gathered, training: np.ndarray, external: External, rule: Rule, share: float
) -> "pd.DataFrame":
    """Evaluation records in use, external ones too, with the training record most like them; leaks first."""
    import pandas as pd

    used = records["used"].to_numpy()
    evaluation = gathered.evaluation[used[gathered.record[gathered.evaluation]]]
    looked = np.concatenate([evaluation, gathered.guards])
    found = nearest(gathered.prints, looked, training, rule, share, gathered.sizes)
    names = records["id"].to_numpy(dtype=object)
    outside = external.records["id"].to_numpy(dtype=object) if len(gathered.guards) else np.empty(0, object)
    splits = records["split"].to_numpy(dtype=object)[gathered.record[evaluation]]
    table = pd.DataFrame(
        {
            "id": [*names[gathered.record[evaluation]], *outside[gathered.record[gathered.guards]]],
            "split": [*splits, *[EXTERNAL] * len(gathered.guards)],
            "nearest": ["" if row < 0 else names[gathered.record[row]] for row in found.row],
            "score": np.round(found.score, ROUNDING),
            "containment": np.round(found.containment, ROUNDING),
            "leak": found.leaks,
        }
    )
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
        "set_aside": {split: int((found.aside["split"] == split).sum()) for split in EVALUATION_SPLITS},
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
