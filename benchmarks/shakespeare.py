"""Tiny Shakespeare through the stage's own loop: python benchmarks/shakespeare.py FILE [seeds] [rounds] [--cpu].

The recipe is presets/shakespeare.yaml. Nats a character over the whole of the text's last tenth, in blocks of 64 that
do not overlap, with no context beyond: mean and worst of the seeds. Then the seconds of a step against a bare loop with
AdamW over the same family without convolutions, in turns. With --cpu these are CPU seconds of one thread, which a busy
machine leaves about as they are.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from genfoundry.config import params as settings
from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import parse_spec
from genfoundry.core.io import publish_folder, read_json, write_json, write_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.data.encode.codes import Codes
from genfoundry.data.shards.memo import Memo
from genfoundry.generation.modelfile import build, load_model
from genfoundry.modalities import text as modality
from genfoundry.models.transformer import Config
from genfoundry.nn.contract import Model, Step
from genfoundry.tracking.runs import NoRun
from genfoundry.training import loop
from genfoundry.training.batches import to_batch
from genfoundry.training.examples import TokenData
from genfoundry.training.job import Job

ROOT = Path(__file__).resolve().parents[1]

SHORT, LONG = 20, 120
"""Steps of two timed runs of the stage: their difference is free of what a run costs once."""


class Clock(NamedTuple):
    """How steps are timed."""

    now: Callable[[], float] = time.perf_counter
    threads: int = 0


WALL, CPU = Clock(), Clock(time.process_time, 1)


def recipe() -> dict[str, Any]:
    """The preset's model block."""
    return settings.read_yaml(ROOT / "presets/shakespeare.yaml")["models"]["shakespeare-transformer"]


def plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options of the model in the bare loop: the same without convolutions."""
    return {**options, "convolution": 0, "convolution_layers": 0}


def lay_out(root: Path, text: str, share: float = 0.9) -> DatasetPaths:
    """Arrays as stage encode writes them: train is the first share of the text, test the rest.

    The recipe keeps the last step's weights, so val decides nothing: it is an end of the training text.
    """
    place = int(share * len(text))
    parts = {"train": text[:place], "val": text[place - len(text) // 50 : place], "test": text[place:]}
    dataset = DatasetPaths(root, "shakespeare")
    with publish_folder(dataset.clean) as folder:
        write_table(
            folder / "part-000.parquet",
            pd.DataFrame({"id": list(parts), "split": list(parts), "content": list(parts.values())}),
        )
    sizes = [len(part.encode()) for part in parts.values()]
    index = pd.DataFrame({"id": list(parts), "split": list(parts), "row": 0, "bytes": sizes})
    with tempfile.TemporaryDirectory() as work, publish_folder(dataset.arrays) as folder:
        nothing = Memo(root / "cache", 0, "")
        codes = Codes(dataset.clean, Path(work), index, None, nothing, Execution(data_executor="serial"))
        config = modality.Encode(tokenizer="characters")
        spec, _ = modality.encode(codes, dict.fromkeys(parts, 1), config, folder)
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        for number, split in enumerate(parts):
            np.save(folder / f"{split}_records.npy", np.array([number], np.uint64))
    with publish_folder(ModelPaths(root, "scratch").model) as folder:
        (folder / "base.json").write_bytes(b"{}")
    (root / "params.yaml").write_text("models: {}\n")
    return dataset


def stage(dataset: DatasetPaths, options: dict[str, Any], training: dict[str, Any], threads: int = 0) -> ModelPaths:
    """Train and publish a model of the transformer family."""
    paths = ModelPaths(dataset.root, "model")
    job = Job(
        Node("train", paths.key, "", (), ("models",), ()),
        paths,
        dataset,
        ModelPaths(dataset.root, "scratch"),
        "transformer",
        settings.parse(Config, options, "options"),
        settings.parse(Training, training, "training"),
        Execution(accelerator="cpu", threads=threads, checkpoint_every=1e9),
    )
    loop.train(job, NoRun())
    return paths


def held_out_nats(model: Model, dataset: DatasetPaths) -> float:
    """Nats a character over the whole test split, in blocks of the model's context, nothing seen before a block."""
    tokens = torch.from_numpy(np.load(dataset.arrays / "test_tokens.npy")[1:].astype(np.int64))
    length = model.context
    whole = (len(tokens) - 1) // length
    blocks = [*tokens[: whole * length + 1].unfold(0, length + 1, length).split(256), tokens[None, whole * length :]]
    with torch.inference_mode():
        nats = [model.nats(block) for block in blocks if block.shape[1] > 1]
    found = torch.cat([part.flatten() for part in nats]).double()
    assert len(found) == len(tokens) - 1
    return found.mean().item()


def bare_loop(
    dataset: DatasetPaths, model: torch.nn.Module, training: Training, steps: int, clock: Clock = WALL
) -> float:
    """Seconds of a step of a plain loop with AdamW over a model that has ``loss``."""
    torch.set_num_threads(clock.threads or os.cpu_count() or 1)
    spec, data = parse_spec(read_json(dataset.arrays / "spec.json")), TokenData(dataset.arrays, "train", 64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for number in range(steps + 5):
        if number == 5:  # the first steps allocate
            started = clock.now()
        batch = to_batch(data.batch(number, training.batch, 0), spec)
        optimizer.zero_grad(set_to_none=True)
        model.loss("loss", batch, Step(number, steps, 0)).total.backward()
        optimizer.step()
    return (clock.now() - started) / steps


def stage_seconds(
    dataset: DatasetPaths, options: dict[str, Any], training: dict[str, Any], clock: Clock = WALL
) -> float:
    """Seconds of a step of the stage."""
    seconds = []
    for steps in (SHORT, LONG):
        started = clock.now()
        stage(dataset, options, {**training, "steps": steps, "val_every": steps, "sample_every": steps}, clock.threads)
        seconds.append(clock.now() - started)
    return (seconds[1] - seconds[0]) / (LONG - SHORT)


def ratios(dataset: DatasetPaths, block: dict[str, Any], rounds: int, clock: Clock) -> list[float]:
    """Seconds of a step of the stage over those of the bare loop, measured in turns."""
    found = []
    training = settings.parse(Training, block["training"], "training")
    options = Config.model_validate(plain(block["options"]))
    for number in range(rounds):
        model = build("transformer", options, parse_spec(read_json(dataset.arrays / "spec.json")), 0)
        bare = bare_loop(dataset, model, training, LONG - SHORT, clock)
        ours = stage_seconds(dataset, block["options"], block["training"], clock)
        print(f"round {number}: stage {ours * 1e3:.1f} ms a step, bare AdamW loop {bare * 1e3:.1f} ms", flush=True)
        found.append(ours / bare)
    return found


def main(file: Path, seeds: int, rounds: int, clock: Clock = WALL) -> None:
    block = recipe()
    with tempfile.TemporaryDirectory() as name:
        dataset = lay_out(Path(name), file.read_text(encoding="utf-8"))
        losses = []
        for seed in range(seeds):
            paths = stage(dataset, block["options"], {**block["training"], "seed": seed, "val_every": 2000})
            losses.append(held_out_nats(load_model(paths.model).model, dataset))
            print(f"seed {seed}: {losses[-1]:.4f} nats a character", flush=True)
        parameters = read_json(paths.reports / "train.json")["parameters"] if seeds else 0
        found = ratios(dataset, block, rounds, clock)
    result: dict[str, Any] = {"parameters": parameters}
    if losses:
        result |= {"mean": round(statistics.mean(losses), 4), "worst": round(max(losses), 4), "seeds": seeds}
    if found:
        result |= {"seconds_against_bare_adamw": round(statistics.median(found), 3), "rounds": rounds}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("seeds", type=int, nargs="?", default=5)
    parser.add_argument("rounds", type=int, nargs="?", default=5)
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    main(given.file, given.seeds, given.rounds, CPU if given.cpu else WALL)
