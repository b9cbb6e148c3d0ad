"""Decontamination: withhold training records that match external evaluation sets, such as public benchmarks.

They lie below presets/guards/, which every split stage depends on, in git or by ``dvc add``.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config import params as settings
from genfoundry.config.sections.dedup import Dedup
from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.sections.preprocess import Preprocess
from genfoundry.config.sections.split import Guard
from genfoundry.config.specs import Sets
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.data.similarity.fingerprints import Gathered
from genfoundry.data.similarity.keepers import Fingerprints, Rule, index_of, join, take
from genfoundry.data.similarity.setjoin import Collection, contained

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "presets/guards"
"""Where external evaluation sets lie: a dependency of every split stage."""

ROUNDING = 6
"""Decimals of a share or similarity."""

COLUMNS = {"removed_id": "str", "guard_id": "str", "score": "float64", "method": "str"}
"""Columns of ``removed.parquet``; method: exact, similar or contained."""


class External(NamedTuple):
    """Records of all external evaluation sets, in canonical form."""

    records: "pd.DataFrame"
    """Clean records; ids begin with the set's source and a colon."""
    prints: Fingerprints | None
    """Their fingerprints; None without records."""
    counts: dict[str, dict[str, int]]
    """For each set: records, and those that could not be read or are dropped by the data set's own cleaning."""


def read_guards(
    modality: ModuleType, guards: Sequence[Guard], preprocess: Preprocess, dedup: Dedup, root: Path, key: str
) -> External:
    """Read external evaluation sets as if they were the data set.

    Raises:
        ConfigError: A source does not exist, lies elsewhere, or its settings are wrong.
        DataError: Nothing of a set is readable: it would decontaminate nothing.
    """
    import pandas as pd

    tables, counts = [], {}
    for number, guard in enumerate(guards):
        where = f"datasets.{key}.split.guard[{number}]"
        folder = (root / FOLDER).resolve()
        source = (folder / guard.source).resolve()
        if not source.is_relative_to(folder) or not source.exists():
            raise ConfigError(
                f"params.yaml: '{where}.source' is {guard.source!r}: nothing there below {FOLDER}; put it there"
            )
        kind = getattr(modality, "Ingest", Ingest)
        config = settings.parse(kind, guard.ingest, f"{where}.ingest")
        unread = dropped = kept = 0
        for records, rejected in modality.read(source, config):
            clean, gone = modality.clean(records, preprocess)
            clean["id"] = [f"{guard.source}:{name}" for name in clean["id"]]
            tables.append(clean)
            unread, dropped, kept = unread + len(rejected), dropped + len(gone), kept + len(clean)
        if not kept:
            raise DataError(
                f"{where}: no record of {guard.source} can be used ({unread} unreadable, {dropped} dropped by "
                "preprocess); fix its ingest settings"
            )
        counts[guard.source] = {"records": kept, "unusable": unread + dropped}
    records = pd.concat([table for table in tables if len(table)], ignore_index=True) if tables else pd.DataFrame()
    return External(records, modality.fingerprints(records, dedup) if len(records) else None, counts)


def remove(
    gathered: Gathered, records: "pd.DataFrame", external: External, rule: Rule, share: float
) -> "tuple[np.ndarray, pd.DataFrame]":
    """(training rows that stay, withheld ones: one row for each training record, with the best match)."""
    import pandas as pd

    training, names = gathered.training, records["id"].to_numpy()
    empty = pd.DataFrame(columns=list(COLUMNS)).astype(COLUMNS)
    if external.prints is None or not len(training):
        return training, empty
    guard_names = external.records["id"].to_numpy()
    known = dict(zip(external.records["sha256"][::-1], guard_names[::-1], strict=True))
    digests = records["sha256"].to_numpy()[gathered.record[training]]
    found = [
        (names[gathered.record[row]], known[digest], 1.0, "exact")
        for row, digest in zip(training, digests, strict=True)
        if digest in known
    ]
    search = _sets if isinstance(gathered.prints, Sets) else _vectors
    for row, guard, score, method in search(gathered, rule, share):
        found.append((names[gathered.record[row]], guard_names[gathered.record[guard]], score, method))
    if not found:
        return training, empty
    table = pd.DataFrame(found, columns=list(COLUMNS)).astype(COLUMNS)
    order = {"exact": 0, "similar": 1, "contained": 2}
    table["order"] = table["method"].map(order)
    table = table.sort_values(["removed_id", "order", "score", "guard_id"], ascending=[True, True, False, True])
    table = table.drop_duplicates("removed_id").drop(columns="order").reset_index(drop=True)
    gone = np.isin(names[gathered.record[training]].astype(str), table["removed_id"].to_numpy().astype(str))
    return training[~gone], table


def _sets(gathered: Gathered, rule: Rule, share: float) -> list[tuple[int, int, float, str]]:
    """Similar and contained pairs by one containment search: Jaccard index t implies a share t of the smaller set."""
    least = min(rule.threshold, share)
    found = contained(Collection(gathered.prints), gathered.guards, gathered.training, least)  # type: ignore[arg-type]
    size = gathered.sizes
    common = np.rint(found.score * size[found.first])
    jaccard = common / (size[found.first] + size[found.second] - common)
    rows = []
    for guard, row, held, alike in zip(found.first, found.second, found.score, jaccard, strict=True):
        if alike >= rule.threshold:
            rows.append((int(row), int(guard), round(float(alike), ROUNDING), "similar"))
        elif held >= share:
            rows.append((int(row), int(guard), round(float(held), ROUNDING), "contained"))
    return rows


def _vectors(gathered: Gathered, rule: Rule, share: float) -> list[tuple[int, int, float, str]]:
    chosen = np.concatenate([gathered.guards, gathered.training])
    index = index_of(join([take(gathered.prints, gathered.guards), take(gathered.prints, gathered.training)]), rule)
    number = len(gathered.guards)
    index.add(np.arange(number))
    rows = []
    for start in range(number, len(chosen), 1024):
        found = index.similar(np.arange(start, min(start + 1024, len(chosen))))
        rows += [
            (int(chosen[row]), int(chosen[guard]), round(float(score), ROUNDING), "similar")
            for row, guard, score in zip(found.first, found.second, found.score, strict=True)
        ]
    return rows
