"""The one LightningModule: steps every objective of any family, averages weights, watches for divergence.

All that a step draws is keyed by (seed, step, example), so a run continued from step n is the run that was never
stopped.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genfoundry.errors import DivergedError
from genfoundry.nn.contract import Batch, Model, Step
from genfoundry.settings import Training
from genfoundry.training.optim import make_optimizers, rate_factor, set_rate

VALIDATION_SEED = 2**40
"""Noise of validation is always the same, and never that of training (whose seeds are smaller)."""


class Averager:
    """Exponential moving average of weights; buffers are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for name, tensor in model.state_dict().items():
            mine = self.state[name]
            if mine.is_floating_point():
                mine.lerp_(tensor.to(mine.device), 1 - self.decay)
            else:
                mine.copy_(tensor)


class Trainee(pl.LightningModule):
    """A model in training."""

    def __init__(self, model: Model, training: Training) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model, self.training_settings = model, training
        self.done = 0
        """Steps done."""
        self.history: list[dict[str, float]] = []
        """Points of the loss curve."""
        self.averager = Averager(model, training.ema) if training.ema else None
        self._sums: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=self.device))
        self._counts: dict[str, int] = defaultdict(int)
        self._saved_optimizers: list[Any] | None = None
        self._optimizers_of: dict[str, range] = {}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        made: list[torch.optim.Optimizer] = []
        hidden = self.model.hidden_matrices()
        for objective, parameters in self.model.objectives().items():
            mine = make_optimizers(list(parameters), hidden, self.training_settings.optimizer)
            self._optimizers_of[objective] = range(len(made), len(made) + len(mine))
            made += mine
        return made

    def on_fit_start(self) -> None:
        if self.averager:
            self.averager.state = {name: tensor.to(self.device) for name, tensor in self.averager.state.items()}
        if self._saved_optimizers is not None:
            for optimizer, state in zip(self.trainer.optimizers, self._saved_optimizers, strict=True):
                optimizer.load_state_dict(state)

    def training_step(self, batch: Batch, number: int) -> None:
        settings = self.training_settings
        step = Step(self.done, settings.steps, settings.seed)
        # Dropout and the like draw from torch's own generator; key it by step and rank as well.
        torch.manual_seed(hash((settings.seed, self.done, self.global_rank)) % 2**63)
        factor = rate_factor(settings.schedule, self.done, settings.steps)
        optimizers = self.optimizers(use_pl_optimizer=True)
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        for objective, parameters in self.model.objectives().items():
            with self._only(parameters):
                loss = self.model.loss(objective, batch, step)
                self.manual_backward(loss.total)
            norm = nn.utils.clip_grad_norm_(parameters, settings.clip or math.inf)
            for place in self._optimizers_of[objective]:
                set_rate(optimizers[place], factor)
                optimizers[place].step()
                optimizers[place].zero_grad(set_to_none=True)
            self._note({objective: loss.total.detach(), **loss.parts, "grad_norm": norm})
        if self.averager:
            self.averager.update(self.model)
        self.done += 1
        if self.done % settings.log_every == 0 or self.done == settings.steps:
            self._point(settings.optimizer.lr * factor)

    @contextmanager
    def _only(self, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
        """Let gradient reach these parameters alone: a generator's loss must not fill its critic's gradients."""
        mine = {id(parameter) for parameter in parameters}
        others = [p for p in self.model.parameters() if id(p) not in mine and p.requires_grad]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _note(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self._sums[name] = self._sums[name] + value.detach().float()
            self._counts[name] += 1

    def _point(self, rate: float) -> None:
        """A point of the curve: means over all ranks since the last point; stops at the first that is not finite."""
        names = list(self._sums)
        means = torch.stack([self._sums[name] / self._counts[name] for name in names])
        if self.trainer.world_size > 1:
            means = self.all_gather(means).mean(0)
        self._sums.clear()
        self._counts.clear()
        point = dict(zip(names, means.tolist(), strict=True))
        bad = [f"{name} is {value}" for name, value in point.items() if not math.isfinite(value)]
        if bad:
            raise DivergedError(
                f"step {self.done}: {', '.join(bad)}; lower training.optimizer.lr or training.clip. "
                "The last good checkpoint is kept"
            )
        self.history.append({"step": self.done, **point, "lr": rate})

    @contextmanager
    def kept_weights(self) -> Iterator[Model]:
        """The model in eval mode with the weights that would be kept: averaged ones if there is an average."""
        raw = None
        if self.averager:
            raw = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
            self.model.load_state_dict(self.averager.state)
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train()
            if raw is not None:
                self.model.load_state_dict(raw)

    @torch.no_grad()
    def validate(self, batches: Iterator[Batch]) -> float:
        """Mean loss of the first objective over the batches of this rank and all others."""
        objective = next(iter(self.model.objectives()))
        step = Step(self.training_settings.steps, self.training_settings.steps, VALIDATION_SEED)
        total = torch.zeros(2, dtype=torch.float64)
        with self.kept_weights() as model:
            for batch in batches:
                batch = self.trainer.strategy.batch_to_device(batch, self.device)
                count = float(batch.mask[:, 1:].sum()) if hasattr(batch, "mask") else float(len(batch.index))
                loss = model.loss(objective, batch, step).total
                total += torch.tensor([float(loss) * count, count], dtype=torch.float64)
        if self.trainer.world_size > 1:
            total = self.all_gather(total.to(self.device)).sum(0).cpu()
        return float(total[0] / total[1].clamp(min=1))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as plain types and tensors."""
        return {
            "step": self.done,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.trainer.optimizers],
            "average": self.averager.state if self.averager else None,
            "history": self.history,
            "sums": dict(self._sums),
            "counts": dict(self._counts),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a state; optimizers follow when the fit starts."""
        self.done, self.history = state["step"], state["history"]
        self.model.load_state_dict(state["model"])
        if self.averager:
            self.averager.state = state["average"]
        self._saved_optimizers = state["optimizers"]
        self._sums.update(state["sums"])
        self._counts.update(state["counts"])
