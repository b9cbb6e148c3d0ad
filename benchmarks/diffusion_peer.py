"""Diffusion on digits beside a plain loop over diffusers: python benchmarks/diffusion_peer.py [--seconds 80] [--tune].

Ours is ``digits-diffusion`` of params.yaml; the peer is diffusers' UNet2DModel and DDPMScheduler in a plain loop as
its own train_unconditional.py has it (AdamW, cosine, average of the weights), with labels, and with a parameter count
within 5 %. Both learn from the same batches for the same core-seconds (time.process_time): they take turns in one
process, each with as many steps as a first measurement gives it. Samples are as many as there are test records; the
data set's own network scores them. Errors are standard deviations over the seeds. With OMP_NUM_THREADS=1 a full run
takes about nine minutes, with 2 about five.

``--tune`` tries four settings of each side, scored on the validation split. The peer's came out of it as the best of
four; ours are those of params.yaml, and of its four trials none differs from another by more than the error.

Needs a workspace in which ``dvc repro`` has made the digits, and diffusers, which nothing else here uses:
``pip install --no-deps diffusers`` with importlib_metadata, filelock, huggingface_hub, regex, requests, safetensors.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.params import parse, read_yaml
from genfoundry.config.sections.training import Optimizer, Schedule, Training
from genfoundry.config.specs import GridSpec, parse_spec
from genfoundry.core.paths import DatasetPaths
from genfoundry.evaluation.networks import domain
from genfoundry.evaluation.subsample import subsample
from genfoundry.generation.generator import draw, labels_of, seeds_of, to_levels
from genfoundry.metrics import exact_copies, fid_inf_domain, kid_domain, near_copies, precision_domain, recall_domain
from genfoundry.models import diffusion
from genfoundry.nn.contract import Batch, Step
from genfoundry.training.batches import to_batch
from genfoundry.training.examples import GridData
from genfoundry.training.optim import make_optimizers, rate_factor, set_rate

ROOT = Path(__file__).resolve().parents[1]

MODEL = "digits-diffusion"

METRICS = (fid_inf_domain, kid_domain, precision_domain, recall_domain)

MEASURED_STEPS = 40
"""Steps of each side, thrown away, that say how long one takes; the first quarter is not counted."""

TURNS = 50
"""How often the sides take turns."""

TUNING_SEED = 1000
"""Of the trials; never that of a run that is reported."""

PEER_WIDTHS = (12, 24)
"""Channels of the peer's two levels; the second has attention."""

PEER_TRAINING = Training(batch=64, optimizer=Optimizer(lr=1e-3), schedule=Schedule(warmup=50, final=0.0), ema=0.995)

PEER_NOISE = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}

PEER_STEPS = 100
"""Of the 1,000 noise levels, those that sampling visits: three times the evaluations that ours has."""

OUR_TRIALS = [{"lr": lr, "noise_mean": mean} for lr in (2e-3, 4e-3) for mean in (-1.2, -0.8)]

PEER_TRIALS = [{"lr": lr, "prediction_type": kind} for lr in (1e-3, 3e-3) for kind in ("epsilon", "v_prediction")]


class Peer(nn.Module):
    """diffusers' U-Net with its DDPM scheduler."""

    def __init__(self, spec: GridSpec, noise: dict[str, Any]) -> None:
        super().__init__()
        self.spec, self.scheduler = spec, DDPMScheduler(**noise)
        self.unet = UNet2DModel(
            sample_size=spec.shape[0],
            in_channels=spec.channels,
            out_channels=spec.channels,
            layers_per_block=1,
            block_out_channels=PEER_WIDTHS,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            num_class_embeds=len(spec.labels),
        )

    def loss(self, batch: Batch, step: Step) -> Tensor:
        noise = torch.randn_like(batch.grid)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(noise),))
        noisy = self.scheduler.add_noise(batch.grid, noise, times)
        found = self.unet(noisy, times, class_labels=batch.labels).sample
        if self.scheduler.config.prediction_type == "v_prediction":
            return F.mse_loss(found, self.scheduler.get_velocity(batch.grid, noise, times))
        return F.mse_loss(found, noise)

    def draw(self, count: int, seed: int) -> Tensor:
        """uint8 (count, C, *shape)."""
        generator, labels = torch.Generator().manual_seed(seed), labels_of(self.spec, count)
        self.scheduler.set_timesteps(PEER_STEPS)
        x = torch.randn((count, self.spec.channels, *self.spec.shape), generator=generator)
        for number in self.scheduler.timesteps:
            found = self.unet(x, number, class_labels=labels).sample
            x = self.scheduler.step(found, number, x, generator=generator).prev_sample
        return to_levels(x, self.spec)


class Ours(nn.Module):
    """The family as the stages use it."""

    def __init__(self, spec: GridSpec, config: diffusion.Config, sampling: diffusion.Sampling) -> None:
        super().__init__()
        self.spec, self.sampling, self.model = spec, sampling, diffusion.build(config, spec)

    def loss(self, batch: Batch, step: Step) -> Tensor:
        return self.model.loss("loss", batch, step).total

    def draw(self, count: int, seed: int) -> Tensor:
        """uint8 (count, C, *shape)."""
        seeds = seeds_of(seed, count)
        return draw(self.model, self.spec, seeds, self.sampling.model_dump(), self.sampling.batch)


class Recipe(NamedTuple):
    """How a side is made and trained."""

    name: str
    make: Callable[[], nn.Module]
    training: Training


class Side:
    """One model in a plain loop."""

    def __init__(self, recipe: Recipe, seed: int, steps: int, data: GridData, spec: GridSpec) -> None:
        torch.manual_seed(seed)
        self.name, self.model, self.data, self.spec = recipe.name, recipe.make(), data, spec
        self.training = recipe.training.model_copy(update={"seed": seed, "steps": steps})
        self.optimizers = make_optimizers(list(self.model.parameters()), [], self.training.optimizer)
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.done, self.seconds = 0, 0.0

    def advance(self, until: float) -> None:
        """Train until this share of the steps is done."""
        started = time.process_time()
        while self.done < round(until * self.training.steps):
            self._step()
        self.seconds += time.process_time() - started

    def _step(self) -> None:
        training, done = self.training, self.done
        batch = to_batch(self.data.batch(done, training.batch, training.seed, 0, 1), self.spec)
        self.model.loss(batch, Step(done, training.steps, training.seed)).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), training.clip)
        for optimizer in self.optimizers:
            set_rate(optimizer, rate_factor(training.schedule, done, training.steps))
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(training.ema, (1 + done) / (10 + done))
        with torch.no_grad():
            for name, tensor in self.model.state_dict().items():
                self.average[name].lerp_(tensor, 1 - decay)
        self.done += 1

    def draw(self, count: int) -> Tensor:
        """Samples of the averaged weights."""
        self.model.load_state_dict(self.average)
        with torch.inference_mode():
            return self.model.eval().draw(count, self.training.seed)


class Bench:
    """The data, and the network that judges samples of them."""

    def __init__(self, dataset: DatasetPaths) -> None:
        self.spec = parse_spec(json.loads((dataset.arrays / "spec.json").read_text()))
        self.data, self.levels = GridData(dataset.arrays, "train"), np.load(dataset.arrays / "train.npy")
        self.network = domain.read_network(dataset.reference)
        names = ("train", "val", "test")
        self.features = {name: np.load(dataset.reference / f"{name}_features.npy") for name in names}

    def trained(self, recipes: list[Recipe], seed: int, seconds: float) -> list[Side]:
        """All sides after so many core-seconds each, in turns."""
        sides = []
        for recipe in recipes:
            trial = Side(recipe, seed, MEASURED_STEPS, self.data, self.spec)
            trial.advance(0.25)
            before = trial.seconds
            trial.advance(1.0)
            pace = (trial.seconds - before) / (0.75 * MEASURED_STEPS)
            sides.append(Side(recipe, seed, max(round(seconds / pace), 1), self.data, self.spec))
        for turn in range(1, TURNS + 1):
            for side in sides:
                side.advance(turn / TURNS)
        return sides

    def scores(self, features: np.ndarray, split: str) -> dict[str, float]:
        """Distances and shares of features held against a split; the extrapolated distance may fall below 0."""
        table = {
            metric.__name__.rpartition(".")[2]: metric.score(features, self.features[split], metric.Config())
            for metric in METRICS
        }
        values = {name: score.extra.get("unclipped", score.value) for name, score in table.items()}
        return {"fid_inf sampling error": table["fid_inf_domain"].se, **values}

    def copies(self, features: np.ndarray, levels: np.ndarray | None = None) -> dict[str, float]:
        """Shares of near and exact copies of training records."""
        train, test = self.features["train"], self.features["test"]
        found = {"near_copies": near_copies.score(features, train, test, near_copies.Config()).value}
        if levels is not None:
            found["exact_copies"] = exact_copies.score(levels, self.levels, exact_copies.Config()).value
        return found

    def judged(self, side: Side, split: str) -> dict[str, float]:
        """All that is known of a trained side."""
        started = time.process_time()
        levels = side.draw(len(self.features["test"])).numpy()
        facts = {
            "parameters": sum(parameter.numel() for parameter in side.model.parameters()),
            "steps": side.done,
            "core-seconds": side.seconds,
            "core-seconds of sampling": time.process_time() - started,
        }
        features, _ = domain.embed(self.network, levels)
        return facts | self.scores(features, split) | self.copies(features, levels)

    def floor(self, split: str) -> dict[str, float]:
        """Real training records as samples; for copies, held-out records."""
        rows = subsample(len(self.levels), len(self.features["test"]))
        return self.scores(self.features["train"][rows], split) | self.copies(self.features["test"])


def recipes(block: dict[str, Any], spec: GridSpec, ours: dict[str, Any], peers: dict[str, Any]) -> list[Recipe]:
    """Both sides, with what a trial changes."""
    config = parse(diffusion.Config, block["options"], "options")
    training, sampling = (
        parse(Training, block["training"], "training"),
        parse(diffusion.Sampling, block["sampling"], ""),
    )

    def tried(training: Training, changes: dict[str, Any]) -> Training:
        lr = changes.get("lr", training.optimizer.lr)
        return training.model_copy(update={"optimizer": training.optimizer.model_copy(update={"lr": lr})})

    config = config.model_copy(update={name: value for name, value in ours.items() if name != "lr"})
    noise = PEER_NOISE | {name: value for name, value in peers.items() if name != "lr"}
    return [
        Recipe(f"ours {ours or ''}".strip(), partial(Ours, spec, config, sampling), tried(training, ours)),
        Recipe(f"diffusers {peers or ''}".strip(), partial(Peer, spec, noise), tried(PEER_TRAINING, peers)),
    ]


def show(name: str, values: dict[str, float]) -> None:
    print(name, json.dumps({key: round(value, 4) for key, value in values.items()}), flush=True)


def tune(bench: Bench, block: dict[str, Any], seconds: float) -> None:
    """As many trials of each side, on the validation split."""
    for ours, peers in zip(OUR_TRIALS, PEER_TRIALS, strict=True):
        for side in bench.trained(recipes(block, bench.spec, ours, peers), TUNING_SEED, seconds):
            show(side.name, bench.judged(side, "val"))


def compare(bench: Bench, block: dict[str, Any], seconds: float, seeds: int) -> None:
    """The table of docs/benchmarks.md."""
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(seeds):
        for side in bench.trained(recipes(block, bench.spec, {}, {}), seed, seconds):
            found.setdefault(side.name, []).append(bench.judged(side, "test"))
            show(f"{side.name} seed {seed}", found[side.name][-1])
    floor = bench.floor("test")
    print(f"\n| | {' | '.join(found)} | real records |\n|{'---|' * 4}")
    for key in found["ours"][0]:
        cells = []
        for rows in found.values():
            values = [row[key] for row in rows]
            spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.4g}{spread}")
        print(f"| {key} | {' | '.join(cells)} | {f'{floor[key]:.4g}' if key in floor else ''} |")
    counts = [rows[0]["parameters"] for rows in found.values()]
    if max(counts) > 1.05 * min(counts):
        raise SystemExit(f"{counts[0]} and {counts[1]} parameters differ by more than 5 %; change PEER_WIDTHS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--params", type=Path, help="default: params.yaml of the workspace")
    parser.add_argument("--seconds", type=float, default=80.0, help="core-seconds of training, for each side and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tune", action="store_true", help="try settings of both sides on the validation split")
    options = parser.parse_args()
    block = read_yaml(options.params or options.workspace / "params.yaml")["models"][MODEL]
    bench = Bench(DatasetPaths(options.workspace, block["dataset"]))
    if options.tune:
        tune(bench, block, options.seconds)
    else:
        compare(bench, block, options.seconds, options.seeds)


if __name__ == "__main__":
    main()
