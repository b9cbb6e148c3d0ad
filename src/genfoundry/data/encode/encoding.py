"""Turn the split records into memory-mapped arrays.

Rows are ordered by content hash and arrays hold no ids: a raw copy added later, under any name, leaves them as
they are, byte for byte, and nothing is retrained. The index beside them maps rows to records. The arrays
hold 8 bytes of each hash, so that a model can say which records it has seen.
"""

import itertools
import shutil
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.conditions import Condition, Wanted, found
from genfoundry.config.sections.encode import Encode
from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import (
    FILE,
    RECORD_COLUMNS,
    SPLITS,
    condition_file,
    record_hashes,
    tops,
    write_spec,
)
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import publish_folder, read_all_records, read_table, record_columns, write_table
from genfoundry.core.parts import nearest
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.encode.codes import Codes
from genfoundry.data.encode.pinned import pinned
from genfoundry.data.funnel import write_report
from genfoundry.data.shards.memo import memo_of, prune

if TYPE_CHECKING:
    import pandas as pd


def write_arrays(
    modality: ModuleType,
    config: Encode,
    paths: DatasetPaths,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish ``arrays`` (with ``spec.json``), ``index`` and ``encode.json``."""
    index = _index(paths)
    counts = {split: int((index["split"] == split).sum()) for split in SPLITS}
    memo = memo_of(paths, execution.data_cache, __name__, modality.__name__)
    with publish_folder(paths.arrays) as folder:
        codes = Codes(paths.clean, folder / ".work", index, pinned(paths, config), memo, execution)
        spec, report = modality.encode(codes, counts, config, folder)
        shutil.rmtree(folder / ".work", ignore_errors=True)
        prune(memo)
        spec = spec.model_copy(update={"modality": modality.__name__.rpartition(".")[2]})
        if labels := _labels(index, spec.kind):
            spec = spec.model_copy(update={"labels": labels})
        spec = spec.model_copy(update={"conditions": _conditions(index, config.conditions)})
        for (name, condition), split in itertools.product(spec.asked.items(), SPLITS):
            values = condition.of_records(name, list(index[index["split"] == split][name]))
            np.save(folder / condition_file(name, split), values, allow_pickle=False)
        for split in SPLITS:
            mine = index[index["split"] == split]["sha256"]
            np.save(folder / f"{split}_records.npy", record_hashes(mine), allow_pickle=False)
        write_spec(folder, spec)
    with publish_folder(paths.index) as folder:
        for split in SPLITS:
            mine = index[index["split"] == split]
            write_table(folder / f"{split}.parquet", mine.drop(columns="split").reset_index(drop=True))
    write_report(paths, "encode", _report(report, index, labels))


def _index(paths: DatasetPaths) -> "pd.DataFrame":
    """All records in use, in the order of the hash: split, row in the split's arrays, id, sha256, label, source, facts.

    ``source`` is the file or top folder that a record comes from; facts are the columns that the modality or the user's
    data added.
    """
    import pandas as pd

    facts = [name for name in record_columns(paths.clean) if name not in RECORD_COLUMNS]
    splits = read_table(paths.splits / "ids.parquet", ["id", "split", "sha256"])
    table = read_all_records(paths.clean, ["id", "label", *facts]).set_index("id")
    index = splits.join(table, on="id").sort_values(["sha256", "id"], ignore_index=True)
    index["row"] = index.groupby("split").cumcount().astype("int64")
    if "source" not in facts:
        index["source"] = pd.Series(tops(index[FILE if FILE in facts else "id"]), index=index.index, dtype="str")
    return index[["row", "id", "sha256", "label", "source", *(name for name in facts if name != "source"), "split"]]


def _conditions(index: "pd.DataFrame", wanted: Mapping[str, Wanted]) -> dict[str, Condition]:
    """Conditions from columns of the records.

    Raises:
        ConfigError: There is no such column.
        DataError: A record has no value there.
    """
    conditions: dict[str, Condition] = {}
    for name, one in wanted.items():
        if name not in index or name == "label":
            known = [column for column in index if column not in ("row", "id", "sha256", "label", "split")]
            raise ConfigError(f"encode.conditions: no column {name!r} in the records{nearest(name, known)}")
        if (missing := index[name].isna()).any():
            names = ", ".join(index["id"][missing].head(5))
            raise DataError(f"{int(missing.sum())} of {len(index)} records have no {name}, such as {names}")
        conditions[name] = found(one, name, list(index[index["split"] == "train"][name]))
    return conditions


def _labels(index: "pd.DataFrame", kind: str) -> tuple[str, ...]:
    """Class names in the order of their numbers; empty without labels, and for texts of which some have none.

    Raises:
        DataError: Some images have a label and some have none.
    """
    missing = index["label"].isna()
    if missing.all():
        return ()
    if missing.any():
        names = ", ".join(index["id"][missing].head(5))
        said = f"{int(missing.sum())} of {len(index)} records have no label, such as {names}"
        if kind != "token":
            raise DataError(f"{said}; move them to a sub-folder of a class, or leave labels out for all")
        # A column with gaps is common in tables, and slices by label work with it.
        print(f"genfoundry: {said}; so the label is no condition of models")
        return ()
    return tuple(sorted(set(index["label"])))


def _report(report: dict[str, Any], index: "pd.DataFrame", labels: tuple[str, ...]) -> dict[str, Any]:
    return {**report, "labels": len(labels), "records": len(index), "unlabelled": int(index["label"].isna().sum())}
