"""The data line in one process, over a source that a test makes: every stage's function, no DVC, no tracking."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from genfoundry.config import params as settings
from genfoundry.config.sections.ingest import Ingest
from genfoundry.config.sections.table import DATASET_SECTIONS
from genfoundry.core import parts
from genfoundry.core.io import read_all_records, read_json, read_table, write_table
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.deduplicate import removal as dedup
from genfoundry.data.encode import encoding
from genfoundry.data.ingest import reading as ingest
from genfoundry.data.ingest.sources import Place, Stream, Unit
from genfoundry.data.preprocess import cleaning
from genfoundry.data.shards.borders import Ends
from genfoundry.data.split import leaks
from genfoundry.modalities.common.tables import Part


def write_shards(folder: Path, tables: list[pd.DataFrame], megabytes: float, records: int = 0) -> int:
    """Record tables as the shards that reading a source makes of them; returns the number of records."""
    modality: Any = SimpleNamespace(read=lambda part, config: ((table, pd.DataFrame()) for table in tables))
    stream = Stream(modality, Ingest(), [Unit(Part(()), "")], Ends(megabytes * 2**20, records))
    stream.seek(Place(0, 0))
    number, last = 0, False
    while not last:
        found, _, last = stream.shard()
        if any(map(len, found)):
            write_table(folder / f"part-{number:05d}.parquet", pd.concat(found, ignore_index=True))
            number += 1
    return stream.place.record


class Line:
    """A dataset under ``root`` with its sections, given by name; sections left out are empty."""

    def __init__(self, root: Path, modality: str, source: Path, **sections: dict[str, Any]) -> None:
        self.paths, self.source = DatasetPaths(root, "data"), source
        self.modality = parts.load("modalities", modality)
        self.sections = {
            name: settings.parse(getattr(self.modality, base.__name__, base), sections.get(name, {}), name)
            for name, base in DATASET_SECTIONS.items()
        }

    def ingest(self) -> "Line":
        ingest.read_source(self.modality, self.source, self.sections["ingest"], self.paths)
        return self

    def preprocess(self) -> "Line":
        cleaning.clean_records(self.modality, self.sections["preprocess"], self.sections["split"], self.paths)
        return self

    def deduplicate(self) -> "Line":
        dedup.drop_copies(self.modality, self.sections["dedup"], self.paths)
        return self

    def split(self) -> "Line":
        sections = (self.sections[name] for name in ("split", "dedup", "preprocess"))
        leaks.guard_splits(self.modality, *sections, self.paths)
        return self

    def encode(self) -> "Line":
        encoding.write_arrays(self.modality, self.sections["encode"], self.paths)
        return self

    def run(self) -> "Line":
        return self.ingest().preprocess().deduplicate().split().encode()

    def records(self) -> pd.DataFrame:
        return read_all_records(self.paths.records)

    def clean(self) -> pd.DataFrame:
        return read_all_records(self.paths.clean)

    def rejected(self, folder: str = "records") -> dict[str, str]:
        """Reason by id of what a stage rejected."""
        table = read_table(getattr(self.paths, folder) / "rejected.parquet")
        return dict(zip(table["id"], table["reason"], strict=True))

    def duplicates(self) -> pd.DataFrame:
        return read_table(self.paths.copies / "duplicates.parquet")

    def report(self, stage: str) -> dict[str, Any]:
        return read_json(self.paths.reports / f"{stage}.json")


def words(generator: np.random.Generator, count: int, vocabulary: int = 5000) -> str:
    """Random words: two such texts share no 5-gram in practice."""
    return " ".join(f"w{number:04d}" for number in generator.integers(0, vocabulary, count))


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def smooth(generator: np.random.Generator, side: int = 32, channels: int = 3) -> np.ndarray:
    """A random picture of large blobs, uint8 (side, side, channels): pictures of two seeds are unlike."""
    coarse = generator.integers(0, 256, (6, 6, channels)).astype(np.uint8)
    image = Image.fromarray(coarse[..., 0] if channels == 1 else coarse).resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(side, side, channels)


def save(path: Path, levels: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(path, **options)
    return path
