"""Log a run's training curves to MLflow, each point once, also across kills and resumes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from genfoundry.tracking.runs import NoRun, Run
from genfoundry.training.module import Trainee

SPARSE_S = 5.0
"""Seconds between learning rates and speeds: a number costs the store 0.1 ms, and these two say little at every point.
``history.csv`` has the rates of every point."""


class Curve:
    """Logs points of the curves and the training speed to the run, after those already logged."""

    def __init__(self, run: Run | NoRun, unit: str, per_step: int, flops: float = 0.0, peak: float = 0.0) -> None:
        """
        Args:
            run: Where to.
            unit: What is counted, ``samples`` or ``tokens``.
            per_step: How many of them a step sees, over all devices.
            flops: Floating-point operations of a step on one device; 0 where they were not counted.
            peak: What the device can do in a second; 0 where it is not known.
        """
        self.run, self.unit, self.per_step, self.flops, self.peak = run, unit, per_step, flops, peak
        self.sent = run.last_steps()
        self._mark, self._busy_s, self._step = time.monotonic(), 0.0, 0
        self._full_at = 0.0
        """When the next point is due that has everything; the first one has."""

    def start(self, module: Trainee, validations: Sequence[dict[str, float]]) -> None:
        """Send what a resumed run has seen and the store has not; start the clock."""
        for point in (*module.history, *validations):
            self._send(dict(point))
        self._restart(module.done)

    def _restart(self, step: int) -> None:
        self._mark, self._busy_s, self._step = time.monotonic(), 0.0, step

    def add(self, module: Trainee) -> None:
        """Send the newest point, if the burst ended in one; the first, the last and one in a while with everything."""
        if not module.history or module.history[-1]["step"] != module.done:
            return
        point, now = module.history[-1], time.monotonic()
        if now < self._full_at and module.done < module.training_settings.steps:
            rates = [name for name in point if name == "lr" or name.startswith("lr_")]
            self._send({name: value for name, value in point.items() if name not in rates})
            return
        seconds, steps = now - self._mark - self._busy_s, module.done - self._step
        speed = {f"{self.unit}_per_second": steps * self.per_step / seconds}
        if self.flops and self.peak:
            speed["mfu"] = self.flops * steps / seconds / self.peak
        self._send({**point, **speed})
        self._full_at = now + SPARSE_S
        self._restart(module.done)

    def validated(self, step: int, loss: float) -> None:
        self._send({"step": step, "val_loss": loss})
        self.flush()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time in this block from the speed of steps."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._busy_s += time.monotonic() - start

    def flush(self) -> None:
        self.run.flush()

    def _send(self, point: dict[str, float]) -> None:
        step = int(point.pop("step"))
        self.run.metrics({name: value for name, value in point.items() if step > self.sent.get(name, -1)}, step)
