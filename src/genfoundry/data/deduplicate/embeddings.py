"""Copies by embeddings that a user gives: read with care, searched exactly, joined with what the modality finds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genfoundry.config.sections.dedup import Embeddings
from genfoundry.config.specs import Vectors
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.data.similarity.keepers import Kept, Rule, keep
from genfoundry.data.similarity.setjoin import Matches
from genfoundry.data.similarity.vectorjoin import Index
from genfoundry.modalities.common.values import Odd, canonical

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FOLDER = "presets/embeddings"
"""Where embeddings lie: a dependency of every deduplicate stage."""

ROWS = 4096
"""Rows of a Parquet file held at once."""

METHODS = np.array(["near", "embedding"], object)
"""Method that matched a pair: the modality's own fingerprints, or the embeddings."""


class Found(NamedTuple):
    """The outcome of both searches, by place in the order of priority."""

    kept: Kept
    keeper_method: np.ndarray
    """uint8 (N,): place in ``METHODS`` of the pair of a row and its keeper."""
    pair_method: np.ndarray
    """uint8 (P,): that of each of ``kept.pairs``."""


def read(config: Embeddings, root: Path, ids: "pd.Series", where: str) -> np.ndarray:
    """Unit vectors of some records, float32 (N, D), in their order.

    Args:
        config: The file and its columns.
        root: The workspace.
        ids: The records.
        where: The setting, for messages.

    Raises:
        ConfigError: There is no such file, or of no kind that is read.
        DataError: A record has no vector or two, a vector is not finite, is zero, or is not as long as the others.
    """
    import pandas as pd

    folder = (root / FOLDER).resolve()
    path = (folder / config.source).resolve()
    if not path.is_relative_to(folder) or not path.is_file():
        raise ConfigError(
            f"params.yaml: '{where}.source' is {config.source!r}: no such file below {FOLDER}; put it there"
        )
    tables = {".parquet": _parquet, ".npz": _arrays}.get(path.suffix)
    if tables is None:
        raise ConfigError(f"params.yaml: '{where}.source' is {config.source!r}; needs a .parquet or .npz file")
    place = pd.Index(ids)
    found: np.ndarray | None = None
    seen = np.zeros(len(place), bool)
    for names, values in tables(path, config):
        names = np.array([one if isinstance(one, str) and one in place else _id(path, one) for one in names], object)
        row = place.get_indexer(names)
        mine = row >= 0
        names, values, row = names[mine], values[mine], row[mine]
        if not len(row):
            continue
        if found is None:
            found = np.empty((len(place), values.shape[1]), np.float32)
        if values.shape[1] != found.shape[1]:
            raise DataError(
                f"{path}: {names[0]} has {values.shape[1]} numbers, others {found.shape[1]}; embed all alike"
            )
        again = seen[row] | pd.Series(row).duplicated().to_numpy()
        _refuse(path, names[again], "have two embeddings; keep one of each")
        _refuse(path, names[~np.isfinite(values).all(axis=1)], "hold NaN or infinity; embed them again")
        # By the largest number first: squares of small ones are zero, those of large ones infinite.
        largest = np.abs(values).max(axis=1, initial=0)
        _refuse(path, names[largest == 0], "are zero, which has no direction; embed them again, or leave them out")
        scaled = values / largest[:, None]
        found[row] = scaled / np.sqrt((scaled**2).sum(axis=1))[:, None]
        seen[row] = True
    _refuse(path, np.asarray(ids, object)[~seen], "are not there; every record that is deduplicated needs one")
    assert found is not None
    return found


def _id(path: Path, value: object) -> str | None:
    """An id as ingest writes it: 7 of 7.0."""
    try:
        return canonical(value)
    except Odd as error:
        raise DataError(f"{path}: an id that names no record ({': '.join(error.args)}); write ids as text") from None


def _refuse(path: Path, names: np.ndarray, what: str) -> None:
    if len(names):
        raise DataError(f"{path}: {len(names)} embeddings {what}: {', '.join(map(str, names[:5]))}")


def _parquet(path: Path, config: Embeddings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [config.id_column, config.column]
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                raise DataError(
                    f"{path}: no column {', '.join(missing)}; it has {', '.join(file.schema_arrow.names[:20])}"
                )
            kind = file.schema_arrow.field(config.column).type
            if not hasattr(kind, "value_type") or not (
                pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
            ):
                raise DataError(f"{path}: column {config.column} holds {kind}; needs lists of numbers")
            for batch in file.iter_batches(batch_size=ROWS, columns=columns):
                names = np.array(batch.column(config.id_column).to_pylist(), object)
                yield names, _rectangle(path, names, batch.column(config.column))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: can't be read as Parquet ({str(error)[:200]}); write the file again") from None


def _rectangle(path: Path, names: np.ndarray, column: "pa.Array") -> np.ndarray:
    """float64 (N, D) of lists of numbers."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    usual = int(np.bincount(lengths).argmax()) if len(lengths) else 0
    odd = names[(lengths != usual) | (lengths == 0)]
    _refuse(path, odd, f"have not the {usual} numbers that others have; embed all alike")
    values = pc.list_flatten(column).to_numpy(zero_copy_only=False).astype(np.float64)
    return values.reshape(len(lengths), usual)


def _arrays(path: Path, config: Embeddings) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if missing := [name for name in ("ids", "embeddings") if name not in file.files]:
                raise DataError(f"{path}: no array {', '.join(missing)}; it has {', '.join(file.files[:20])}")
            names, values = file["ids"].astype(object), file["embeddings"]
    except (ValueError, OSError) as error:
        raise DataError(
            f"{path}: can't be read ({str(error)[:200]}); write it by numpy.savez, without objects"
        ) from None
    if values.ndim != 2 or values.shape[1] == 0 or len(names) != len(values) or values.dtype.kind not in "fiu":
        raise DataError(
            f"{path}: ids {names.shape} and embeddings {values.shape} of {values.dtype}; needs numbers (N, D) and N ids"
        )
    for start in range(0, len(names), ROWS):
        yield names[start : start + ROWS], values[start : start + ROWS].astype(np.float64)


def settle(near: Callable[[np.ndarray], Kept], vectors: np.ndarray, threshold: float) -> Found:
    """Settle all rows by both kinds of similarity; their numbers are their places in the order of priority.

    In rounds: rows are settled by fingerprints, what stays by embeddings. A row whose keepers all went by embeddings is
    compared with what stays by embeddings too, and else gets its turn in the next round. So no two rows that stay
    are similar by either, and every row that goes names one that stays.

    Args:
        near: Settles some rows, given ascending, by their fingerprints; rows of its outcome are places among them.
        vectors: float32 (N, D), unit norm.
        threshold: Least cosine of copies.
    """
    number = len(vectors)
    keeper, score, method = np.arange(number), np.ones(number), np.zeros(number, np.uint8)
    parts: list[Matches] = []
    kinds: list[np.ndarray] = []

    def note(pairs: Matches, kind: int, stays: np.ndarray) -> np.ndarray:
        """Remember pairs; the rows that have found a keeper among those that stay."""
        parts.append(pairs)
        kinds.append(np.full(len(pairs.first), kind, np.uint8))
        pairs = pairs.take(stays[pairs.second])
        best = np.lexsort((pairs.second, -pairs.score, pairs.first))
        rows, place = np.unique(pairs.first[best], return_index=True)
        keeper[rows], score[rows], method[rows] = pairs.second[best][place], pairs.score[best][place], kind
        return rows

    open_rows = np.arange(number)
    while len(open_rows):
        by_prints = _numbered(near(open_rows), open_rows)
        first = open_rows[by_prints.keeper == open_rows]
        by_vectors = _numbered(keep(_vectors(vectors[first]), Rule(threshold, threshold)), first)
        stays = np.zeros(number, bool)
        stays[first[by_vectors.keeper == first]] = True
        settled = [np.flatnonzero(stays), note(by_vectors.pairs, 1, stays), note(by_prints.pairs, 0, stays)]
        orphans = np.setdiff1d(open_rows, np.concatenate(settled))
        against = _between(vectors, orphans, np.flatnonzero(stays), threshold)
        open_rows = np.setdiff1d(orphans, note(against, 1, stays))
    pairs = Matches.of(parts)
    order = np.lexsort((pairs.second, pairs.first))
    kind = np.concatenate([np.empty(0, np.uint8), *kinds])[order]
    return Found(Kept(keeper, score, pairs.take(order)), method, kind)


def _vectors(vectors: np.ndarray) -> Vectors:
    return Vectors(vectors, np.empty((len(vectors), 0, 0, 0), np.uint8))


def _numbered(kept: Kept, rows: np.ndarray) -> Kept:
    """The outcome for some rows, in the numbers of all."""
    pairs = kept.pairs._replace(first=rows[kept.pairs.first], second=rows[kept.pairs.second])
    return kept._replace(keeper=rows[kept.keeper], pairs=pairs)


def _between(vectors: np.ndarray, rows: np.ndarray, others: np.ndarray, threshold: float) -> Matches:
    """Every similar pair (row, other)."""
    both = np.concatenate([rows, others])
    index = Index(_vectors(vectors[both]), threshold, threshold, False)
    index.add(np.arange(len(rows), len(both)))
    found = index.similar(np.arange(len(rows)))
    return found._replace(first=both[found.first], second=both[found.second])
