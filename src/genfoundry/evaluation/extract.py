"""What scores are computed from: features of the samples, nats of the held-out documents, each with its record's id."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.errors import DataError
from genfoundry.evaluation import network
from genfoundry.evaluation.documents import read_documents
from genfoundry.evaluation.likelihood import START_RULE, plan, price, windows
from genfoundry.io import canonical_json, file_digest, publish_folder, read_table, write_json, write_table
from genfoundry.modelfile import TOKENIZER, LoadedModel, default_device, load_model
from genfoundry.nn.contract import Likelihood
from genfoundry.paths import DatasetPaths, ModelPaths
from genfoundry.progress import progress
from genfoundry.settings import Evaluation
from genfoundry.specs import GridSpec
from genfoundry.tracking.runs import NoRun, Run


def write_features(config: Evaluation, paths: ModelPaths, dataset: DatasetPaths, run: Run | NoRun) -> None:
    """Publish ``features/`` and ``extract.json``."""
    loaded = load_model(paths.model, default_device())
    with publish_folder(paths.features) as folder:
        if isinstance(loaded.spec, GridSpec):
            numbers = _grids(folder, paths, dataset, run)
        else:
            numbers = _documents(folder, loaded, config, paths, dataset, run)
    write_json(paths.reports / "extract.json", numbers)


def _grids(folder: Path, paths: ModelPaths, dataset: DatasetPaths, run: Run | NoRun) -> dict[str, Any]:
    levels = np.load(paths.samples / "samples.npy", mmap_mode="r")
    index = read_table(paths.samples / "index.parquet", ["row", "id", "sha256"])
    _same_count(len(levels), len(index), paths.samples)
    judge = network.load(dataset.reference)
    started = time.monotonic()
    features, logits = network.embed(judge, levels, "samples")
    run.metric("images_per_second", len(levels) / (time.monotonic() - started))
    np.save(folder / "features.npy", features)
    if logits is not None:
        np.save(folder / "logits.npy", logits)
    write_table(folder / "index.parquet", index)
    write_protocol(folder, network=judge.layout.identity)
    return {"samples": len(levels), "features": features.shape[1]}


def _documents(
    folder: Path, loaded: LoadedModel, config: Evaluation, paths: ModelPaths, dataset: DatasetPaths, run: Run | NoRun
) -> dict[str, Any]:
    model = loaded.model
    if not isinstance(model, Likelihood):
        write_protocol(folder)
        return {"documents": 0}
    if file_digest(paths.model / TOKENIZER) != file_digest(dataset.arrays / TOKENIZER):
        raise DataError(f"{paths.model}: its tokenizer is not that of {dataset.arrays}; train it on this data set")
    documents = read_documents(dataset.arrays, "test")
    index = read_table(dataset.index / "test.parquet", ["row", "id", "sha256"])
    tokens = documents.token_counts
    _same_count(len(tokens), len(index), dataset.index)
    chosen = plan(config, model.context, f"models.{paths.key}.evaluation")
    started = time.monotonic()
    with progress(int(tokens.sum()), f"held-out tokens priced by {paths.key}") as bar:
        nats = price(model, documents, chosen, config.batch, default_device(), bar.advance)
    run.metric("tokens_per_second", float(tokens.sum()) / (time.monotonic() - started))
    columns = {"nats": nats, "tokens": tokens, "bytes": documents.bytes}
    columns |= {name: np.load(dataset.arrays / f"test_{name}.npy") for name in ("characters", "words")}
    write_table(folder / "nats.parquet", index.assign(**columns))
    write_protocol(folder, likelihood={**chosen._asdict(), "start": START_RULE})
    counts = {"documents": len(tokens), "tokens": int(tokens.sum()), "windows": len(list(windows(tokens, chosen)))}
    return counts | chosen._asdict()


def _same_count(rows: int, ids: int, folder: Path) -> None:
    if rows != ids:
        raise DataError(f"{folder}: {rows} rows, but {ids} ids; remove the folder and run dvc repro")


def write_protocol(folder: Path, **facts: dict[str, Any]) -> None:
    """Write ``protocol.json``: how the numbers of this folder were made, as far as it moves a score."""
    (folder / "protocol.json").write_bytes(canonical_json(facts))
