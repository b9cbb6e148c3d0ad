"""Stage sample: a model's samples, published with the index, protocol and report of them."""

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from genfoundry.config.sections.sampling import Sampling
from genfoundry.core.errors import DataError
from genfoundry.core.io import canonical_json, file_digest, publish_folder, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.core.progress import progress
from genfoundry.generation.generator import Generator, Text, labels_of, seeds_of
from genfoundry.generation.modelfile import LoadedModel
from genfoundry.generation.postprocess import write_sample_report
from genfoundry.generation.prompts import FOLDER, prompt_file, read_prompts
from genfoundry.nn.decoding import TextSampling
from genfoundry.tracking.runs import NoRun, Run

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_TEXTS = 64
"""Text samples where the settings name no number."""

SHOWN, SHOWN_TEXTS = 100, 8
"""Samples in the report of a grid and of a text model."""


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
    count = sampling.n or _default_count(generator, dataset)
    seeds = seeds_of(sampling.seed, count)
    started = time.monotonic()
    with progress(count, f"sampling {paths.key}") as bar:
        drawn = generator.draw(seeds, prompts=prompts, advance=bar.advance)
    run.metric("samples_per_second", count / (time.monotonic() - started))
    grids = isinstance(drawn, Tensor)
    contents = [row.numpy().tobytes() if isinstance(row, Tensor) else row.text.encode() for row in drawn]
    index = _index(paths.key, seeds, generator.loaded, contents)
    with publish_folder(paths.samples) as folder, publish_folder(paths.reports / "samples") as report:
        if isinstance(drawn, Tensor):
            np.save(folder / "samples.npy", drawn.numpy(), allow_pickle=False)
        else:
            (folder / "samples.jsonl").write_text(_lines(index, drawn, prompts), encoding="utf-8", newline="\n")
        write_table(folder / "index.parquet", index)
        (folder / "protocol.json").write_bytes(canonical_json(protocol(sampling, count, dataset.root / FOLDER)))
        shown = drawn[:SHOWN] if isinstance(drawn, Tensor) else [text.text for text in drawn]
        write_sample_report(report, shown, SHOWN if grids else SHOWN_TEXTS)
        also(generator.loaded, dataset.arrays, folder, report)
    lengths = [] if isinstance(drawn, Tensor) else [len(text.tokens) for text in drawn]
    extra = {"mean_tokens": sum(lengths) / count, "empty": lengths.count(0)} if lengths else {}
    write_json(paths.reports / "sample.json", {"samples": count, "different": len(set(index["sha256"])), **extra})
    if lengths and lengths.count(0) == count:
        raise DataError(f"sample@{paths.key}: all {count} samples are empty; look at the loss curve, train longer")


def _default_count(generator: Generator, dataset: DatasetPaths) -> int:
    if generator.loaded.spec.kind == "token":
        return DEFAULT_TEXTS
    return len(np.load(dataset.arrays / "test.npy", mmap_mode="r"))


def _lines(index: "pd.DataFrame", texts: list[Text], prompts: list[str]) -> str:
    """JSON lines with id, seed, prompt (if any are set), text and tokens of each sample."""
    lines = []
    for row, found in enumerate(texts):
        given = {"prompt": prompts[row % len(prompts)]} if prompts else {}
        line = {"id": index["id"][row], "seed": int(index["seed"][row]), **given, **found._asdict()}
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def _index(key: str, seeds_B: Tensor, loaded: LoadedModel, contents: list[bytes]) -> "pd.DataFrame":
    """Row, id, seed, label and content hash of each sample."""
    import pandas as pd

    count = len(contents)
    labels = labels_of(loaded.spec, count) if loaded.model.num_classes else None
    names = [None] * count if labels is None else [loaded.spec.labels[label] for label in labels]
    return pd.DataFrame(
        {
            "row": range(count),
            "id": [f"{key}/{number:06d}" for number in range(count)],
            "seed": seeds_B.tolist(),
            "label": pd.array(names, "string") if labels is None else names,
            "sha256": [hashlib.sha256(content).hexdigest() for content in contents],
        }
    )


def protocol(sampling: Sampling, count: int, prompts: Path) -> dict[str, Any]:
    """How the samples were drawn, as far as it is not part of the model; devices move no score."""
    told = sampling.of_protocol() | {"n": count}
    if isinstance(sampling, TextSampling) and sampling.prompt_file:
        told["prompt_file_sha256"] = file_digest(prompt_file(sampling, prompts))
    return told
