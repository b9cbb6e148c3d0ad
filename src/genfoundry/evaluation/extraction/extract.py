"""Compute the inputs of scores: features of the samples, NLLs of the held-out documents, each with its record's id.

The model and the networks run here, batched, on all devices that the settings name; no score is computed. Batches are
fixed before they are spread over the devices, so numbers don't depend on how many there are.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genfoundry.config.sections.evaluation import Evaluation
from genfoundry.config.sections.execution import Execution
from genfoundry.config.specs import GridSpec, read_spec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import (
    canonical_json,
    file_digest,
    publish_folder,
    read_table,
    write_json,
    write_table,
)
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.core.progress import progress
from genfoundry.evaluation.extraction.documents import read_documents
from genfoundry.evaluation.extraction.embedding import embed_file, reference_networks
from genfoundry.evaluation.extraction.likelihood import RULES, Window, add_up, batches, plan, read, scored, windows
from genfoundry.evaluation.extraction.spread import Places, places, spread
from genfoundry.evaluation.extraction.templates import score_pairs
from genfoundry.evaluation.networks import domain
from genfoundry.generation.modelfile import LoadedModel, load_model
from genfoundry.modalities.common.tokens import FILE as TOKENIZER
from genfoundry.nn.contract import Likelihood
from genfoundry.tracking.runs import NoRun, Run

if TYPE_CHECKING:
    import pandas as pd

AUTOMATIC = Execution()


def write_features(
    config: Evaluation,
    paths: ModelPaths,
    dataset: DatasetPaths,
    run: Run | NoRun,
    execution: Execution = AUTOMATIC,
) -> None:
    """Publish ``features/`` and ``extract.json``; speeds go to the run.

    Args:
        config: Window, stride, batch and templates.
        paths: The model, with its samples.
        dataset: What it was trained on, with its reference.
        run: Gets images or tokens per second.
        execution: Devices and threads.

    Raises:
        ConfigError: Devices, a window or weights that can't be.
        DataError: Samples, documents or a tokenizer that don't belong together, or a model that has diverged.
    """
    at = places(execution)
    with publish_folder(paths.features) as folder:
        if isinstance(read_spec(paths.model), GridSpec):
            numbers = _grids(folder, paths, dataset, run, at)
        else:
            numbers = _documents(folder, config, paths, dataset, run, at)
    write_json(paths.reports / "extract.json", numbers)


def _grids(folder: Path, paths: ModelPaths, dataset: DatasetPaths, run: Run | NoRun, at: Places) -> dict[str, Any]:
    file = paths.samples / "samples.npy"
    levels = np.load(file, mmap_mode="r")
    index = read_table(paths.samples / "index.parquet", ["row", "id", "sha256"])
    _same_count(len(levels), len(index), paths.samples)
    domain.check_levels(domain.read_layout(dataset.reference), levels, "samples")
    own, *others = reference_networks(dataset)
    for used in (own, *others):
        by = f" by {used.name}" if used.prefix else ""
        kept = embed_file(used.name, used.weights, file, at, f"samples{by}")
        run.metric(f"{used.prefix}images_per_second", kept.rows_per_second)
        np.save(folder / f"{used.prefix}features.npy", kept.features)
        if kept.logits is not None:
            np.save(folder / f"{used.prefix}logits.npy", kept.logits)
    write_table(folder / "index.parquet", index)
    identities = {used.name: used.identity for used in others}
    write_protocol(folder, network=own.identity, networks=identities, device={"kind": at.kind})
    return {"samples": len(levels), "features": own.identity["dimension"]}


def _documents(
    folder: Path, config: Evaluation, paths: ModelPaths, dataset: DatasetPaths, run: Run | NoRun, at: Places
) -> dict[str, Any]:
    several = len(at.devices) > 1
    loaded = load_model(paths.model, "cpu" if several else at.devices[0])
    model = loaded.model
    if not isinstance(model, Likelihood):
        write_protocol(folder)
        return {"documents": 0}
    if file_digest(paths.model / TOKENIZER) != file_digest(dataset.arrays / TOKENIZER):
        raise DataError(f"{paths.model}: its tokenizer is not that of {dataset.arrays}; train it on this data set")
    index = read_table(dataset.index / "test.parquet")
    given = _conditions(loaded, index)
    documents = read_documents(dataset.arrays, "test")._replace(conditions=given)
    index = index[["row", "id", "sha256"]]
    tokens = documents.token_counts
    _same_count(len(tokens), len(index), dataset.index)
    chosen = plan(config, model.context, f"models.{paths.key}.evaluation")
    groups = batches(tokens, chosen, config.batch, at.kind)
    here = lambda device: partial(read, model, documents, device)  # noqa: E731 -- where one process is enough
    job = partial(_reader, paths.model, dataset.arrays, given) if several else here
    started = time.monotonic()
    with progress(int(tokens.sum()), f"held-out tokens scored by {paths.key}") as bar:
        nats = add_up(groups, spread(job, groups, at, lambda group: bar.advance(scored(group))), len(tokens))
    run.metric("tokens_per_second", float(tokens.sum()) / (time.monotonic() - started))
    columns = {"nats": nats, "tokens": tokens, "bytes": documents.bytes}
    columns |= {name: np.load(dataset.arrays / f"test_{name}.npy") for name in ("characters", "words")}
    write_table(folder / "nats.parquet", index.assign(**columns))
    # Bits of a text whose label is given are not those of the text alone: such scores have another key.
    how = {**chosen._asdict(), **RULES, **({"given": sorted(given)} if given else {})}
    facts: dict[str, Any] = {"likelihood": how, "device": {"kind": at.kind}}
    if config.templates:
        facts["templates"] = score_pairs(loaded, config, chosen, paths.model, folder)
    write_protocol(folder, **facts)
    counts = {"documents": len(tokens), "tokens": int(tokens.sum()), "windows": len(list(windows(tokens, chosen)))}
    return counts | chosen._asdict()


def _conditions(loaded: LoadedModel, index: "pd.DataFrame") -> dict[str, np.ndarray]:
    """Conditions of the test records that the model heeds, as its own spec has them: (N, ...) by name.

    Raises:
        ConfigError: The records lack one, or have a value that the model does not know.
    """
    found, columns = {}, index.sort_values("row")
    for name in loaded.model.heeds:
        if name not in columns or columns[name].isna().any():
            raise ConfigError(f"extract: the model heeds {name}, which test records lack; train it on this data set")
        try:
            found[name] = loaded.spec.asked[name].of_records(name, list(columns[name]))
        except ConfigError as error:
            raise ConfigError(f"extract: of a test record, {error}; train it on this data set") from None
    return found


def _reader(
    model: Path, arrays: Path, given: Mapping[str, np.ndarray], device: str
) -> Callable[[list[Window]], np.ndarray]:
    """Load the model of a folder; returns a function that computes NLLs of windows of the test documents."""
    model_read: Any = load_model(model, device).model
    return partial(read, model_read, read_documents(arrays, "test")._replace(conditions=given), device)


def _same_count(rows: int, ids: int, folder: Path) -> None:
    if rows != ids:
        raise DataError(f"{folder}: {rows} rows, but {ids} ids; remove the folder and run dvc repro")


def write_protocol(folder: Path, **facts: dict[str, Any]) -> None:
    """Write ``protocol.json``: how the numbers of this folder were made, as far as it moves a score."""
    (folder / "protocol.json").write_bytes(canonical_json(facts))
