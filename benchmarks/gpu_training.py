"""Training on GPUs in one call below ten minutes: python benchmarks/gpu_training.py [--toy] [--cifar ZIP] [--out DIR].

1. A transformer of GPT-2 small's size in bf16-mixed, compiled, through the project's own training loop, on random
   tokens from a memory map: tokens a second and model FLOPs utilisation.
2. Conditional diffusion on CIFAR-10 for the minutes left: Frechet distances and a grid. Needs --cifar, a zip of
   train/<class>/*.jpg and test/<class>/*.jpg.
3. Scaling: one rank against one on each GPU (NCCL), or against two on the only device (gloo).

It needs this repository and, on a machine without its environment:
    pip install torch==2.13.0 pytorch-lightning==2.6.6 numpy pydantic ruamel.yaml safetensors pillow tokenizers pandas \
        pyarrow scipy scikit-learn mlflow-skinny
No network is used. The last line is a JSON summary.

FLOPs of a token, forward and backward: 6 N + 12 L H Q T (Chowdhery et al. 2022, arXiv:2204.02311, appendix B), with
L layers, H heads of width Q, T tokens of context. N is every weight that multiplies: all but the input embedding; the
output head counts, tied or not. Peaks are the dense ones of NVIDIA's datasheets (half of the figures "with sparsity").
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from genfoundry.config.code import write_code  # noqa: E402
from genfoundry.config.dag import find  # noqa: E402
from genfoundry.config.params import family_config  # noqa: E402
from genfoundry.config.sections.execution import Execution  # noqa: E402
from genfoundry.config.sections.training import Training  # noqa: E402
from genfoundry.config.specs import DataSpec, GridSpec, Section, TokenSpec  # noqa: E402
from genfoundry.core.io import publish_folder, write_json  # noqa: E402
from genfoundry.core.paths import DatasetPaths, ModelPaths  # noqa: E402
from genfoundry.generation.modelfile import build, load_model  # noqa: E402
from genfoundry.nn.contract import Model, Step, TokenBatch  # noqa: E402
from genfoundry.tracking.runs import NoRun  # noqa: E402
from genfoundry.training.job import Job  # noqa: E402
from genfoundry.training.loop import train  # noqa: E402
from genfoundry.training.peaks import peak_flops  # noqa: E402

GPT2 = {"width": 768, "layers": 12, "heads": 12, "context": 1024}
VOCABULARY = 50_304
"""GPT-2's 50,257 tokens filled up to a multiple of 64."""

MICRO_BATCHES = (4, 8, 16, 32, 64, 128)
WARM, TIMED = 15, 40
"""Steps left out, in which kernels are compiled and chosen, and steps timed."""

TOY = {"width": 32, "layers": 2, "heads": 2, "context": 32}
TOTAL_S = 540.0
"""Seconds for all: a margin below ten minutes."""


class Clock:
    """Times of optimizer steps, read once the device has done what was asked before the first and at the last."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last, self.steps, self.start, self.end = first, last, 0, 0.0, 0.0

    def tick(self, *_: Any) -> None:
        self.steps += 1
        if self.steps in (self.first, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.end = time.perf_counter()
            self.start = self.start or self.end

    @property
    def seconds(self) -> float:
        """Seconds a step."""
        return (self.end - self.start) / (self.last - self.first)

    @contextmanager
    def running(self) -> Iterator["Clock"]:
        handle = register_optimizer_step_post_hook(self.tick)
        try:
            yield self
        finally:
            handle.remove()


def device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def peak() -> float:
    """Dense bfloat16 FLOP/s of the device, 0 if its name is not in the table."""
    return peak_flops(device_name(), "bf16-mixed")


def workspace(root: Path, key: str, family: str, options: dict[str, Any]) -> None:
    """A project that holds one data set and one model, so that the loop finds what it finds in any project."""
    for name in ("dvc.yaml", "requirements.lock", "pipelines", "src"):
        if not (root / name).exists():
            (root / name).symlink_to(ROOT / name)
    block = {"dataset": key, "family": family, "init_from": "scratch", "options": options}
    block |= {"components": "none", "training": {}, "sampling": {}, "evaluation": {}}
    data = {name: {} for name in ("ingest", "validation", "preprocess", "dedup", "split", "encode", "reference")}
    data |= {"modality": "text" if family == "transformer" else "image", "source": "data"}
    none = {"set": "none", "role": "none", "model": "scratch"}
    tree = {"format": 1, "project": "bench", "execution": {}, "numerics": {}, "bases": {"scratch": {}}}
    tree |= {"components": {"none": none}}
    (root / "params.yaml").write_text(json.dumps(tree | {"datasets": {key: data}, "models": {key: block}}))
    with publish_folder(ModelPaths(root, "scratch").model) as folder:
        write_json(folder / "base.json", {"empty": True})
    write_json(root / "artifacts/components/none/none.json", {"model": "scratch", "digest": ""})
    write_code(root)


def fit(root: Path, key: str, family: str, options: Section, training: Training, clock: Clock) -> None:
    """Train through the project's loop."""
    execution = Execution(devices=1, checkpoint_every=1e9)
    paths = ModelPaths(root, key)
    shutil.rmtree(root / "checkpoints", ignore_errors=True)
    with clock.running():
        places = (paths, DatasetPaths(root, key), ModelPaths(root, "scratch"))
        train(Job(find(root, f"train@{key}"), *places, family, options, training, execution, {}), NoRun())


def settings(steps: int, batch: int, toy: bool, **more: Any) -> Training:
    """Nothing but steps: validation, pictures and points of the curve come at the end."""
    rare = {"val_every": steps, "sample_every": steps, "val_batches": 1, "log_every": steps}
    fast = {} if toy else {"precision": "bf16-mixed", "compile": True, "determinism": "fast"}
    return Training.model_validate({"steps": steps, "batch": batch, **rare, **fast, **more})


def token_model(toy: bool) -> tuple[TokenSpec, Section, Model]:
    options = TOY if toy else GPT2
    kind = family_config("transformer")
    config = kind.model_validate({**options, "tied": True})
    spec = TokenSpec(vocab_size=257 if toy else VOCABULARY)
    return spec, config, build("transformer", config, spec, 0)


def flops_of_token(model: Model, config: Any, spec: TokenSpec) -> float:
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    tables = [parameter.numel() for m in model.modules() if isinstance(m, nn.Embedding) for parameter in [m.weight]]
    tied = sum(size == spec.vocab_size * config.width for size in sizes.values()) == 1
    multiply = sum(sizes.values()) - (0 if tied else sum(tables))
    return 6 * multiply + 12 * config.layers * config.width * config.context


def random_tokens(spec: TokenSpec, context: int, batch: int, device: str) -> TokenBatch:
    tokens = torch.randint(spec.vocab_size, (batch, context + 1), device=device)
    return TokenBatch(tokens, torch.ones(tokens.shape, device=device), torch.arange(batch, device=device))


def steps_per_second(module: nn.Module, batch: TokenBatch, device: str, count: int) -> float:
    """Of a bare loop, after two steps of warm-up; the module maps a batch to its loss."""
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    begun = 0.0
    for number in range(count + 2):
        if number == 2:
            _wait(device)
            begun = time.perf_counter()
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=device != "cpu"):
            loss = module(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    _wait(device)
    return count / (time.perf_counter() - begun)


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize(device)


class WithLoss(nn.Module):
    """A model whose call is its loss, as DistributedDataParallel wants it."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        return self.model.loss("loss", batch, Step(0, 1, 0)).total


def best_micro_batch(toy: bool) -> int:
    """The micro-batch with the most tokens a second in a bare, uncompiled loop; the next one up may not fit."""
    if toy:
        return 4
    spec, config, model = token_model(toy)
    module, rates = WithLoss(model).cuda(), {}
    for size in MICRO_BATCHES:
        try:
            batch = random_tokens(spec, config.model_dump()["context"], size, "cuda")
            rates[size] = size * steps_per_second(module, batch, "cuda", 4)
        except torch.OutOfMemoryError:
            break
        print(f"micro-batch {size}: {rates[size]:.1f} windows/s, uncompiled", flush=True)
    return max(rates, key=lambda size: rates[size])


def write_tokens(root: Path, spec: TokenSpec, examples: int) -> None:
    """Random tokens as the stage encode would leave them, with a vocabulary of numbers to show samples by."""
    from tokenizers import Tokenizer, models

    generator = np.random.Generator(np.random.PCG64(0))
    with publish_folder(DatasetPaths(root, "gpt2").arrays) as folder:
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        Tokenizer(models.WordLevel({str(n): n for n in range(spec.vocab_size)}, "0")).save(
            str(folder / "tokenizer.json")
        )
        for split, count in (("train", examples), ("val", examples // 10)):
            np.save(folder / f"{split}_tokens.npy", generator.integers(spec.vocab_size, size=count, dtype=np.int32))
            np.save(folder / f"{split}_records.npy", np.zeros((0, 32), np.uint8))


def run_transformer(root: Path, toy: bool) -> dict[str, Any]:
    spec, config, model = token_model(toy)
    options = config.model_dump()
    workspace(root, "gpt2", "transformer", options)
    batch, steps = best_micro_batch(toy), 8 if toy else WARM + TIMED
    write_tokens(root, spec, options["context"] * max(20 * batch, 200))
    clock = Clock(2 if toy else WARM, steps)
    fit(root, "gpt2", "transformer", config, settings(steps, batch, toy), clock)
    tokens_s, flops = batch * options["context"] / clock.seconds, flops_of_token(model, config, spec)
    utilisation = tokens_s * flops / peak() if peak() else None
    print(f"transformer: {tokens_s:,.0f} tokens/s at micro-batch {batch}; MFU {utilisation}", flush=True)
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "micro_batch": batch,
        "ms_per_step": 1000 * clock.seconds,
        "tokens_per_second": tokens_s,
        "flops_per_token": flops,
        "peak_flops": peak(),
        "mfu": utilisation,
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else None,
    }


def read_images(archive: Path, root: Path, limit: int) -> GridSpec:
    """Arrays of a zip of <split>/<class>/<name>.jpg; the test half of it is held out."""
    from io import BytesIO

    from PIL import Image

    with zipfile.ZipFile(archive) as packed, publish_folder(DatasetPaths(root, "cifar").arrays) as folder:
        names = sorted(name for name in packed.namelist() if name.endswith(".jpg"))
        classes = tuple(sorted({name.split("/")[1] for name in names}))
        spec = GridSpec(channels=3, shape=(32, 32), labels=classes)
        write_json(folder / "spec.json", spec.model_dump(mode="json"))
        for split, source in (("train", "train"), ("val", "test"), ("test", "test")):
            mine = [name for name in names if name.startswith(f"{source}/")]
            mine = mine[:: max(len(mine) // limit, 1)] if limit else mine
            grids = [np.asarray(Image.open(BytesIO(packed.read(name))).convert("RGB")) for name in mine]
            np.save(folder / f"{split}.npy", np.stack(grids).transpose(0, 3, 1, 2))
            labels = np.array([classes.index(name.split("/")[1]) for name in mine], np.int64)
            np.save(folder / f"{split}_labels.npy", labels)
            np.save(folder / f"{split}_records.npy", np.zeros((0, 32), np.uint8))
    return spec


def run_diffusion(root: Path, toy: bool, archive: Path | None, until: float, out: Path) -> dict[str, Any]:
    if archive is None:
        return {"skipped": "no --cifar: a zip of train/<class>/*.jpg and test/<class>/*.jpg"}
    spec = read_images(archive, root, 64 if toy else 0)
    options = family_config("diffusion").model_validate({"width": 16 if toy else 128})
    workspace(root, "cifar", "diffusion", options.model_dump())
    batch = 16 if toy else 512
    trial = Clock(2 if toy else WARM, 4 if toy else WARM + TIMED)
    fit(root, "cifar", "diffusion", options, settings(trial.last, batch, toy), trial)
    # A quarter of what is left goes to compiling again, features and samples.
    steps = 6 if toy else max(int(0.75 * (until - time.monotonic()) / trial.seconds), 100)
    fit(root, "cifar", "diffusion", options, settings(steps, batch, toy, ema=0.999), Clock(2, steps))
    found = judge(root, spec, 48 if toy else 10_000, out)
    return found | {"steps": steps, "batch": batch, "images_per_second": batch / trial.seconds}


def judge(root: Path, spec: DataSpec, count: int, out: Path) -> dict[str, Any]:
    """Frechet distances of samples and of other real images to the held-out ones, in domain features; a grid."""
    from genfoundry.config.sections.reference import Reference
    from genfoundry.evaluation.networks.domain import embed, read_network
    from genfoundry.evaluation.reference import write_reference
    from genfoundry.metrics._frechet import frechet_distance
    from genfoundry.modalities.common.lookup import media_of
    from genfoundry.nn.contract import Requests

    assert isinstance(spec, GridSpec)
    dataset = DatasetPaths(root, "cifar")
    write_reference(dataset, Reference(steps=60) if count < 100 else Reference())
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(ModelPaths(root, "cifar").model, device).model.eval()
    seeds, drawn = torch.arange(count), []
    with torch.no_grad():
        for some in seeds.split(500):
            labels = (some % len(spec.labels)).to(device)
            drawn.append(model.sample(Requests(some.to(device), {"label": labels})).cpu())
    low, high = spec.range
    levels = ((torch.cat(drawn) - low) / (high - low) * 255).round().clamp(0, 255).to(torch.uint8).numpy()
    media_of(spec).sheet(levels[:100]).save(out / "cifar10")
    network = read_network(dataset.reference)
    real = {name: np.load(dataset.arrays / f"{name}.npy")[:count] for name in ("train", "test")}
    features = {name: embed(network, grid)[0] for name, grid in {**real, "samples": levels}.items()}
    return {
        "samples": count,
        "frechet_distance": frechet_distance(features["samples"], features["test"]),
        "frechet_distance_of_training_images": frechet_distance(features["train"], features["test"]),
    }


def _rank(rank: int, world: int, toy: bool, size: int, folder: str) -> None:
    """One rank of the scaling measurement: windows a second of all ranks, into ``<world>.json``."""
    gpus = torch.cuda.device_count()
    device = "cpu" if not gpus else f"cuda:{rank % gpus}"
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29_500 + world)}
    torch.set_num_threads(1)
    backend = "nccl" if gpus >= world > 1 else "gloo"
    torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    spec, config, model = token_model(toy)
    module = nn.parallel.DistributedDataParallel(WithLoss(model).to(device))
    batch = random_tokens(spec, config.model_dump()["context"], size, device)
    rate = world * size * steps_per_second(module, batch, device, 3 if toy else 10)
    if rank == 0:
        write_json(Path(folder) / f"{world}.json", {"backend": backend, "windows_per_second": rate})
    torch.distributed.barrier()
    # Without destructors: that of gloo's group waits, with Python's lock in hand, for a thread that wants it (seen).
    os._exit(0)


def run_scaling(folder: Path, toy: bool, size: int) -> dict[str, Any]:
    gpus = torch.cuda.device_count()
    world = max(gpus, 2)
    for count in (1, world):
        torch.multiprocessing.spawn(_rank, (count, toy, size, str(folder)), count)
    one, many = (json.loads((folder / f"{count}.json").read_text()) for count in (1, world))
    speedup = many["windows_per_second"] / one["windows_per_second"]
    shared = gpus < 2
    print(f"{world} ranks by {many['backend']}: {speedup:.2f} times the rate of one", flush=True)
    # Two ranks on one device can at best keep the rate of one.
    efficiency = speedup if shared else speedup / world
    return {"ranks": world, "shared_device": shared, **many, "speedup": speedup, "efficiency": efficiency}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="all of it at toy size, on a CPU too")
    parser.add_argument("--cifar", type=Path, help="zip of train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", ".")), help="folder of grid and summary")
    chosen = parser.parse_args()
    until = time.monotonic() + TOTAL_S
    if not chosen.toy and not torch.cuda.is_available():
        sys.exit("gpu_training: torch sees no GPU; use one, or --toy")
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        summary: dict[str, Any] = {"device": device_name(), "torch": torch.__version__}
        summary["transformer"] = run_transformer(root, chosen.toy)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        micro = max(summary["transformer"]["micro_batch"] // 4, 1)
        summary["scaling"] = run_scaling(root, chosen.toy, micro)
        summary["diffusion"] = run_diffusion(root, chosen.toy, chosen.cifar, until, chosen.out)
    write_json(chosen.out / "gpu_training.json", summary)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
