"""Diffusion on digits beside a plain loop over diffusers: python benchmarks/diffusion_peer.py [--seconds 50].

Ours is ``digits-diffusion`` of params.yaml; the peer is diffusers' UNet2DModel and DDPMScheduler in a plain loop as
its own train_unconditional.py has it (AdamW, cosine, average of the weights), with labels, and with a parameter count
within 5 %. Both learn from the same batches for the same time: they take turns in one process, so that a busy machine
slows both, each with as many steps as a first measurement gives it. Samples are as many as there are test records, and
the data set's own network scores them. Errors are standard deviations over the seeds. About 8 minutes on two cores.

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

from genfoundry.data.batches import GridData
from genfoundry.evaluation.extraction import network
from genfoundry.evaluation.subsample import subsample
from genfoundry.metrics import exact_copies, fid_inf_domain, kid_domain, near_copies, precision_domain, recall_domain
from genfoundry.models import diffusion
from genfoundry.nn.contract import Batch, Step
from genfoundry.paths import DatasetPaths
from genfoundry.sampling import draw, labels_of, seeds_of, to_levels
from genfoundry.settings import Optimizer, Schedule, Training, parse, read_yaml
from genfoundry.specs import GridSpec, parse_spec
from genfoundry.training.batches import to_batch
from genfoundry.training.optim import make_optimizers, rate_factor, set_rate

ROOT = Path(__file__).resolve().parents[1]

MODEL = "digits-diffusion"

MEASURED_STEPS = 20
"""Steps of each side, thrown away, that say how long one takes."""

TURN = 0.02
"""Share of its steps that a side takes before it is the other's turn."""

PEER_WIDTHS = (24, 48)
"""Channels of the peer's two levels; the second has attention, as ours."""

PEER_TRAINING = Training(
    batch=64,
    optimizer=Optimizer(lr=2e-3),
    schedule=Schedule(name="cosine", warmup=50, final=0.0),
    ema=0.995,
)

PEER_NOISE: dict[str, Any] = {"beta_schedule": "squaredcos_cap_v2", "prediction_type": "epsilon"}

PEER_STEPS = 100
"""Of the 1,000 noise levels, those that sampling visits."""


class Peer(nn.Module):
    """diffusers' U-Net with its DDPM scheduler."""

    def __init__(self, spec: GridSpec, widths: tuple[int, int]) -> None:
        super().__init__()
        self.shape = (spec.channels, *spec.shape)
        self.scheduler = DDPMScheduler(**PEER_NOISE)
        self.unet = UNet2DModel(
            sample_size=spec.shape[0],
            in_channels=spec.channels,
            out_channels=spec.channels,
            layers_per_block=1,
            block_out_channels=widths,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=8,
            num_class_embeds=len(spec.labels),
        )

    def loss(self, batch: Batch) -> Tensor:
        noise = torch.randn_like(batch.grid)
        times = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(noise),))
        noisy = self.scheduler.add_noise(batch.grid, noise, times)
        found = self.unet(noisy, times, class_labels=batch.labels).sample
        if self.scheduler.config.prediction_type == "v_prediction":
            return F.mse_loss(found, self.scheduler.get_velocity(batch.grid, noise, times))
        return F.mse_loss(found, noise)

    def draw(self, labels: Tensor, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        self.scheduler.set_timesteps(PEER_STEPS)
        x = torch.randn((len(labels), *self.shape), generator=generator)
        for time_of_step in self.scheduler.timesteps:
            found = self.unet(x, time_of_step, class_labels=labels).sample
            x = self.scheduler.step(found, time_of_step, x, generator=generator).prev_sample
        return x


class Side:
    """One model in a plain loop."""

    def __init__(self, make: Callable[[], nn.Module], training: Training, data: GridData, spec: GridSpec) -> None:
        torch.manual_seed(training.seed)
        self.model, self.training, self.data, self.spec = make(), training, data, spec
        self.optimizers = make_optimizers(list(self.model.parameters()), [], training.optimizer)
        self.average = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        self.done, self.seconds = 0, 0.0

    def advance(self, until: float) -> None:
        """Train until this share of the steps is done."""
        started, training = time.perf_counter(), self.training
        while self.done < min(round(until * training.steps), training.steps):
            values = self.data.batch(self.done, training.batch, training.seed, 0, 1)
            batch, step = to_batch(values, self.spec), Step(self.done, training.steps, training.seed)
            ours = isinstance(self.model, diffusion.Diffusion)
            loss = self.model.loss("loss", batch, step).total if ours else self.model.loss(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), training.clip)
            for optimizer in self.optimizers:
                set_rate(optimizer, rate_factor(training.schedule, self.done, training.steps))
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
            decay = min(training.ema, (1 + self.done) / (10 + self.done))
            with torch.no_grad():
                for name, tensor in self.model.state_dict().items():
                    self.average[name].lerp_(tensor, 1 - decay)
            self.done += 1
        self.seconds += time.perf_counter() - started

    def finish(self) -> nn.Module:
        self.model.load_state_dict(self.average)
        return self.model.eval()


class Judge(NamedTuple):
    """The data set's network with the features of its splits."""

    net: network.FeatureNetwork
    features: dict[str, np.ndarray]
    training_levels: np.ndarray

    def scores(self, levels: np.ndarray, split: str) -> dict[str, float]:
        found, _ = network.embed(self.net, levels)
        real = self.features[split]
        table = {metric.__name__.rpartition(".")[2]: metric.score(found, real, metric.Config()) for metric in METRICS}
        values = {name: score.extra.get("unclipped", score.value) for name, score in table.items()}
        values["sampling error"] = table["fid_inf_domain"].se
        values["near_copies"] = near_copies.score(found, self.features["train"], real, near_copies.Config()).value
        return values | {"exact_copies": exact_copies.score(levels, self.training_levels, exact_copies.Config()).value}


METRICS = (fid_inf_domain, kid_domain, precision_domain, recall_domain)


def train_both(makers: dict[str, partial], seconds: float) -> dict[str, Side]:
    """Both sides after so many seconds each, in turns."""
    pace = {}
    for name, maker in makers.items():
        trial = maker(steps=MEASURED_STEPS)
        trial.advance(0.25)
        before = trial.seconds
        trial.advance(1.0)
        pace[name] = (trial.seconds - before) / (0.75 * MEASURED_STEPS)
    sides = {name: maker(steps=max(round(seconds / pace[name]), 1)) for name, maker in makers.items()}
    for turn in range(1, round(1 / TURN) + 1):
        for side in sides.values():
            side.advance(turn * TURN)
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--params", type=Path, help="default: params.yaml of the workspace")
    parser.add_argument("--seconds", type=float, default=50.0, help="of training, for each side and seed")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--split", choices=("val", "test"), default="test", help="val for tuning")
    options = parser.parse_args()
    block = read_yaml(options.params or options.workspace / "params.yaml")["models"][MODEL]
    dataset = DatasetPaths(options.workspace, block["dataset"])
    spec = parse_spec(json.loads((dataset.arrays / "spec.json").read_text()))
    config, training = parse(diffusion.Config, block["options"], MODEL), parse(Training, block["training"], MODEL)
    sampling = parse(diffusion.Sampling, block["sampling"], MODEL)
    features = {split: np.load(dataset.reference / f"{split}_features.npy") for split in ("train", "val", "test")}
    judge = Judge(network.load(dataset.reference), features, np.load(dataset.arrays / "train.npy"))
    data, count = GridData(dataset.arrays, "train"), len(features["test"])

    def side(make: Callable[[], nn.Module], settings: Training, seed: int, steps: int) -> Side:
        return Side(make, settings.model_copy(update={"seed": seed, "steps": steps}), data, spec)

    found: dict[str, list[dict[str, float]]] = {"ours": [], "diffusers": []}
    for seed in range(options.seeds):
        ours = partial(side, partial(diffusion.build, config, spec), training, seed)
        peer = partial(side, partial(Peer, spec, PEER_WIDTHS), PEER_TRAINING, seed)
        for name, trained in train_both({"ours": ours, "diffusers": peer}, options.seconds).items():
            model, started = trained.finish(), time.perf_counter()
            with torch.inference_mode():
                if name == "ours":
                    seeds = seeds_of(sampling.model_copy(update={"seed": seed}), count)
                    levels = draw(model, spec, seeds, sampling.model_dump(), sampling.batch)
                else:
                    levels = to_levels(model.draw(labels_of(spec, count), seed), spec)
            facts = {
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "steps": trained.done,
                "seconds": trained.seconds,
                "sampling seconds": time.perf_counter() - started,
            }
            found[name].append(facts | judge.scores(levels.numpy(), options.split))
            print(name, "seed", seed, json.dumps({key: round(value, 4) for key, value in found[name][-1].items()}))
    counts = [rows[0]["parameters"] for rows in found.values()]
    if max(counts) > 1.05 * min(counts):
        raise SystemExit(f"{counts[0]} and {counts[1]} parameters differ by more than 5 %; change PEER_WIDTHS")
    rows = subsample(len(judge.training_levels), count)
    floor = judge.scores(judge.training_levels[rows], options.split)
    print(f"\n| | {' | '.join([*found, 'real training records'])} |\n|{'---|' * 4}")
    for key in found["ours"][0]:
        values = [[row[key] for row in rows] for rows in found.values()]
        cells = [
            f"{statistics.fmean(each):.4g} ± {statistics.stdev(each):.2g}" if len(each) > 1 else f"{each[0]:.4g}"
            for each in values
        ]
        print(f"| {key} | {' | '.join(cells)} | {f'{floor[key]:.4g}' if key in floor else ''} |")


if __name__ == "__main__":
    main()
