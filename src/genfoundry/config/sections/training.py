"""Section `training`: every setting that changes the trained weights."""

from typing import Any, Literal

from pydantic import Field

from genfoundry.config.sections.augment import Augment
from genfoundry.config.specs import Section


class Optimizer(Section):
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), SGD, or Muon (Jordan et al. 2024) and AdamW."""

    name: Literal["adamw", "muon", "sgd"] = "adamw"
    """muon takes the hidden matrices that the family names, AdamW all other parameters."""
    lr: float = Field(default=1e-3, gt=0)
    """Peak learning rate of AdamW or SGD."""
    muon_lr: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon, whose update has the same size whatever the gradient's."""
    muon_steps: Literal[3, 5] = 5
    """Newton-Schulz steps of Muon: 5 as published; 3 take three fifths of its time and leave the orthogonalisation
    rougher for the weakest directions.
    """
    betas: tuple[float, float] = (0.9, 0.99)
    """Decay of AdamW's averages of the gradient and of its square."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Nesterov momentum of SGD and Muon."""
    weight_decay: float = Field(default=0.01, ge=0)
    """On matrices only; gains and biases are left alone."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the denominator of AdamW."""


class Schedule(Section):
    """Learning rate over the run: linear warm-up, then the named decay to ``final`` of the peak."""

    name: Literal["cosine", "wsd", "linear", "constant"] = "cosine"
    """wsd: warm-up, stable, then decay by one minus the square root (Haegele et al. 2024, arXiv:2405.18392)."""
    warmup: int = Field(default=50, ge=0)
    """Steps of linear warm-up."""
    hold: float = Field(default=0.0, ge=0, lt=1)
    """Share of the run at the peak before the decay begins; wsd takes 0.8 where this is 0."""
    final: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step as a share of the peak."""


class Training(Section):
    """Settings of a training run that change the trained weights."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of weights, batches and noise."""
    steps: int = Field(default=1000, ge=1)
    """Batches to train on."""
    batch: int = Field(default=64, ge=1)
    """Examples in a global batch, over all devices: images, or windows of tokens."""
    accumulate: int = Field(default=1, ge=1)
    """Parts in which a device takes its share of a batch, one after the other, to save memory."""
    objective: dict[str, Any] = Field(default_factory=dict)
    """What is minimised: ``name`` of a file under ``objectives/`` and its settings; {} takes the family's own loss."""
    optimizer: Optimizer = Optimizer()
    optimizers: dict[str, Optimizer] = Field(default_factory=dict)
    """Optimizers by loss (generator, critic) that differ from ``optimizer``."""
    schedule: Schedule = Schedule()
    clip: float = Field(default=1.0, ge=0)
    """Largest gradient norm; 0 turns clipping off."""
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the EMA of the weights, which becomes the model; 0 keeps the raw weights. Over the first steps
    the decay is at most (1 + step) / (10 + step), so that the fresh weights are soon forgotten.
    """
    augment: Augment = Augment()
    select: Literal["auto", "best", "last"] = "auto"
    """Which weights become the model: lowest validation loss, or the last step's. auto: best for families with one
    loss; last for adversarial ones, whose losses measure the other player.
    """
    patience: int = Field(default=0, ge=0)
    """Stop after this many validations without a new best; 0 never stops early."""
    val_every: int = Field(default=100, ge=1)
    """Steps between validations."""
    val_batches: int = Field(default=0, ge=0)
    """Batches of a validation; 0 takes the whole validation split."""
    sample_every: int = Field(default=0, ge=0)
    """Steps between pictures of samples from the same requests; 0 takes a quarter of the steps."""
    log_every: int = Field(default=10, ge=1)
    """Steps between points of the loss curve; each point is the mean since the last one."""
    precision: Literal["32", "bf16-mixed", "16-mixed"] = "32"
    """16-mixed scales the loss against underflow (Micikevicius et al. 2018, arXiv:1710.03740)."""
    compile: bool = False
    """Compile the family's repeated blocks with torch.compile; needs determinism fast."""
    recompute: bool = False
    """Activation checkpointing: activations inside the family's repeated blocks are computed again in the backward pass
    (Chen et al. 2016, arXiv:1604.06174): less memory, about a third more time.
    """
    determinism: Literal["bitwise", "fast"] = "bitwise"
    """bitwise: equal inputs and equal execution give equal bytes; fast: equal records, batches, seeds and noise."""
