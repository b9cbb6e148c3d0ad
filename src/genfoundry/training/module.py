"""The LightningModule of all families: steps every loss of any objective, keeps the EMA, checks for divergence.

All that a step draws is keyed by (seed, step, example), and batch and learning rate are functions of the step, so a
run continued from step n is the run that was never stopped: no random state, sampler or schedule has to be saved.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genfoundry.config.sections.augment import Augment
from genfoundry.config.sections.training import Training
from genfoundry.config.specs import DataSpec, GridSpec
from genfoundry.core.errors import DivergedError
from genfoundry.nn.contract import Batch, Model, Step, TokenBatch
from genfoundry.nn.dropout import Dropout, key_dropout
from genfoundry.training.distributed import clip, full_state, load_state, reshard, shard
from genfoundry.training.objective import Objective
from genfoundry.training.optim import make_optimizers, rate_factor, set_rate
from genfoundry.training.steps import Averager, Precision, Sums, augmented, in_parts, seed_generators, seed_of, targets

VALIDATION_SEED = 2**40
"""Seed of validation noise: fixed, and above all training seeds."""


class Trainee(pl.LightningModule):
    """A model in training; a batch of Lightning's is a burst, several batches that are stepped one after the other."""

    def __init__(self, objective: Objective, training: Training, spec: DataSpec) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.objective = objective.model, objective
        self.training_settings, self.spec = training, spec
        self.done = 0
        """Steps done."""
        self.history: list[dict[str, float]] = []
        """Points of the loss curve."""
        self.averager: Averager | None = None
        self.numerics = Precision(training.precision)
        self.sums = Sums()
        self.between_steps: Callable[[], None] = lambda: None
        """Called after each step of a burst but the last: may save, may stop the run."""
        self._saved: dict[str, Any] | None = None
        self._groups: dict[str, tuple[list[nn.Parameter], list[torch.optim.Optimizer]]] = {}
        self._names: dict[str, tuple[str, str]] = {}
        self._keyed = False

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        settings, hidden = self.training_settings, self.model.hidden_matrices()
        losses = self.objective.losses()
        for name, parameters in losses.items():
            mine = make_optimizers(parameters, hidden, settings.optimizers.get(name, settings.optimizer))
            self._groups[name] = parameters, mine
            suffix = f"_{name}" if len(losses) > 1 else ""
            self._names[name] = f"grad_norm{suffix}", f"lr{suffix}"
        return self.all_optimizers

    @property
    def all_optimizers(self) -> list[torch.optim.Optimizer]:
        return [optimizer for _, mine in self._groups.values() for optimizer in mine]

    def begin(self) -> None:
        """Counters, scale and average of a run that starts from the weights as they are."""
        settings = self.training_settings
        self.done, self.sums, self.numerics = 0, Sums(), Precision(settings.precision)
        self.averager = Averager(self.model, settings.ema) if settings.ema else None

    def on_fit_start(self) -> None:
        """Move the restored state to the devices."""
        settings = self.training_settings
        self.objective.to(self.device)
        self._keyed = settings.determinism == "bitwise" and any(isinstance(m, Dropout) for m in self.model.modules())
        key_dropout(self.model, None, settings.seed, 0)
        saved, self._saved = self._saved, None
        if saved and saved["average"] is not None:
            load_state(self.model, [], saved["average"], [])
        if settings.ema:
            self.averager = Averager(self.model, settings.ema)
        if saved:
            load_state(self.model, self.all_optimizers, saved["model"], saved["optimizers"])
            self._restore_sums(saved["sums"])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, place: int) -> Any:
        # Lightning walks through every element of a batch even if nothing has to move.
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, place)

    def training_step(self, burst: Sequence[Batch], number: int) -> None:
        for place, batch in enumerate(burst):
            if place:
                self.between_steps()
            self.step(batch)
        self.check()
        if self.done % self.training_settings.log_every == 0 or self.done == self.training_settings.steps:
            self._point()

    def step(self, batch: Batch) -> None:
        """One optimizer step of every loss."""
        settings, several = self.training_settings, len(self._groups) > 1
        step = Step(self.done, settings.steps, settings.seed, settings.augment)
        # What a family draws from torch's own generator is keyed by step and rank as well.
        seed_generators(seed_of(settings.seed, self.done, self.global_rank), self.device)
        if settings.augment != Augment() and not self.objective.augments:
            assert isinstance(self.spec, GridSpec)
            batch = augmented(batch, step, self.spec.range)
        batch = self.objective.prepare(batch, step)
        factor = rate_factor(settings.schedule, self.done, settings.steps)
        fitted = True
        for name, (parameters, optimizers) in self._groups.items():
            with self._only(name) if several else nullcontext():
                self.gradient(name, batch, step)
            self.numerics.unscale(parameters)
            norm = clip(parameters, settings.clip)
            if self.numerics.fits(norm):
                for optimizer in optimizers:
                    set_rate(optimizer, factor)
                    optimizer.step()
                self.sums.add(self._names[name][0], norm)
            else:
                fitted = False
            for parameter in parameters:
                parameter.grad = None
        self.numerics.update(fitted)
        if self.averager:
            self.averager.update(self.done)
        self.done += 1

    def gradient(self, name: str, batch: Batch, step: Step) -> None:
        """Gradient of the mean over the batch, taken in parts; ranks exchange it with the last part."""
        total = self._targets(batch)
        pieces = in_parts(batch, self.training_settings.accumulate, total)
        whole = len(pieces) == 1 and total is None
        for place, (piece, share) in enumerate(pieces):
            if self._keyed:
                key_dropout(self.model, piece.index, step.seed, step.number)
            with self.unsynced() if place < len(pieces) - 1 else nullcontext():
                with self.numerics.autocast(self.device):
                    loss = self.objective.loss(name, piece, step)
                shared = loss.total if whole else loss.total * share
                scaled = shared * self.numerics.scale if self.numerics.scaled else shared
                # Lightning's backward synchronises ranks; in one process it would only cost time.
                scaled.backward() if self.trainer.world_size == 1 else self.manual_backward(scaled)
            for what, value in {name: loss.total, **loss.parts}.items():
                self.sums.add(what, value if whole else value.detach() * share, int(place == 0))

    def _targets(self, batch: Batch) -> Tensor | None:
        """Target tokens of a rank, on average: gradients are averaged over ranks, whose windows differ in length."""
        if self.trainer.world_size == 1 or not isinstance(batch, TokenBatch):
            return None
        return self.trainer.strategy.reduce(targets(batch), reduce_op="mean")  # type: ignore[return-value]

    def unsynced(self) -> AbstractContextManager[Any]:
        """Context without gradient synchronisation between ranks."""
        block = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        return block()  # type: ignore[no-any-return]

    @contextmanager
    def _only(self, name: str) -> Iterator[None]:
        """Enable gradients only for the parameters of this loss: a generator's loss must not fill its critic's."""
        mine = {id(parameter) for parameter in self._groups[name][0]}
        groups = [parameters for parameters, _ in self._groups.values()]
        others = [p for group in groups for p in group if id(p) not in mine and p.requires_grad]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def check(self) -> None:
        """Raise if a loss or a gradient since the last point is not finite.

        Raises:
            DivergedError: Names what is not finite.
        """
        if bad := self.sums.faults():
            raise DivergedError(
                f"step {self.done}: {', '.join(bad)} (mean since the last point of the curve); lower "
                "training.optimizer.lr or training.clip. The last good checkpoint is kept"
            )

    def _point(self) -> None:
        """A point of the curve: means over all ranks since the last point."""
        means = self.sums.means()
        if self.trainer.world_size > 1:
            means = self.all_gather(means).mean(0)
        point = dict(zip(self.sums.totals, means.tolist(), strict=True))
        if len(self._groups) > 1:
            # Plots draw one column for every family: of several losses, the first one's.
            point = {"loss": point[next(iter(self._groups))], **point}
        self.sums.clear()
        if self.numerics.scaled:
            point |= {"loss_scale": self.numerics.scale, "skipped_steps": self.numerics.skipped}
        self.history.append({"step": self.done, **point, **self._rates()})

    def _rates(self) -> dict[str, float]:
        """Learning rates of the last step, by loss where there are several."""
        factor = rate_factor(self.training_settings.schedule, self.done - 1, self.training_settings.steps)
        settings = self.training_settings
        peaks = {name: settings.optimizers.get(name, settings.optimizer).lr for name in self._groups}
        return {self._names[name][1]: peak * factor for name, peak in peaks.items()}

    @contextmanager
    def kept_weights(self) -> Iterator[Model]:
        """The model in eval mode with the weights that would be kept: the EMA's if there is one."""
        if self.averager:
            self.averager.swap()
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train()
            reshard(self.model)
            if self.averager:
                self.averager.swap()

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch]) -> float:
        """Mean of the first loss over the batches of this rank and all others."""
        name = next(iter(self._groups))
        step = Step(self.training_settings.steps, self.training_settings.steps, VALIDATION_SEED)
        total = torch.zeros(2, dtype=torch.float64)
        with self.kept_weights(), self.numerics.autocast(self.device):
            for batch in batches:
                batch = self.trainer.strategy.batch_to_device(batch, self.device)
                batch = self.objective.prepare(batch, step)
                count = float(targets(batch))
                loss = self.objective.loss(name, batch, step).total
                if not count:
                    continue
                total += torch.tensor([float(loss) * count, count], dtype=torch.float64)
        if self.trainer.world_size > 1:
            total = self.all_gather(total.to(self.device)).sum(0).cpu()
        return float(total[0] / total[1].clamp(min=1))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as plain types and tensors; every rank has to ask for it.

        Raises:
            DivergedError: A loss, a gradient norm or a weight is not finite.
        """
        self.check()
        whole = full_state(self.model, self.all_optimizers)
        bad = [name for name, tensor in whole["model"].items() if not torch.isfinite(tensor).all()]
        if bad:
            raise DivergedError(f"step {self.done}: weights {bad[0]} are not finite; lower training.optimizer.lr")
        average = None
        if self.averager:
            with self.kept_weights() as model:
                kept = full_state(model, [])["model"]
                average = {name: tensor.clone() for name, tensor in kept.items()}
        return {
            "step": self.done,
            "model": whole["model"],
            "optimizers": whole["optimizers"],
            "average": average,
            "precision": self.numerics.state(),
            "history": self.history,
            "sums": self._all_sums(),
        }

    def _all_sums(self) -> dict[str, Any]:
        """Names, counts, and float32 (ranks, names) of each rank's own sums."""
        values = torch.stack(list(self.sums.totals.values())) if self.sums.totals else torch.zeros(0)
        if self.trainer.world_size > 1:
            values = self.all_gather(values.to(self.device))
        return {"counts": dict(self.sums.counts), "values": values.view(self.trainer.world_size, -1).cpu()}

    def _restore_sums(self, saved: dict[str, Any]) -> None:
        """Each rank its own; a run that goes on with another number of processes takes the mean."""
        values = saved["values"]
        mine = values[self.global_rank] if len(values) == self.trainer.world_size else values.mean(0)
        self.sums.counts = dict(saved["counts"])
        self.sums.totals = {name: mine[place].clone().to(self.device) for place, name in enumerate(saved["counts"])}

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a state; tensors on devices are loaded when the fit starts."""
        self.done, self.history = state["step"], state["history"]
        self.numerics.restore(state["precision"])
        self._saved = state
