"""Small data sets and models as the stages before evaluation leave them, written without running those stages."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genfoundry.config.specs import SPLITS, GridSpec, TokenSpec, read_spec, write_spec
from genfoundry.core import parts
from genfoundry.core.io import publish_folder, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.tracking.runs import NoRun

COUNTS = {"train": 60, "val": 20, "test": 40}


def _index(arrays: Path, folder: Path, split: str, contents: list[bytes], labels: list[str] | None = None) -> None:
    """Which record each row is, and the start of its hash beside the arrays; every third one comes from file ``a``."""
    count, hashes = len(contents), [hashlib.sha256(content).hexdigest() for content in contents]
    table = {"row": range(count), "id": [f"{split}/{row}" for row in range(count)], "sha256": hashes}
    table |= {"label": labels or pd.array([None] * count, "string"), "source": ["abb"[row % 3] for row in range(count)]}
    write_table(folder / f"{split}.parquet", pd.DataFrame(table))
    np.save(arrays / f"{split}_records.npy", np.array([int(digest[:16], 16) for digest in hashes], np.uint64))


def write_tokenizer(folder: Path, key: str, vocab_size: int) -> None:
    """A real tokenizer whose words are the numbers of their tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {str(token): token for token in range(vocab_size)}
    tokenizer = Tokenizer(models.WordLevel(vocab | {key: vocab_size}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))


def stripes(count: int, seed: int, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Noisy 8 x 8 pictures, bright in the rows of their class: uint8 (N, 1, 8, 8) and int64 (N,)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    levels = generator.integers(0, 120, (count, 1, 8, 8))
    for row, label in enumerate(labels):
        levels[row, :, label::classes] += 100
    return levels.astype(np.uint8), labels.astype(np.int64)


def write_images(
    root: Path, key: str = "stripes", labelled: bool = True, counts: dict[str, int] = COUNTS
) -> DatasetPaths:
    """Arrays and index of a data set of stripes."""
    paths = DatasetPaths(root, key)
    spec = GridSpec(channels=1, shape=(8, 8), labels=("even", "odd") if labelled else ())
    with publish_folder(paths.arrays) as folder, publish_folder(paths.index) as index:
        write_spec(folder, spec)
        for seed, split in enumerate(SPLITS):
            levels, labels = stripes(counts[split], seed)
            np.save(folder / f"{split}.npy", levels)
            if labelled:
                np.save(folder / f"{split}_labels.npy", labels)
            names = [spec.labels[label] for label in labels] if labelled else None
            _index(folder, index, split, [row.tobytes() for row in levels], names)
    return paths


def write_token_arrays(folder: Path, split: str, documents: list[list[int]]) -> None:
    """The stream, offsets and sizes of one split; token t stands for t + 1 bytes and one word."""
    stream = [token for document in documents for token in [0, *document]]
    np.save(folder / f"{split}_tokens.npy", np.array(stream, np.uint16))
    np.save(folder / f"{split}_offsets.npy", np.cumsum([0, *(len(document) + 1 for document in documents)]))
    sizes = {
        "bytes": [sum(token + 1 for token in document) for document in documents],
        "characters": [len(document) for document in documents],
        "words": [len(document) for document in documents],
    }
    for name, column in sizes.items():
        np.save(folder / f"{split}_{name}.npy", np.array(column, np.int64))


def counting(count: int, seed: int, vocab_size: int = 12) -> list[list[int]]:
    """Documents that mostly count up by one, so that a bigram model knows much: tokens 1 to V-1."""
    generator = np.random.default_rng(seed)
    documents = []
    for _ in range(count):
        token, document = int(generator.integers(1, vocab_size)), []
        for _ in range(int(generator.integers(3, 40))):
            document.append(token)
            token = token % (vocab_size - 1) + 1 if generator.random() < 0.9 else int(generator.integers(1, vocab_size))
        documents.append(document)
    return documents


def write_texts(
    root: Path,
    key: str = "counting",
    counts: dict[str, int] = COUNTS,
    vocab_size: int = 12,
    labels: tuple[str, ...] = (),
) -> DatasetPaths:
    """Arrays and index of a data set of token documents, whose labels come in turn."""
    paths = DatasetPaths(root, key)
    with publish_folder(paths.arrays) as folder, publish_folder(paths.index) as index:
        write_spec(folder, TokenSpec(vocab_size=vocab_size, labels=labels))
        write_tokenizer(folder, key, vocab_size)
        for seed, split in enumerate(SPLITS):
            documents = counting(counts[split], seed, vocab_size)
            write_token_arrays(folder, split, documents)
            names = [labels[row % len(labels)] for row in range(len(documents))] if labels else None
            if names:
                np.save(folder / f"{split}_labels.npy", np.arange(len(documents)) % len(labels))
            _index(folder, index, split, [bytes(document) for document in documents], names)
    return paths


def _sample_index(folder: Path, paths: ModelPaths, contents: list[bytes], labels: list[str] | None = None) -> None:
    count = len(contents)
    index = {"row": range(count), "id": [f"{paths.key}/{row}" for row in range(count)], "seed": range(count)}
    index |= {"label": labels or pd.array([None] * count, "string")}
    index |= {"sha256": [hashlib.sha256(content).hexdigest() for content in contents]}
    write_table(folder / "index.parquet", pd.DataFrame(index))


def write_image_samples(paths: ModelPaths, levels: np.ndarray, seed: int = 0, labels: list[str] | None = None) -> None:
    """``samples/`` of an image model."""
    with publish_folder(paths.samples) as folder:
        np.save(folder / "samples.npy", levels)
        _sample_index(folder, paths, [row.tobytes() for row in levels], labels)
        write_json(folder / "protocol.json", {"n": len(levels), "seed": seed})


def write_text_samples(paths: ModelPaths, samples: list[list[int]], **protocol: Any) -> None:
    """``samples/`` of a token model."""
    with publish_folder(paths.samples) as folder:
        rows = [
            {"id": f"{paths.key}/{row}", "seed": row, "text": " ".join(map(str, tokens)), "tokens": tokens}
            for row, tokens in enumerate(samples)
        ]
        (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        _sample_index(folder, paths, [" ".join(map(str, tokens)).encode() for tokens in samples])
        write_json(folder / "protocol.json", {"n": len(samples), "seed": 0, "temperature": 1.0, **protocol})


class Told(NoRun):
    """Keeps what a stage tells its run."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        assert value > 0
        self.names.append(name)


def write_untrained(
    paths: ModelPaths, dataset: DatasetPaths, family: str, noise: float = 0.0, **options: int | float
) -> None:
    """``model/`` of a family as it is before its first step, with noise on its weights.

    Many start at zero, where neither seeds nor settings of the generator show.
    """
    import torch

    from genfoundry.generation.modelfile import build, write_model

    spec = read_spec(dataset.arrays)
    config = parts.load("models", family).Config(**options)
    state = build(family, config, spec, 0).state_dict()
    for tensor in state.values():
        tensor += noise * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel()))
    with publish_folder(paths.model) as folder:
        write_model(folder, state, family, config, dataset.arrays)
