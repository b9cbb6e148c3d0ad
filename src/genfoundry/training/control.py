"""What happens between steps: validation, choice of weights, pictures, checkpoints, and stopping when asked."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from genfoundry.errors import PreemptedError
from genfoundry.nn.contract import Batch, Model
from genfoundry.progress import Progress
from genfoundry.settings import Training
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.module import Trainee


class Selection:
    """The weights that will become the model, and the validations that chose them."""

    def __init__(self, training: Training, objectives: int = 1) -> None:
        self.training = training
        self.select = training.select if training.select != "auto" else "best" if objectives == 1 else "last"
        self.best: dict[str, torch.Tensor] = {}
        self.best_step, self.best_loss = 0, math.inf
        self.validations: list[dict[str, float]] = []

    def offer(self, step: int, loss: float, weights: dict[str, torch.Tensor]) -> None:
        """Note a validation and keep the weights if they are the choice so far."""
        self.validations.append({"step": step, "val_loss": loss})
        if self.select == "last" or loss < self.best_loss:
            self.best_step, self.best_loss = step, loss
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}

    @property
    def exhausted(self) -> bool:
        """True when ``patience`` validations brought nothing better."""
        since = [point for point in self.validations if point["step"] > self.best_step]
        return bool(self.training.patience) and len(since) >= self.training.patience

    def state(self) -> dict[str, Any]:
        names = ("best", "best_step", "best_loss", "validations")
        return {name: copy.copy(getattr(self, name)) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


class Control(pl.Callback):
    """Acts after each step; every decision that needs all ranks is taken by all of them."""

    def __init__(
        self,
        training: Training,
        selection: Selection,
        checkpoints: Checkpoints,
        checkpoint_every_s: float,
        validation: Callable[[int, int], Iterator[Batch]],
        picture: Callable[[Model, int], None],
        curve: Callable[[Trainee], None],
        progress: Progress,
    ) -> None:
        self.training, self.selection, self.checkpoints = training, selection, checkpoints
        self.every_s, self.validation, self.picture = checkpoint_every_s, validation, picture
        self.curve, self.progress = curve, progress
        self.signal, self.saved_at = 0, time.monotonic()
        self.started_at, self.first_step = 0.0, 0

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Here and not in on_fit_start: Lightning installs its own handlers after that (tried).
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._catch)
        assert isinstance(module, Trainee)
        self.started_at, self.first_step = time.monotonic(), module.done

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        assert isinstance(module, Trainee)
        step, last = module.done, module.done == self.training.steps
        if step % self.training.val_every == 0 or last:
            loss = module.validate(self.validation(trainer.global_rank, trainer.world_size))
            with module.kept_weights() as model:
                self.selection.offer(step, loss, model.state_dict())
        every = self.training.sample_every or max(self.training.steps // 4, 1)
        if trainer.is_global_zero and (step % every == 0 or last):
            with module.kept_weights() as model:
                self.picture(model, step)
        if trainer.is_global_zero:
            newest = module.history[-1] if module.history else {}
            objective = next(iter(module.model.objectives()))
            self.progress.advance(1, f"{objective} {newest[objective]:.4g}" if newest else "")
            self.curve(module)
        stop = self._agreed(trainer, module)
        if stop:
            self._save(trainer, module)
            raise PreemptedError(
                f"stopped by {signal.Signals(stop).name} after step {step}; dvc repro goes on from there"
            )
        if self.selection.exhausted:
            trainer.should_stop = True

    def _agreed(self, trainer: pl.Trainer, module: Trainee) -> int:
        """A signal that any rank got; also saves when it is time, by rank zero's clock."""
        due = time.monotonic() - self.saved_at > self.every_s
        if trainer.world_size > 1:
            votes = torch.tensor([self.signal, int(due)], device=module.device)
            torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX)
            number, due = int(votes[0]), bool(votes[1])
        else:
            number = self.signal
        if due and not number:
            self._save(trainer, module)
        return number

    def _save(self, trainer: pl.Trainer, module: Trainee) -> None:
        self.saved_at = time.monotonic()
        if trainer.is_global_zero:
            self.checkpoints.save(module.done, {"module": module.state(), "selection": self.selection.state()})
