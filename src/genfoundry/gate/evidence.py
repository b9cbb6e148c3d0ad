"""Evidence for the gate: samples and NLLs of both models under one reference, one protocol and the same seeds.

Each model draws with its own generator: sampler and temperature are part of what is judged. The number of samples,
seeds, lengths and prompts are those of one model's section for all.
Evidence is cached by content under ``mlruns/gate/work`` of the state root; results of the workspace's own pipeline are
reused where they are current. A model whose tokenizer is not the dataset's reads the held-out texts through its
own.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.code import Sources
from genfoundry.config.dag import digests, find
from genfoundry.config.params import Settings, model_section
from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.sampling import Sampling, combined
from genfoundry.config.specs import SPEC, GridSpec, TokenSpec, read_spec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import MANIFEST, digest_of, file_digest, folder_digest, publish_folder, read_records
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.evidence import CATALOGUE, Evidence, Place
from genfoundry.evaluation.extraction.extract import write_features
from genfoundry.gate.subjects import Subject
from genfoundry.generation.sampling import write_samples
from genfoundry.modalities.common.tokens import FILE as TOKENIZER
from genfoundry.tracking.record import stale_reason
from genfoundry.tracking.runs import NoRun

if TYPE_CHECKING:
    import pandas as pd

JUDGED_ALONE = {"metrics", "skip", "slices", "batch"}
"""Settings of ``evaluation`` that change no sample and no NLL."""


@dataclass(frozen=True)
class Terms:
    """Protocol under which every model of a comparison is measured."""

    root: Path
    tree: Settings
    dataset: DatasetPaths
    like: str
    """Model of params.yaml whose sections say how."""
    protocol: Mapping[str, Any]
    """Fields of ``sampling`` that belong to no model: number, seed, lengths, prompts."""
    evaluation: Evaluation
    execution: Execution
    work: Path
    """Folder of the cache."""

    def facts(self, subject: Subject) -> dict[str, Any]:
        """Cache key: all inputs that change a sample or an NLL of a model."""
        keys = {self.like, subject.key or self.like}
        stages = [find(self.root, f"{stage}@{key}") for key in keys for stage in ("sample", "extract")]
        code = {name for node in stages for name in node.code}
        return {
            "model": subject.digest,
            "generator": dict(subject.generator),
            "protocol": dict(self.protocol),
            "numerics": self.tree.numerics,
            "evaluation": self.evaluation.model_dump(mode="json", exclude=JUDGED_ALONE),
            "arrays": folder_digest(self.dataset.arrays),
            "reference": folder_digest(self.dataset.reference),
            "code": sorted(digests(self.root, code).values()),
        }


@dataclass(frozen=True)
class KeptModel(ModelPaths):
    """Paths of a model measured outside the workspace."""

    source: Path

    @property
    def model(self) -> Path:
        return self.source


@dataclass(frozen=True)
class KeptDataset(DatasetPaths):
    """Paths of a dataset whose arrays were made again for another tokenizer."""

    recoded: Path

    @property
    def arrays(self) -> Path:
        return self.recoded


def measure(subject: Subject, terms: Terms) -> tuple[ModelPaths, DatasetPaths]:
    """Where samples and features of a model lie, made if need be, and the dataset as it reads it.

    Raises:
        DataError: A sample or an NLL of the model is not finite.
        ConfigError: It is made for data of another kind or shape.
    """
    if subject.workspace and _present(subject.key, terms):
        return ModelPaths(terms.root, subject.key), terms.dataset
    folder = terms.work / digest_of(terms.facts(subject))[:32]
    if folder.is_dir():
        os.utime(folder)  # upkeep removes what was not used for long
    paths = KeptModel(folder, subject.key or "model", subject.model)
    dataset = _read_by(subject, terms, folder)
    if not (paths.samples / MANIFEST).is_file():
        where = f"{subject.name}, measured like models.{terms.like}"
        write_samples(combined(subject.family, terms.protocol, subject.generator, where), paths, dataset, NoRun())
    if not (paths.features / MANIFEST).is_file():
        write_features(terms.evaluation, paths, dataset, NoRun(), terms.execution)
    return paths, dataset


def _present(key: str, terms: Terms) -> bool:
    """Whether the workspace's own samples and features are of the present model, made by these very terms."""
    sampling, evaluation = (model_section(terms.tree, key, base) for base in (Sampling, Evaluation))
    told = [section.model_dump(exclude=JUDGED_ALONE) for section in (evaluation, terms.evaluation)]
    if sampling.of_protocol() != terms.protocol or told[0] != told[1]:
        return False
    sources = Sources(terms.root)
    return not any(stale_reason(sources, find(terms.root, f"{stage}@{key}")) for stage in ("sample", "extract"))


def _read_by(subject: Subject, terms: Terms, folder: Path) -> DatasetPaths:
    """The dataset through the model's own tokenizer."""
    spec, own = map(read_spec, (terms.dataset.arrays, subject.model))
    if isinstance(spec, GridSpec) or isinstance(own, GridSpec):
        if spec != own:
            raise ConfigError(f"{subject.name}: made for {own}, the data are {spec}; train it on this data set")
        return terms.dataset
    if file_digest(subject.model / TOKENIZER) == file_digest(terms.dataset.arrays / TOKENIZER):
        return terms.dataset
    paths = KeptDataset(terms.dataset.root, terms.dataset.key, folder / "arrays")
    if not (paths.arrays / MANIFEST).is_file():
        _recode(subject, terms.dataset, paths.arrays)
    return paths


def _recode(subject: Subject, dataset: DatasetPaths, target: Path) -> None:
    """Publish the test documents as the model's tokenizer writes them."""
    from genfoundry.core.io import read_table
    from genfoundry.modalities.common import streams, tokens

    index = read_table(dataset.index / "test.parquet", ["id", "row"]).set_index("id")

    def tables() -> "Iterator[pd.DataFrame]":
        for table in read_records(dataset.clean, ["id", "content"]):
            mine = table.join(index, on="id", how="inner")
            if len(mine):
                yield mine

    with publish_folder(target) as folder:
        for name in (SPEC, TOKENIZER):
            shutil.copyfile(subject.model / name, folder / name)
        shutil.copyfile(dataset.arrays / "test_records.npy", folder / "test_records.npy")
        own = read_spec(folder)
        assert isinstance(own, TokenSpec)
        streams.write_split(tokens.load(folder), own.boundary, tables(), len(index), folder, "test")


def present_records(dataset: DatasetPaths) -> np.ndarray:
    """uint64 (N,): hashes of the test records, in the order of the arrays."""
    file = dataset.arrays / "test_records.npy"
    if not file.is_file():
        raise DataError(f"{file}: no such file; run dvc repro")
    return np.load(file, allow_pickle=False)


class HeldOut(Evidence):
    """The evidence about one model on some of the test records."""

    def __init__(self, paths: ModelPaths, dataset: DatasetPaths, keep: np.ndarray, digest: str) -> None:
        super().__init__(paths, dataset)
        self.keep, self._digest = keep, digest
        self._cut: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if CATALOGUE[name].axis != "test":
            return super().__getitem__(name)
        if name not in self._cut:
            values = super().__getitem__(name)
            # Texts come from tokens, which are already limited to these records.
            self._cut[name] = values if len(values) == self.keep.sum() else self._kept(name, values)
        return self._cut[name]

    def _kept(self, name: str, values: Any) -> Any:
        if len(values) != len(self.keep):
            raise DataError(f"{name}: {len(values)} rows for {len(self.keep)} test records; run dvc repro")
        return (
            values[self.keep] if isinstance(values, np.ndarray) else [values[row] for row in np.flatnonzero(self.keep)]
        )

    def table(self, place: Place, file: str, columns: list[str] | None = None) -> "pd.DataFrame":
        found = super().table(place, file)
        if (place, file) == ("index", "test.parquet"):
            found = found.sort_values("row")[self.keep].reset_index(drop=True)
        return found if columns is None else found[columns]

    def facts(self, names: Iterable[str]) -> dict[str, Any]:
        """The protocol's facts, with the test split limited to the chosen records."""
        found = super().facts(names)
        cut = {"split": "test", "n": int(self.keep.sum()), "digest": self._digest}
        return found | {fact: cut for fact in ("reference", "documents") if fact in found}
