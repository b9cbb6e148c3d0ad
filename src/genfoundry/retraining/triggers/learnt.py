"""Summary of the last retrain's training data, by which the triggers detect new records and drift.

``<state>/mlruns/retraining/learnt/<dataset>``: the hashes of all records for training and validation, and of a sample
of them the fields and features. The sample is that of the lowest hashes, so it is random and the same every time.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from genfoundry.config.specs import GridSpec, read_spec, record_hashes
from genfoundry.core.io import MANIFEST, publish_folder, read_records, read_table, write_table
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.validate.distances import LEFT_OUT
from genfoundry.retraining.triggers.shift import ROWS, profile
from genfoundry.state.journal import home

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 2000
"""Records whose fields and features are kept and compared."""

NETWORK = ("network.json", "network.safetensors")

HELD = ("train", "val")
"""Splits that influence the weights; test records are neither learnt nor counted as new."""


def folder_of(state: Path, dataset: str) -> Path:
    """Where it is kept."""
    return home(state) / "learnt" / dataset


def known(state: Path, dataset: str) -> np.ndarray | None:
    """uint64, sorted: hashes that the last retrain learnt from; None before the first."""
    file = folder_of(state, dataset) / "hashes.npy"
    return np.load(file, allow_pickle=False) if file.is_file() else None


def present(paths: DatasetPaths) -> "pd.DataFrame":
    """id and hash (uint64, of the first 8 bytes of sha256) of the records that would be learnt, by rising hash."""
    table = read_table(paths.splits / "ids.parquet", ["id", "split", "sha256"])
    table = table[table["split"].isin(HELD)]
    return table[["id"]].assign(hash=record_hashes(table["sha256"])).sort_values("hash", ignore_index=True)


def fields(paths: DatasetPaths, ids: "pd.Series") -> "pd.DataFrame":
    """Fields of these records, in their order: what the reader noted, and the length of texts."""
    import pandas as pd

    parts = []
    for table in read_records(paths.clean):  # shard by shard: all contents together may be more than the memory
        mine = table[table["id"].isin(ids)]
        if len(mine) and isinstance(mine["content"].iloc[0], str):
            mine = mine.assign(characters=mine["content"].str.len())
        parts.append(mine.set_index("id").drop(columns=[*LEFT_OUT, "split"], errors="ignore"))
    return pd.concat(parts).loc[ids].reset_index(drop=True) if parts else pd.DataFrame()


def profiles(paths: DatasetPaths, ids: "pd.Series") -> np.ndarray | None:
    """n-gram profiles of texts, float32 (N, WIDTH), in the order of the ids; None if they are no texts."""
    wanted = {name: row for row, name in enumerate(ids)}
    found = np.zeros((len(wanted), len(profile(""))), np.float32)
    for table in read_records(paths.clean, ["id", "content"]):
        for name, content in zip(table["id"], table["content"], strict=True):
            if not isinstance(content, str):
                return None
            if name in wanted:
                found[wanted[name]] = profile(content)
    return found


def is_text(paths: DatasetPaths) -> bool:
    """Whether the records are texts."""
    for table in read_records(paths.clean, ["content"]):
        if len(table):
            return isinstance(table["content"].iloc[0], str)
    return False


def levels(paths: DatasetPaths, hashes: np.ndarray) -> np.ndarray:
    """uint8 (N, C, *shape): encoded grids of the records with these hashes that the arrays hold."""
    return np.concatenate([*_levels(paths, hashes)])


def _levels(paths: DatasetPaths, hashes: np.ndarray) -> Iterator[np.ndarray]:
    for split in HELD:
        rows = np.flatnonzero(np.isin(np.load(paths.arrays / f"{split}_records.npy"), hashes))
        yield np.asarray(np.load(paths.arrays / f"{split}.npy", mmap_mode="r")[rows])


def remember(state: Path, paths: DatasetPaths) -> Path:
    """Store the summary of a finished pipeline's training data, replacing the last one; returns the folder."""
    records = present(paths)
    sample = records.head(SAMPLE)
    with publish_folder(folder_of(state, paths.key)) as folder:
        np.save(folder / "hashes.npy", records["hash"].to_numpy(np.uint64), allow_pickle=False)
        write_table(folder / "fields.parquet", fields(paths, sample["id"]))
        if is_text(paths):
            np.save(folder / "features.npy", profiles(paths, sample["id"].head(ROWS)), allow_pickle=False)
        elif (paths.reference / NETWORK[0]).is_file():
            for name in NETWORK:
                shutil.copyfile(paths.reference / name, folder / name)
            rows = levels(paths, sample["hash"].head(ROWS).to_numpy(np.uint64))
            np.save(folder / "features.npy", embedded(paths.reference, rows), allow_pickle=False)
    return folder_of(state, paths.key)


def embedded(network: Path, rows: np.ndarray) -> np.ndarray:
    """float32 (N, D): features of grids by the network of a folder."""
    # Imported here: only pictures need torch.
    from genfoundry.evaluation.networks.domain import embed, read_network

    return embed(read_network(network), rows)[0]


def fits(network: Path, paths: DatasetPaths) -> bool:
    """Whether that network reads grids as they are encoded now."""
    spec = read_spec(paths.arrays) if (paths.arrays / MANIFEST).is_file() else None
    shape = [spec.channels, *spec.shape] if isinstance(spec, GridSpec) else []
    from genfoundry.evaluation.networks.domain import read_layout

    layout = read_layout(network)
    return [layout.channels, *layout.shape] == shape
