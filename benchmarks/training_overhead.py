"""What the train stage costs beside its arithmetic: python benchmarks/training_overhead.py [--rounds N] [--threads N].

The stage's own loop, with a real MLflow run in a temporary store, against loops that only train, in short rounds that
alternate in one process: a bare PyTorch loop at a transformer of about 40 ms a step, and a bare Lightning loop with
automatic optimization at about 2 ms a step. Same model, batches, optimizer, clipping and precision; the bare loops
neither log nor save nor ask for repeatable bytes. Only training is timed: no imports, stores, final pictures. Prints
the median and the quartiles over rounds of the ratio of steps per second; six minutes on two cores.
Last, the share of logging in the stage's steps of about 2 ms: CPU seconds of the main thread, which a busy machine
leaves as they are, in making and writing points of the curves over all those from the first batch to the last step.
"""

import argparse
import logging
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytorch_lightning as pl
import torch
from tokenizers import Tokenizer, models
from torch.utils.data import DataLoader, IterableDataset

from genfoundry.config.dag import Node
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import TokenSpec
from genfoundry.core.io import canonical_json, publish_folder
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.models import transformer
from genfoundry.nn.contract import Batch, Model, Step
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import Store, open_store
from genfoundry.training import loop
from genfoundry.training.batches import open_data, to_batch
from genfoundry.training.control import Control
from genfoundry.training.curve import Curve
from genfoundry.training.job import Job
from genfoundry.training.module import Trainee

SPEC = TokenSpec(vocab_size=65)
SMALL = transformer.Config(width=128, layers=4, heads=4, context=64), 12, 100
"""Options, batch and steps of a round: the size of Tiny Shakespeare's usual small model, 40 ms a step on two cores."""
TINY = transformer.Config(width=32, layers=1, heads=2, context=16), 4, 1500
"""A step of about 2 ms, in which every fixed cost shows."""


def lay_out(root: Path) -> None:
    """Random tokens as a built dataset, and the empty base."""
    generator = np.random.Generator(np.random.PCG64(0))
    with publish_folder(DatasetPaths(root, "d").arrays) as folder:
        for split, count in (("train", 500_000), ("val", 2_000)):
            np.save(folder / f"{split}_tokens.npy", generator.integers(0, 65, count, dtype=np.uint16))
            np.save(folder / f"{split}_records.npy", np.arange(3, dtype=np.uint64))
        (folder / "spec.json").write_bytes(canonical_json(SPEC.model_dump(mode="json")))
        words = {f"w{number}": number for number in range(65)}
        Tokenizer(models.WordLevel(words, unk_token="w1")).save(str(folder / "tokenizer.json"))
    with publish_folder(ModelPaths(root, "scratch").model) as folder:
        (folder / "base.json").write_bytes(b"{}")
    (root / "params.yaml").write_text("models: {}\n")


class Workload:
    """A model with its batches, trained in three ways; each returns steps per second."""

    def __init__(self, root: Path, store: Store, options: transformer.Config, batch: int, steps: int) -> None:
        self.root, self.store, self.options = root, store, options
        often = {"val_every": steps, "sample_every": steps}
        self.training = Training.model_validate({"batch": batch, "steps": steps, **often})
        self.clock = time.perf_counter
        self.data = open_data(DatasetPaths(root, "d").arrays, "train", SPEC, options.context)

    def stage(self, threads: int) -> float:
        """The stage's loop; from the first batch to the last step, its points and checkpoints among them."""
        run = Run(self.store, self.store.client.create_run(self.store.experiment).info.run_id, "train")
        marks: list[float] = []
        starting, ending = Control.on_train_start, Control._burst_ended

        def start(control: Control, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            starting(control, trainer, module)
            marks.append(self.clock())

        def end(control: Control, trainer: pl.Trainer, module: Trainee) -> None:
            if module.done == self.training.steps:
                run.flush()
                marks.append(self.clock())
            ending(control, trainer, module)

        Control.on_train_start, Control._burst_ended = start, end  # type: ignore[method-assign]
        try:
            job = Job(
                Node("train", "m", "", (), ("models",), ()),
                ModelPaths(self.root, "m"),
                DatasetPaths(self.root, "d"),
                ModelPaths(self.root, "scratch"),
                "transformer",
                self.options,
                self.training,
                Execution(accelerator="cpu", threads=threads),
            )
            loop.train(job, run)
        finally:
            Control.on_train_start, Control._burst_ended = starting, ending  # type: ignore[method-assign]
        shutil.rmtree(ModelPaths(self.root, "m").folder)
        return self.training.steps / (marks[1] - marks[0])

    def logging(self, threads: int) -> float:
        """Share of the curves in the CPU seconds of the stage's steps, with what was left to write at the end."""
        spent = 0.0
        timed = (Trainee, "_point"), (Curve, "add"), (Curve, "validated"), (Run, "flush")

        def count(owner: type, name: str) -> Callable[[], None]:
            original, state = getattr(owner, name), inside

            def counted(*values: object) -> object:
                nonlocal spent
                outermost, state.depth = not state.depth, state.depth + 1
                before = time.thread_time()
                try:
                    return original(*values)
                finally:
                    state.depth -= 1
                    spent += (time.thread_time() - before) * outermost

            setattr(owner, name, counted)
            return partial(setattr, owner, name, original)

        inside = SimpleNamespace(depth=0)
        undo = [count(owner, name) for owner, name in timed]
        self.clock = time.thread_time
        try:
            seconds = self.training.steps / self.stage(threads)
        finally:
            self.clock = time.perf_counter
            for back in undo:
                back()
        return spent / seconds

    def fresh(self) -> tuple[Model, torch.optim.Optimizer]:
        torch.use_deterministic_algorithms(False)
        torch.manual_seed(0)
        model = transformer.build(self.options, SPEC)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01, fused=True)

    def batches(self) -> Iterator[Batch]:
        for step in range(self.training.steps):
            yield to_batch(self.data.batch(step, self.training.batch, 0), SPEC)

    def pytorch(self, threads: int) -> float:
        """A loop as one writes it by hand."""
        torch.set_num_threads(threads)
        model, optimizer = self.fresh()
        start = time.perf_counter()
        for number, batch in enumerate(self.batches()):
            loss = model.loss("loss", batch, Step(number, self.training.steps, 0)).total
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.training.clip)
            optimizer.step()
        return self.training.steps / (time.perf_counter() - start)

    def lightning(self, threads: int) -> float:
        """Lightning as its manual shows it, with all that can be switched off switched off."""
        torch.set_num_threads(threads)
        module = Bare(*self.fresh(), self.training.steps)
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=1,
            gradient_clip_val=self.training.clip,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(Batches(self.batches), batch_size=None))
        return self.training.steps / (module.ended - module.started)


class Batches(IterableDataset[Batch]):
    def __init__(self, batches: Callable[[], Iterator[Batch]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()


class Bare(pl.LightningModule):
    """The least that Lightning needs."""

    def __init__(self, model: Model, optimizer: torch.optim.Optimizer, steps: int) -> None:
        super().__init__()
        self.model, self.optimizer, self.steps = model, optimizer, steps
        self.started = self.ended = 0.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer

    def on_train_start(self) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self) -> None:
        self.ended = time.perf_counter()

    def training_step(self, batch: Batch, number: int) -> torch.Tensor:
        return self.model.loss("loss", batch, Step(number, self.steps, 0)).total


def compare(name: str, goal: float, ours: Callable[[], float], bare: Callable[[], float], rounds: int) -> None:
    """Alternate, the order turned round by round, and print steps per second and their ratio."""
    speeds: dict[str, list[float]] = {"ours": [], "bare": []}
    pair = [("ours", ours), ("bare", bare)]
    for number in range(rounds + 1):
        for key, measure in pair if number % 2 else pair[::-1]:
            speed = measure()
            if number:  # the first round warms up
                speeds[key].append(speed)
    ratios = [mine / theirs for mine, theirs in zip(speeds["ours"], speeds["bare"], strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4)
    step_ms = 1000 / statistics.median(speeds["bare"])
    print(
        f"{name}: bare {step_ms:.2f} ms a step, ours {1000 / statistics.median(speeds['ours']):.2f}; "
        f"ratio {ratio:.3f} (quartiles of {rounds} rounds {low:.3f} to {high:.3f}; goal {goal})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps of a round, to try it out")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        lay_out(root)
        store = open_store(root, "overhead")
        for name, goal, (options, batch, steps), ours, bare in (
            ("stage against PyTorch", 0.97, SMALL, Workload.stage, Workload.pytorch),
            ("stage against Lightning", 0.95, TINY, Workload.stage, Workload.lightning),
            ("Lightning against PyTorch", 0.0, TINY, Workload.lightning, Workload.pytorch),
        ):
            load = Workload(root, store, options, batch, max(int(asked.share * steps), 4))
            compare(name, goal, partial(ours, load, asked.threads), partial(bare, load, asked.threads), asked.rounds)
        options, batch, steps = TINY
        load = Workload(root, store, options, batch, max(int(asked.share * 2 * steps), 4))
        shares = [load.logging(asked.threads) for _ in range(asked.rounds)]
        print(
            f"logging: {100 * statistics.median(shares):.2f} % of the CPU seconds of the steps "
            f"({asked.rounds} rounds: {100 * min(shares):.2f} to {100 * max(shares):.2f}; goal below 2)"
        )


if __name__ == "__main__":
    main()
