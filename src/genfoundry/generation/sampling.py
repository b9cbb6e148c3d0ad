"""Samples by seed: the same bytes alone and among any others."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import DataSpec, GridSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import canonical_json, file_digest, publish_folder, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.core.progress import progress
from genfoundry.generation.modelfile import TOKENIZER, LoadedModel, default_device, load_model
from genfoundry.generation.postprocess import write_sample_report
from genfoundry.generation.prompts import FOLDER, Ending, prompt_file, read_prompts
from genfoundry.nn.contract import Model, Requests
from genfoundry.nn.decoding import TextSampling
from genfoundry.nn.rows import fixed_rows, one_thread
from genfoundry.tracking.runs import Run

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_TEXTS = 64
"""Text samples where the settings name no number."""

SHOWN, SHOWN_TEXTS = 100, 8
"""Samples in the report of a grid and of a text model."""

SEED_STRIDE = 2**32
"""Sample i of sampling seed s has seed s * 2**32 + i."""


def seeds_of(sampling: Sampling, count: int) -> Tensor:
    """int64 (count,)."""
    return sampling.seed * SEED_STRIDE + torch.arange(count, dtype=torch.int64)


def labels_of(spec: DataSpec, count: int) -> Tensor | None:
    """Labels in turn, for families that heed them: int64 (count,), or None without labels."""
    return torch.arange(count) % len(spec.labels) if spec.labels else None


def draw(
    model: Model,
    spec: DataSpec,
    seeds_B: Tensor,
    options: dict[str, Any],
    batch: int,
    advance: Callable[[int], None] = lambda done: None,
    prompts: Sequence[Sequence[int]] = (),
    stopped: Callable[[Sequence[int]], bool] | None = None,
    labels_B: Tensor | None = None,
) -> Tensor | list[list[int]]:
    """One sample a seed: levels of the spec's storage (B, C, *shape), or token lists.

    Args:
        model: In eval mode.
        spec: Of its data.
        seeds_B: int64 (B,).
        options: The family's ``sampling`` section.
        batch: Rows of every matrix, whatever the number of requests: the bytes of a sample depend on it and on no other
            request.
        advance: Told the number of new samples.
        prompts: Tokens to continue, in turn over the samples; none for new documents.
        stopped: Whether a text needs no more tokens.
        labels_B: int64 (B,); by default ``labels_of``.

    Raises:
        DataError: A sample is not finite.
    """
    labels_B = labels_of(spec, len(seeds_B)) if labels_B is None else labels_B
    device = next(model.parameters()).device
    asked = [prompts[row % len(prompts)] for row in range(len(seeds_B))] if prompts else None
    found: dict[int, Tensor | list[int]] = {}
    with torch.inference_mode(), one_thread():
        # Texts whose prompts are equally long are read together, so that nothing is padded.
        for rows, real in fixed_rows([len(prompt) for prompt in asked] if asked else [0] * len(seeds_B), batch):
            labels = labels_B[rows].to(device) if labels_B is not None else None
            given = [asked[row] for row in rows] if asked else None
            drawn = model.sample(Requests(seeds_B[rows].to(device), labels, given, options, stopped))
            if isinstance(spec, GridSpec):
                assert isinstance(drawn, Tensor)
                drawn = to_levels(drawn, spec)
            found.update(zip(rows[:real], drawn[:real], strict=True))
            advance(real)
    ordered = [found[row] for row in range(len(seeds_B))]
    return torch.stack(ordered) if isinstance(spec, GridSpec) else ordered  # type: ignore[arg-type, return-value]


def draw_loaded(loaded: LoadedModel, seeds_B: Tensor, sampling: Sampling, **more: Any) -> Tensor | list[list[int]]:
    """``draw`` with a loaded model and a ``sampling`` section."""
    return draw(loaded.model, loaded.spec, seeds_B, sampling.model_dump(), sampling.batch, **more)


def to_levels(grid: Tensor, spec: GridSpec) -> Tensor:
    """Values in the spec's range as stored levels of the spec's storage; whole levels are rounded to nearest."""
    if not torch.isfinite(grid).all():
        raise DataError(
            "sample: the model drew NaN or infinite values; look at its loss curve, lower training.optimizer.lr"
        )
    (low, high), (bottom, top) = spec.range, spec.levels
    levels = (grid - low) / (high - low) * (top - bottom) + bottom
    levels = levels if spec.dtype.kind == "f" else levels.round()
    return levels.clamp(bottom, top).to(getattr(torch, spec.storage)).cpu()


def to_range(levels: Tensor, spec: GridSpec) -> Tensor:
    """Stored levels as float32 in the spec's range."""
    (low, high), (bottom, top) = spec.range, spec.levels
    scale = (high - low) / (top - bottom)
    return levels.to(torch.float32) * scale + (low - bottom * scale)


def write_samples(
    sampling: Sampling,
    paths: ModelPaths,
    dataset: DatasetPaths,
    run: Run,
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
    loaded = load_model(paths.model, default_device())
    grid = isinstance(loaded.spec, GridSpec)
    count = sampling.n or (len(np.load(dataset.arrays / "test.npy", mmap_mode="r")) if grid else DEFAULT_TEXTS)
    seeds, prompts = seeds_of(sampling, count), dataset.root / FOLDER
    started = time.monotonic()
    with progress(count, f"sampling {paths.key}") as bar:
        if isinstance(sampling, TextSampling):
            found: Any = _draw_texts(loaded, seeds, sampling, paths.model, prompts, bar.advance)
        else:
            found = draw_loaded(loaded, seeds, sampling, advance=bar.advance)
    run.metric("samples_per_second", count / (time.monotonic() - started))
    contents = [row.numpy().tobytes() if grid else row["text"].encode() for row in found]
    index = _index(paths.key, seeds, loaded, contents)
    with publish_folder(paths.samples) as folder, publish_folder(paths.reports / "samples") as report:
        if grid:
            np.save(folder / "samples.npy", found.numpy(), allow_pickle=False)
        else:
            rows = [{"id": name, **row} for name, row in zip(index["id"], found, strict=True)]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (folder / "samples.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        write_table(folder / "index.parquet", index)
        (folder / "protocol.json").write_bytes(canonical_json(protocol(sampling, count, prompts)))
        shown = found[:SHOWN] if grid else [row["text"] for row in found]
        write_sample_report(report, shown, SHOWN if grid else SHOWN_TEXTS)
        also(loaded, dataset.arrays, folder, report)
    lengths = [] if grid else [len(row["tokens"]) for row in found]
    extra = {"mean_tokens": sum(lengths) / count, "empty": lengths.count(0)} if lengths else {}
    write_json(paths.reports / "sample.json", {"samples": count, "different": len(set(index["sha256"])), **extra})
    if not grid and lengths.count(0) == count:
        raise DataError(f"sample@{paths.key}: all {count} samples are empty; look at the loss curve, train longer")


def _draw_texts(
    loaded: LoadedModel,
    seeds_B: Tensor,
    sampling: TextSampling,
    model: Path,
    folder: Path,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Seed, prompt (if any are set), text and tokens of each sample; text and tokens are without the prompt."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / TOKENIZER))
    prompts = read_prompts(sampling, folder)
    encoded = [found.ids for found in tokenizer.encode_batch(prompts, add_special_tokens=False)]
    ending = Ending(sampling.stop, tokenizer.decode)
    stopped = ending.reached if sampling.stop else None
    drawn = draw_loaded(loaded, seeds_B, sampling, advance=advance, prompts=encoded, stopped=stopped)
    rows = []
    for number, (seed, found) in enumerate(zip(seeds_B.tolist(), drawn, strict=True)):
        tokens, text = ending.cut(found)
        given = {"prompt": prompts[number % len(prompts)]} if prompts else {}
        rows.append({"seed": seed, **given, "text": text, "tokens": tokens})
    return rows


def _index(key: str, seeds_B: Tensor, loaded: LoadedModel, contents: list[bytes]) -> "pd.DataFrame":
    """Row, id, seed, label and content hash of each sample."""
    import pandas as pd

    count = len(contents)
    labels = labels_of(loaded.spec, count) if getattr(loaded.model, "num_classes", 0) else None
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
    """How the samples were drawn, as far as it moves a score; batch size and devices don't."""
    told = sampling.model_dump(mode="json", exclude={"batch", *sampling.generator}) | {"n": count}
    if isinstance(sampling, TextSampling) and sampling.prompt_file:
        told["prompt_file_sha256"] = file_digest(prompt_file(sampling, prompts))
    return told
