"""Stage sample: draw a model's samples and publish them with their index, protocol and report."""

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from genfoundry.config.sections.sampling import Sampling
from genfoundry.core.errors import DataError
from genfoundry.core.io import canonical_json, file_digest, publish_folder, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.core.progress import progress
from genfoundry.generation.generator import Generator, seeds_of
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.generation.prompts import FOLDER, prompt_file, read_prompts
from genfoundry.modalities.common.lookup import media_of
from genfoundry.nn.decoding import TextSampling
from genfoundry.tracking.runs import NoRun, Run

if TYPE_CHECKING:
    import pandas as pd


def write_samples(
    sampling: Sampling,
    paths: ModelPaths,
    dataset: DatasetPaths,
    run: Run | NoRun,
    also: Callable[[LoadedModel, Path, Path, Path], None] = lambda *folders: None,
) -> None:
    """Publish ``samples/`` with its index and protocol, the report of the first ones, and ``sample.json``.

    Args:
        sampling: How to draw.
        paths: The model's.
        dataset: The model's data set.
        run: Gets the throughput.
        also: Called with the loaded model, the arrays and the folders of samples and report, not yet published.
    """
    generator = Generator.load(paths.model, sampling.model_dump(mode="json"))
    prompts = read_prompts(sampling, dataset.root / FOLDER) if isinstance(sampling, TextSampling) else []
    media = media_of(generator.loaded.spec)
    count = sampling.n or media.usual or len(np.load(dataset.arrays / "test_records.npy", mmap_mode="r"))
    seeds = seeds_of(sampling.seed, count)
    started = time.monotonic()
    with progress(count, f"sampling {paths.key}") as bar:
        drawn = generator.draw(seeds, prompts=prompts, advance=bar.advance)
    run.metric("samples_per_second", count / (time.monotonic() - started))
    samples = media.decoded(drawn)
    loaded = generator.loaded
    heeded = {name: one.in_turn(count) for name, one in loaded.spec.asked.items() if name in loaded.model.heeds}
    index = _index(paths.key, seeds, heeded, media.contents(samples))
    tokens = [] if isinstance(drawn, Tensor) else [found.tokens for found in drawn]
    with publish_folder(paths.samples) as folder, publish_folder(paths.reports / "samples") as report:
        media.write(folder, samples, _facts(index, heeded, prompts, tokens))
        write_table(folder / "index.parquet", index)
        (folder / "protocol.json").write_bytes(canonical_json(protocol(sampling, count, dataset.root / FOLDER)))
        media.report(report, samples)
        also(loaded, dataset.arrays, folder, report)
    lengths = [len(found) for found in tokens]
    extra = {"mean_tokens": sum(lengths) / count, "empty": lengths.count(0)} if lengths else {}
    write_json(paths.reports / "sample.json", {"samples": count, "different": len(set(index["sha256"])), **extra})
    if lengths and lengths.count(0) == count:
        raise DataError(f"sample@{paths.key}: all {count} samples are empty; look at the loss curve, train longer")


def _facts(
    index: "pd.DataFrame", heeded: Mapping[str, list[Any]], prompts: list[str], tokens: list[list[int]]
) -> list[dict[str, Any]]:
    """Of each sample: id, seed and, as far as there are any, its conditions, its prompt and its tokens."""
    rows = []
    for row, (name, seed) in enumerate(zip(index["id"], index["seed"], strict=True)):
        given = {what: values[row] for what, values in heeded.items()}
        given |= {"prompt": prompts[row % len(prompts)]} if prompts else {}
        rows.append({"id": name, "seed": int(seed), **given, **({"tokens": tokens[row]} if tokens else {})})
    return rows


def _index(key: str, seeds_B: Tensor, heeded: Mapping[str, list[Any]], contents: list[bytes]) -> "pd.DataFrame":
    """Row, id, seed, label, content hash and further conditions of each sample, as far as the model heeds them."""
    import pandas as pd

    count = len(contents)
    labels = heeded.get("label")
    return pd.DataFrame(
        {
            "row": range(count),
            "id": [f"{key}/{number:06d}" for number in range(count)],
            "seed": seeds_B.tolist(),
            "label": pd.array([None] * count, "string") if labels is None else labels,
            "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
            **{name: values for name, values in heeded.items() if name != "label"},
        }
    )


def protocol(sampling: Sampling, count: int, prompts: Path) -> dict[str, Any]:
    """How the samples were drawn, as far as it is not part of the model; devices move no score."""
    facts = sampling.of_protocol() | {"n": count}
    if isinstance(sampling, TextSampling) and sampling.prompt_file:
        facts["prompt_file_sha256"] = file_digest(prompt_file(sampling, prompts))
    return facts
