"""Evidence that metrics take (features, levels, NLLs, ...), by the names of their parameters.

``CATALOGUE`` names every piece of evidence, the file it lies in and the facts of its protocol. A metric applies to a
model when all that its ``score`` names is there; a new piece of evidence is one more line here.
"""

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from genfoundry.config.specs import DataSpec, read_spec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import digest_of, file_digest, read_json, read_table
from genfoundry.core.parts import nearest
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.evaluation.extraction.documents import read_documents
from genfoundry.evaluation.metrics import Metric
from genfoundry.evaluation.networks import published

if TYPE_CHECKING:
    import pandas as pd

Place = Literal["features", "samples", "reference", "arrays", "index"]
Axis = Literal["sample", "test", "train", "pair"]
"""What a row of the evidence is: a sample, a test record, a training record, a pair of the user's prompt templates."""


def _load(evidence: "Evidence", file: Path) -> np.ndarray:
    return np.asarray(np.load(file))


def _mapped(evidence: "Evidence", file: Path) -> np.ndarray:
    return np.load(file, mmap_mode="r")


def _column(name: str) -> "Reader":
    return lambda evidence, file: read_table(file, [name])[name].to_numpy()


def _sample_rows(name: str) -> "Reader":
    def read(evidence: "Evidence", file: Path) -> list[Any]:
        with file.open(encoding="utf-8") as lines:
            return [json.loads(line)[name] for line in lines]

    return read


def _document_tokens(evidence: "Evidence", file: Path) -> list[list[int]]:
    """Tokens of each document without its boundary."""
    tokens = np.load(file)
    offsets = np.load(file.with_name(file.name.replace("_tokens", "_offsets")))
    return [tokens[start + 1 : stop].tolist() for start, stop in itertools.pairwise(offsets)]


def _document_texts(evidence: "Evidence", file: Path) -> list[str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file.with_name("tokenizer.json")))
    return [str(text) for text in tokenizer.decode_batch(evidence["reference_tokens"])]


def _sample_labels(evidence: "Evidence", file: Path) -> np.ndarray:
    """Numbers of the classes that were asked for."""
    names = list(evidence.spec.labels)
    return np.array([names.index(name) for name in read_table(file, ["label"])["label"]], np.int64)


def _conditional(file: Path) -> bool:
    return file.is_file() and bool(read_table(file, ["label"])["label"].notna().all())


def _pair_nats(evidence: "Evidence", file: Path) -> np.ndarray:
    return read_table(file, ["first_nats", "second_nats"]).to_numpy()


Reader = Callable[["Evidence", Path], Any]


class Item(NamedTuple):
    """One piece of evidence."""

    place: Place
    file: str
    read: Reader
    facts: tuple[str, ...]
    """Names in ``FACTS``: what must be equal for two scores from it to be comparable."""
    what: str
    axis: Axis | None = None
    present: Callable[[Path], bool] = Path.is_file


_FOUND = ("network", "reference")
_LEARNT = ("network", "training")
_DRAWN = ("network", "sampling")
_SCORED = ("documents", "likelihood")
_NATS = "nats.parquet"


def _of_network(name: str) -> dict[str, Item]:
    """Features and logits of a published network, where the reference has them."""
    sides = {
        f"{name}_features": Item("features", f"{name}_features.npy", _load, (name, "sampling"), "", "sample"),
        f"reference_{name}_features": Item(
            "reference", f"{name}/test_features.npy", _load, (name, "reference"), "", "test"
        ),
        f"train_{name}_features": Item(
            "reference", f"{name}/train_features.npy", _load, (name, "training"), "", "train"
        ),
    }
    sides |= {
        f"{name}_logits": Item("features", f"{name}_logits.npy", _load, (name, "sampling"), "", "sample"),
        f"reference_{name}_logits": Item(
            "reference", f"{name}/test_logits.npy", _load, (name, "reference"), "", "test"
        ),
    }
    rows = {"sample": "the samples", "test": "the test records", "train": "training records"}
    for key, item in sides.items():
        wide = "K" if key.endswith("_logits") else "D"
        sides[key] = item._replace(what=f"float32 (N, {wide}) of {rows[str(item.axis)]}")
    return sides


CATALOGUE: dict[str, Item] = {
    "features": Item("features", "features.npy", _load, _DRAWN, "float32 (N, D) of the samples", "sample"),
    "logits": Item("features", "logits.npy", _load, _DRAWN, "float32 (N, K) of the samples", "sample"),
    "sample_levels": Item(
        "samples", "samples.npy", _mapped, ("sampling",), "stored levels (N, C, *shape), drawn", "sample"
    ),
    "sample_labels": Item(
        "samples", "index.parquet", _sample_labels, ("sampling",), "int64 (N,): class asked for", "sample", _conditional
    ),
    "reference_features": Item(
        "reference", "test_features.npy", _load, _FOUND, "float32 (M, D) of the test records", "test"
    ),
    "reference_logits": Item(
        "reference", "test_logits.npy", _load, _FOUND, "float32 (M, K) of the test records", "test"
    ),
    "reference_levels": Item("arrays", "test.npy", _mapped, ("reference",), "stored levels (M, C, *shape)", "test"),
    "reference_labels": Item("arrays", "test_labels.npy", _load, ("reference",), "int64 (M,)", "test"),
    "train_features": Item(
        "reference", "train_features.npy", _load, _LEARNT, "float32 (L, D) of training records", "train"
    ),
    "train_logits": Item(
        "reference", "train_logits.npy", _load, _LEARNT, "float32 (L, K) of training records", "train"
    ),
    "train_levels": Item("arrays", "train.npy", _mapped, ("training",), "stored levels (L, C, *shape)", "train"),
    "train_labels": Item("arrays", "train_labels.npy", _load, ("training",), "int64 (L,)", "train"),
    "nats": Item(
        "features", _NATS, _column("nats"), _SCORED, "float64 (N,): the model's NLL of each test document", "test"
    ),
    "token_counts": Item(
        "features", _NATS, _column("tokens"), ("documents", "tokenizer"), "int64 (N,): its tokens", "test"
    ),
    "byte_counts": Item("features", _NATS, _column("bytes"), ("documents",), "int64 (N,): its UTF-8 bytes", "test"),
    "character_counts": Item(
        "features", _NATS, _column("characters"), ("documents",), "int64 (N,): its characters", "test"
    ),
    "word_counts": Item("features", _NATS, _column("words"), ("documents",), "int64 (N,): its words", "test"),
    "unigram_nats": Item(
        "reference", "unigram_nats.npy", _load, ("documents",), "float64 (N,): the unigram's NLL", "test"
    ),
    "bigram_nats": Item(
        "reference", "bigram_nats.npy", _load, ("documents",), "float64 (N,): the bigram's NLL", "test"
    ),
    "sample_tokens": Item(
        "samples",
        "samples.jsonl",
        _sample_rows("tokens"),
        ("sampling", "tokenizer"),
        "token lists of the samples",
        "sample",
    ),
    "sample_texts": Item(
        "samples", "samples.jsonl", _sample_rows("text"), ("sampling", "tokenizer"), "texts of the samples", "sample"
    ),
    "reference_tokens": Item(
        "arrays",
        "test_tokens.npy",
        _document_tokens,
        ("reference", "tokenizer"),
        "token lists of the test documents",
        "test",
    ),
    "train_tokens": Item(
        "arrays",
        "train_tokens.npy",
        _document_tokens,
        ("training", "tokenizer"),
        "token lists of the training documents",
        "train",
    ),
    "reference_texts": Item(
        "arrays", "test_tokens.npy", _document_texts, ("reference", "tokenizer"), "texts of the test documents", "test"
    ),
    "train_documents": Item(
        "arrays",
        "train_tokens.npy",
        lambda evidence, file: read_documents(file.parent, "train"),
        ("training", "tokenizer"),
        "tokens and offsets of the training documents, end to end",
    ),
    "pair_nats": Item(
        "features", "pairs.parquet", _pair_nats, ("templates", "likelihood"), "float64 (P, 2): both texts", "pair"
    ),
    "pair_template": Item(
        "features", "pairs.parquet", _column("template"), ("templates",), "(P,): the template's text", "pair"
    ),
}


class Evidence:
    """The evidence about one model, read when asked for."""

    def __init__(self, paths: ModelPaths, dataset: DatasetPaths) -> None:
        self.folders: dict[Place, Path] = {
            "features": paths.features,
            "samples": paths.samples,
            "reference": dataset.reference,
            "arrays": dataset.arrays,
            "index": dataset.index,
        }
        self._read: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether this kind of data and model has it."""
        item = CATALOGUE[name]
        return item.present(self.folders[item.place] / item.file)

    def __contains__(self, name: str) -> bool:
        return self.has(name)

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            item = CATALOGUE[name]
            self._read[name] = item.read(self, self.folders[item.place] / item.file)
        return self._read[name]

    def facts(self, names: Iterable[str]) -> dict[str, Any]:
        """Facts of the protocol of a score from these pieces of evidence."""
        wanted = sorted({fact for name in names for fact in CATALOGUE[name].facts})
        return {fact: FACTS[fact](self) for fact in wanted}

    @property
    def spec(self) -> DataSpec:
        return read_spec(self.folders["arrays"])

    def json(self, place: Place, file: str) -> Any:
        return read_json(self.folders[place] / file)

    def table(self, place: Place, file: str, columns: list[str] | None = None) -> "pd.DataFrame":
        return read_table(self.folders[place] / file, columns)


def _network(evidence: Evidence) -> dict[str, Any]:
    used = dict(evidence.json("features", "protocol.json")["network"])
    kept = evidence.json("reference", "network.json")["digest"]
    if used["digest"] != kept:
        raise DataError(
            f"{evidence.folders['features']}: made with feature network {used['digest'][:12]}, the reference is of "
            f"{kept[:12]}; run dvc repro, which extracts them again"
        )
    return used


def _documents(evidence: Evidence) -> dict[str, Any]:
    hashes = read_table(evidence.folders["features"] / "nats.parquet", ["sha256"])["sha256"].tolist()
    return {"split": "test", "n": len(hashes), "digest": digest_of(sorted(hashes))}


def _records(split: str) -> Callable[[Evidence], dict[str, Any]]:
    """The records of a split, by the digest of their array: equal arrays hold equal records in equal order."""

    def found(evidence: Evidence) -> dict[str, Any]:
        arrays = evidence.folders["arrays"]
        grids, offsets = arrays / f"{split}.npy", arrays / f"{split}_offsets.npy"
        if grids.is_file():
            return {"split": split, "n": len(np.load(grids, mmap_mode="r")), "digest": file_digest(grids)}
        count = len(np.load(offsets, mmap_mode="r")) - 1
        return {"split": split, "n": count, "digest": file_digest(arrays / f"{split}_tokens.npy")}

    return found


def _published(name: str) -> Callable[[Evidence], dict[str, Any]]:
    def found(evidence: Evidence) -> dict[str, Any]:
        used = dict(evidence.json("features", "protocol.json")["networks"][name])
        kept = evidence.json("reference", f"{name}/network.json")["digest"]
        if used["digest"] != kept:
            raise DataError(
                f"{evidence.folders['features']}: made with {name} weights {used['digest'][:12]}, the reference with "
                f"{kept[:12]}; run dvc repro, which extracts them again"
            )
        return used

    return found


FACTS: dict[str, Callable[[Evidence], Any]] = {
    "network": _network,
    "sampling": lambda evidence: evidence.json("samples", "protocol.json"),
    "reference": _records("test"),
    "training": _records("train"),
    "likelihood": lambda evidence: evidence.json("features", "protocol.json")["likelihood"],
    "templates": lambda evidence: evidence.json("features", "protocol.json")["templates"],
    "documents": _documents,
    "tokenizer": lambda evidence: file_digest(evidence.folders["arrays"] / "tokenizer.json"),
}

for _name in published():
    if taken := ({_name} & FACTS.keys()) | (_of_network(_name).keys() & CATALOGUE.keys()):
        raise ConfigError(f"evaluation/networks/{_name}.py: {sorted(taken)[0]!r} is taken; rename the file")
    CATALOGUE |= _of_network(_name)
    FACTS[_name] = _published(_name)


def asked_for(metric: Metric) -> tuple[str, ...]:
    """Names of the evidence that a metric's ``score`` takes.

    Raises:
        ConfigError: The catalogue does not hold one of them.
    """
    for name in (*metric.asks, *metric.also):
        if name not in CATALOGUE:
            file, hint = metric.module.__name__.rpartition(".")[2], nearest(name, list(CATALOGUE))
            raise ConfigError(f"metrics/{file}.py: score asks for evidence {name!r}{hint}")
    return metric.asks
