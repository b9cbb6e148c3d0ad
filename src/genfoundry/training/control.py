"""Callback between bursts of steps: validation, checkpoint selection, pictures, checkpoints, stopping on signals."""

import copy
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch

from genfoundry.config.sections.training import Training
from genfoundry.core.errors import PreemptedError
from genfoundry.core.progress import Progress
from genfoundry.nn.contract import Batch, Model
from genfoundry.training.batches import picture_every
from genfoundry.training.checkpoints import Checkpoints
from genfoundry.training.curve import Curve
from genfoundry.training.distributed import full_state
from genfoundry.training.module import Trainee


class Selection:
    """Checkpoint selection: the weights that will become the model, and the validation losses behind the choice."""

    def __init__(self, training: Training, losses: int = 1) -> None:
        self.training = training
        self.select = training.select if training.select != "auto" else "best" if losses == 1 else "last"
        self.best: dict[str, torch.Tensor] = {}
        self.best_step, self.best_loss = 0, math.inf
        self.validations: list[dict[str, float]] = []

    def offer(self, step: int, loss: float, weights: dict[str, torch.Tensor]) -> None:
        """Record a validation loss and keep the weights if they are the best so far."""
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
    """Acts when a burst of steps ends, and in a single process between its steps too.

    Every decision that needs all ranks is taken by all of them, at the end of a burst.
    """

    def __init__(
        self,
        training: Training,
        selection: Selection,
        checkpoints: Checkpoints,
        checkpoint_every_s: float,
        validation: Callable[[int, int], Iterator[Batch]],
        picture: Callable[[Model, int, bool], None],
        curve: Curve,
        announce: Callable[[Trainee], None],
        progress: Progress,
    ) -> None:
        self.training, self.selection, self.checkpoints = training, selection, checkpoints
        self.every_s, self.validation, self.picture = checkpoint_every_s, validation, picture
        self.curve, self.announce, self.progress = curve, announce, progress
        self.signal, self.saved_at = 0, time.monotonic()
        self.started_at, self.first_step = 0.0, 0

    def _catch(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        # Here and not in on_fit_start: Lightning installs its own handlers after that (tried).
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._catch)
        assert isinstance(module, Trainee)
        if trainer.world_size == 1:
            module.between_steps = lambda: self.between(trainer, module)
        self.announce(module)
        self.started_at, self.first_step = time.monotonic(), module.done
        self.curve.start(module, self.selection.validations)

    def between(self, trainer: pl.Trainer, module: Trainee) -> None:
        """Save and stop where this is asked for or due; a single process may do so after any step."""
        if self.signal or time.monotonic() - self.saved_at > self.every_s:
            with self.curve.paused():
                self._save_and_stop(trainer, module, self.signal)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *rest: Any) -> None:
        assert isinstance(module, Trainee)
        self.curve.add(module)
        with self.curve.paused():
            self._burst_ended(trainer, module)

    def _burst_ended(self, trainer: pl.Trainer, module: Trainee) -> None:
        step, last = module.done, module.done == self.training.steps
        if step % self.training.val_every == 0 or last:
            loss = module.validate(self.validation(trainer.global_rank, trainer.world_size))
            with module.kept_weights() as model:
                self.selection.offer(step, loss, full_state(model, [])["model"])
            self.curve.validated(step, loss)
        if step % picture_every(self.training) == 0 or last:
            # Every rank draws: where weights are divided, none can do so alone.
            with module.kept_weights() as model:
                self.picture(model, step, trainer.is_global_zero)
        if trainer.is_global_zero:
            first = next(iter(module.objective.losses()))
            note = f"{first} {module.history[-1][first]:.4g}" if module.history else ""
            self.progress.advance(step - self.progress.done, note)
        number, due = self._agreed(trainer, module)
        if number or due:
            self._save_and_stop(trainer, module, number)
        if self.selection.exhausted:
            trainer.should_stop = True

    def _agreed(self, trainer: pl.Trainer, module: Trainee) -> tuple[int, bool]:
        """A signal that any rank got, and whether any rank's clock says that it is time to save."""
        due = time.monotonic() - self.saved_at > self.every_s
        if trainer.world_size == 1:
            return self.signal, due
        votes = torch.tensor([self.signal, int(due)], device=module.device)
        torch.distributed.all_reduce(votes, torch.distributed.ReduceOp.MAX)
        return int(votes[0]), bool(votes[1])

    def _save_and_stop(self, trainer: pl.Trainer, module: Trainee, number: int) -> None:
        """Save; end the run if a signal came.

        Raises:
            PreemptedError: ``number`` is a signal's.
        """
        # Log all points up to the checkpoint: a resumed run does not compute them again.
        self.curve.flush()
        state = module.state()
        if trainer.is_global_zero:
            facts = {"selection": self.selection.state(), "threads": torch.get_num_threads()}
            self.checkpoints.save(module.done, {"module": state, **facts})
        self.saved_at = time.monotonic()
        if number:
            name = signal.Signals(number).name
            raise PreemptedError(f"stopped by {name} after step {module.done}; dvc repro goes on from there")
