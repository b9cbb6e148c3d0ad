"""What metrics may ask for, by the names of their parameters.

``CATALOGUE`` names every piece of evidence, the file it lies in and the facts of its protocol. A metric applies to a
model when all that its ``score`` names is there; a new piece of evidence is one more line here.
"""

import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from genfoundry.errors import DataError
from genfoundry.io import digest_of, file_digest, read_json, read_table
from genfoundry.paths import DatasetPaths, ModelPaths

Place = Literal["features", "samples", "reference", "arrays"]


def _column(name: str) -> Callable[[Path], np.ndarray]:
    return lambda file: read_table(file, [name])[name].to_numpy()


def _sample_tokens(file: Path) -> list[list[int]]:
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["tokens"] for line in lines]


def _document_tokens(file: Path) -> list[list[int]]:
    """Tokens of each document without its boundary."""
    tokens = np.load(file)
    offsets = np.load(file.with_name(file.name.replace("_tokens", "_offsets")))
    return [tokens[start + 1 : stop].tolist() for start, stop in itertools.pairwise(offsets)]


class Item(NamedTuple):
    """One piece of evidence."""

    place: Place
    file: str
    read: Callable[[Path], Any]
    facts: tuple[str, ...]
    """Names in ``FACTS``: what must be equal for two scores from it to be comparable."""
    what: str


_FOUND = ("network", "reference")
_LEARNT = ("network", "training")
_DRAWN = ("network", "sampling")
_PRICED = ("documents", "likelihood")
_NATS = "nats.parquet"

CATALOGUE: dict[str, Item] = {
    "features": Item("features", "features.npy", np.load, _DRAWN, "float32 (N, D) of the samples"),
    "logits": Item("features", "logits.npy", np.load, _DRAWN, "float32 (N, K) of the samples"),
    "reference_features": Item("reference", "test_features.npy", np.load, _FOUND, "float32 (M, D) of the test records"),
    "reference_logits": Item("reference", "test_logits.npy", np.load, _FOUND, "float32 (M, K) of the test records"),
    "train_features": Item("reference", "train_features.npy", np.load, _LEARNT, "float32 (L, D) of training records"),
    "train_logits": Item("reference", "train_logits.npy", np.load, _LEARNT, "float32 (L, K) of training records"),
    "nats": Item("features", _NATS, _column("nats"), _PRICED, "float64 (N,): the model's price of each test document"),
    "token_counts": Item("features", _NATS, _column("tokens"), ("documents", "tokenizer"), "int64 (N,): its tokens"),
    "byte_counts": Item("features", _NATS, _column("bytes"), ("documents",), "int64 (N,): its UTF-8 bytes"),
    "character_counts": Item("features", _NATS, _column("characters"), ("documents",), "int64 (N,): its characters"),
    "word_counts": Item("features", _NATS, _column("words"), ("documents",), "int64 (N,): its words"),
    "unigram_nats": Item("reference", "unigram_nats.npy", np.load, ("documents",), "float64 (N,): the unigram's price"),
    "bigram_nats": Item("reference", "bigram_nats.npy", np.load, ("documents",), "float64 (N,): the bigram's price"),
    "sample_tokens": Item(
        "samples", "samples.jsonl", _sample_tokens, ("sampling", "tokenizer"), "token lists of the samples"
    ),
    "reference_tokens": Item(
        "arrays", "test_tokens.npy", _document_tokens, ("reference", "tokenizer"), "token lists of the test documents"
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
        }
        self._read: dict[str, Any] = {}

    def has(self, name: str) -> bool:
        """Whether this kind of data and model has it."""
        item = CATALOGUE[name]
        return (self.folders[item.place] / item.file).is_file()

    def __getitem__(self, name: str) -> Any:
        if name not in self._read:
            item = CATALOGUE[name]
            self._read[name] = item.read(self.folders[item.place] / item.file)
        return self._read[name]

    def facts(self, names: Iterable[str]) -> dict[str, Any]:
        """Facts of the protocol of a score from these pieces of evidence."""
        wanted = sorted({fact for name in names for fact in CATALOGUE[name].facts})
        return {fact: FACTS[fact](self) for fact in wanted}

    def json(self, place: Place, file: str) -> Any:
        return read_json(self.folders[place] / file)


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


def _reference(evidence: Evidence) -> dict[str, Any]:
    records = evidence.folders["reference"] / "records.json"
    if records.is_file():
        return dict(read_json(records)["test"])
    tokens = evidence.folders["arrays"] / "test_tokens.npy"
    return {"split": "test", "n": len(evidence["reference_tokens"]), "digest": file_digest(tokens)}


FACTS: dict[str, Callable[[Evidence], Any]] = {
    "network": _network,
    "sampling": lambda evidence: evidence.json("samples", "protocol.json"),
    "reference": _reference,
    "training": lambda evidence: evidence.json("reference", "records.json")["train"],
    "likelihood": lambda evidence: evidence.json("features", "protocol.json")["likelihood"],
    "documents": _documents,
    "tokenizer": lambda evidence: file_digest(evidence.folders["arrays"] / "tokenizer.json"),
}
