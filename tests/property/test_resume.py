"""A training killed once or twice, at any step and however configured, leaves what the undisturbed one does."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trainline import SPECS, killed_after, outputs, tiny, train

from genfoundry.core import parts

FAMILIES = parts.names("models")
STEPS = 7


def run(root: Path, family: str, training: dict[str, Any], checkpoint_every: float = 1e9) -> None:
    kind, options = tiny(family)
    values = {"steps": STEPS, "val_every": 3, "log_every": 4, "sample_every": 5, **training}
    train(root, family, kind, options, values, {"checkpoint_every": checkpoint_every})


@cache
def undisturbed(family: str, optimizer: str, ema: float, accumulate: int) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), family, settings_of(optimizer, ema, accumulate))
        return outputs(Path(folder))


def settings_of(optimizer: str, ema: float, accumulate: int) -> dict[str, Any]:
    return {"optimizer": {"name": optimizer}, "ema": ema, "accumulate": accumulate}


@cache
def optimizers_of(family: str) -> list[str]:
    """Muon only where every objective has matrices for it."""
    kind, options = tiny(family)
    model = parts.load("models", family).build(options, SPECS[kind])
    hidden = {id(parameter) for parameter in model.hidden_matrices()}
    matrices = all(any(id(p) in hidden for p in parameters) for parameters in model.losses().values())
    return ["adamw", "sgd", *["muon"] * matrices]


@st.composite
def runs(draw: st.DrawFn) -> tuple[str, str, float, int]:
    family = draw(st.sampled_from(FAMILIES))
    return (
        family,
        draw(st.sampled_from(optimizers_of(family))),
        draw(st.sampled_from([0.0, 0.9])),
        draw(st.integers(1, 2)),
    )


every_step = st.sampled_from([1e-9, 1e9])
"""Seconds between checkpoints: after every step, or none at all."""


@settings(max_examples=settings.default.max_examples // 2)  # each trains up to four times
@given(run_of=runs(), kills=st.lists(st.integers(1, STEPS), min_size=1, max_size=2), moment=every_step)
@example(run_of=("vae", "adamw", 0.9, 2), kills=[2, 6], moment=1e-9)
@example(run_of=("transformer", "muon", 0.9, 2), kills=[3, 5], moment=1e-9)
def test_kills_leave_no_trace(run_of: tuple[str, str, float, int], kills: list[int], moment: float) -> None:
    family, training = run_of[0], settings_of(*run_of[1:])
    with tempfile.TemporaryDirectory() as folder:
        for kill in sorted(set(kills)):
            with killed_after(kill):
                run(Path(folder), family, training, moment)
            torch.manual_seed(kill)
        run(Path(folder), family, training)

        assert outputs(Path(folder)) == undisturbed(*run_of)
