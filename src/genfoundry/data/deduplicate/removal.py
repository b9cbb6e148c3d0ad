"""Remove duplicates: exact ones by content, then near ones by verified similarity; the first of each group stays.

Priority: evaluation splits before training (so evaluation never shrinks because of training), then longer content,
then content hash. It depends on content alone, so the result does not depend on file names, order or shards.
"""

import shutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import Sets, Vectors
from genfoundry.core.errors import DataError
from genfoundry.core.io import (
    pick_records,
    publish_folder,
    read_all_records,
    record_columns,
    scratch_folder,
    write_table,
)
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.deduplicate import embeddings
from genfoundry.data.deduplicate import page as dedup_page
from genfoundry.data.deduplicate import report as dedup_report
from genfoundry.data.deduplicate.calibration import SYNTHETIC, calibrate
from genfoundry.data.deduplicate.embeddings import METHODS, Found
from genfoundry.data.funnel import write_report
from genfoundry.data.shards.memo import memo_of, prune
from genfoundry.data.similarity.fingerprints import LENGTHS, SAMPLE, load, print_shards
from genfoundry.data.similarity.keepers import Fingerprints, Rule, engine_of, join, keep, store_of, take
from genfoundry.data.similarity.pairs import Verdicts, digests, verdicts_of
from genfoundry.data.similarity.setstore import SetStore

if TYPE_CHECKING:
    import pandas as pd

PRIORITY = {"test": 0, "val": 1, "train": 2}


def drop_copies(
    modality: ModuleType,
    config: Dedup,
    paths: DatasetPaths,
    execution: Execution = Execution(),  # noqa: B008 -- frozen
) -> None:
    """Publish the kept ids, the duplicates and pairs, ``deduplicate.json`` and its page."""
    source = [name for name in record_columns(paths.clean) if name == "source"]
    records = read_all_records(paths.clean, ["id", "label", "split", "sha256", *source])
    if not len(records):
        raise DataError(f"datasets.{paths.key}: no record reached deduplication; look at preprocess.html")
    with scratch_folder(paths.unique) as work:
        records, prints, order, sample = _unique(modality, config, paths, records, execution, work)
        unique = records[records["unique"]]
        rule, synthetic = calibrate(modality, config, sample, len(unique))
        memo = memo_of(paths, execution.data_cache, __name__, modality.__name__)
        with verdicts_of(memo, ["deduplicate", paths.key], work / "verdicts") as verdicts:
            found = _settled(prints, order, rule, unique, config, paths, verdicts)
        prune(memo)
        del prints
    duplicates, pairs = _tables(records, unique, found)
    records["kept"] = ~records["id"].isin(duplicates["removed_id"])
    methods = ("exact", *METHODS) if config.embeddings.source else ("exact", "near")
    shares = dedup_report.shares(records)
    report = dedup_report.summary(records, duplicates, pairs, shares, rule, synthetic, methods)
    shown = dedup_report.choose(duplicates)
    contents = pick_records(paths.clean, dedup_report.ids_of(shown))
    dedup_page.write(paths, modality, report, shares, shown, contents)
    share = len(duplicates) / len(records)
    if share > config.max_removed:
        page = (paths.reports / "deduplicate.html").relative_to(paths.root)
        raise DataError(
            f"datasets.{paths.key}: {len(duplicates)} of {len(records)} records ({share:.1%}) are copies, "
            f"dedup.max_removed allows {config.max_removed:.1%}; look at {page}, then raise it or fix the data"
        )
    _publish(paths, records, duplicates, pairs, rule)
    write_report(paths, "deduplicate", report)


def _unique(
    modality: ModuleType, config: Dedup, paths: DatasetPaths, records: "pd.DataFrame", execution: Execution, work: Path
) -> "tuple[pd.DataFrame, Fingerprints | SetStore, np.ndarray, pd.DataFrame]":
    """(records by priority with column ``unique``, fingerprints of the unique ones, their order of priority, a sample
    of them with content).
    """
    import pandas as pd

    records["rank"], records["number"] = records["split"].map(PRIORITY), np.arange(len(records))
    records = records.sort_values(["sha256", "rank", "id"], ignore_index=True)
    records["unique"] = ~records["sha256"].duplicated()
    chosen = records["number"][records["unique"]].to_numpy()
    wanted = np.zeros(len(records), bool)
    wanted[chosen] = True
    size, place = np.zeros(len(records), np.int64), np.zeros(len(records), np.int64)
    begin = found = 0
    parts, samples = [], []
    store = store_of(config, work)
    # The smallest hashes: where data grow by a hundredth, so much of the sample changes.
    for folder in print_shards(modality, config, paths.clean, work, execution, chosen[:SYNTHETIC]):
        lengths = np.load(folder / LENGTHS)
        mine = np.flatnonzero(wanted[begin : begin + len(lengths)])
        size[begin + mine], place[begin + mine] = lengths[mine], found + np.arange(len(mine))
        begin, found = begin + len(lengths), found + len(mine)
        prints = take(load(folder), mine) if len(mine) < len(lengths) else load(folder)
        if isinstance(prints, Sets):
            store.add(prints.hashes, np.diff(prints.ptr))
        elif len(mine):
            parts.append(Vectors(np.array(prints.vectors), np.array(prints.details)))
        if (folder / SAMPLE).exists():
            samples.append(pd.read_feather(folder / SAMPLE))
        shutil.rmtree(folder)
    # Exact copies have the content, and so the size, of the one that was read.
    read = chosen[records["unique"].cumsum().to_numpy() - 1]
    records["size"], records["place"] = size[read], place[read]
    records = records.sort_values(["rank", "size", "sha256"], ascending=[True, False, True], ignore_index=True)
    order = records["place"][records["unique"]].to_numpy()
    sample = pd.concat(samples).sort_values("sha256", ignore_index=True)
    return records.drop(columns=["number", "place"]), join(parts) if parts else store, order, sample


def _settled(
    prints: Fingerprints | SetStore,
    order: np.ndarray,
    rule: Rule,
    unique: "pd.DataFrame",
    config: Dedup,
    paths: DatasetPaths,
    verdicts: Verdicts | None,
) -> Found:
    """Which of the unique records are removed, and the record kept in place of each."""
    engine = engine_of(config)
    if not config.embeddings.source:
        kept = keep(prints, rule, order, engine, verdicts)
        return Found(kept, np.zeros(len(kept.keeper), np.uint8), np.zeros(len(kept.pairs.first), np.uint8))
    where = f"datasets.{paths.key}.dedup.embeddings"
    vectors = embeddings.read(config.embeddings, paths.root, unique["id"], where)
    marks = digests(prints) if verdicts and isinstance(prints, Vectors) and prints.details.size else None
    return embeddings.settle(
        lambda rows: keep(prints, rule, order[rows], engine, verdicts, marks), vectors, config.embeddings.threshold
    )


def _tables(records: "pd.DataFrame", unique: "pd.DataFrame", found: Found) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(duplicates, pairs), both sorted."""
    import pandas as pd

    kept = found.kept
    names, splits = unique["id"].to_numpy(object), unique["split"].to_numpy(object)
    # By content: the record kept in its place, and their similarity.
    content = pd.Index(unique["sha256"]).get_indexer(records["sha256"])
    keeper, ids, parts = kept.keeper[content], records["id"].to_numpy(object), records["split"].to_numpy(object)
    gone, pairs = [], []
    for row in np.flatnonzero(names[keeper] != ids):
        first, stays = content[row], keeper[row]
        method = "exact" if stays == first else METHODS[found.keeper_method[first]]
        name, split, kept_id, kept_split = ids[row], parts[row], names[stays], splits[stays]
        gone.append((name, kept_id, kept.score[first], method, split, kept_split))
        pairs.append((kept_id, name, kept.score[first], method, kept_split, split))
        if ids[row] != names[first] and stays != first:
            pairs.append((names[first], name, 1.0, "exact", splits[first], split))
    a, b = kept.pairs.second, kept.pairs.first
    near = zip(names[a], names[b], kept.pairs.score, METHODS[found.pair_method], splits[a], splits[b], strict=True)
    columns = ["removed_id", "kept_id", "score", "method", "removed_split", "kept_split"]
    duplicates = pd.DataFrame(gone, columns=columns).astype({name: "str" for name in columns if name != "score"})
    columns = ["id_a", "id_b", "score", "method", "split_a", "split_b"]
    every = pd.DataFrame([*pairs, *near], columns=columns).astype({name: "str" for name in columns if name != "score"})
    every = every.drop_duplicates(["id_a", "id_b", "method"])
    duplicates["score"], every["score"] = duplicates["score"].astype("float64"), every["score"].astype("float64")
    return duplicates.sort_values("removed_id", ignore_index=True), every.sort_values(
        ["id_a", "id_b", "method"], ignore_index=True
    )


def _publish(
    paths: DatasetPaths, records: "pd.DataFrame", duplicates: "pd.DataFrame", pairs: "pd.DataFrame", rule: Rule
) -> None:
    kept = records[records["kept"]].sort_values(["sha256", "id"], ignore_index=True)
    assert set(duplicates["kept_id"]) <= set(kept["id"]), "a keeper is not kept"
    with publish_folder(paths.unique) as folder:
        write_table(folder / "ids.parquet", kept[["id", "sha256", "split"]])
        rule.write(folder)
    with publish_folder(paths.copies) as folder:
        write_table(folder / "duplicates.parquet", duplicates)
        write_table(folder / "pairs.parquet", pairs)
