"""Section `sampling`: how samples are drawn; a family adds its own fields."""

from typing import ClassVar

from pydantic import Field

from genfoundry.config.specs import Section


class Sampling(Section):
    """How samples are drawn for evaluation; a family adds its own fields (length, temperature; steps, guidance)."""

    generator: ClassVar[frozenset[str]] = frozenset()
    """Fields that make part of what is judged, as the weights do (sampler, steps, guidance of a diffusion model):
    scores may be compared across them. All other fields are protocol: scores of different ones are never compared.
    """

    n: int = Field(default=0, ge=0)
    """Number of samples; 0 takes as many as there are test records (images) or 64 (text)."""
    seed: int = Field(default=0, ge=0)
    """Sample i is drawn with seed ``seed * 2**32 + i``, so it does not depend on batch size or devices."""
    batch: int = Field(default=32, ge=1)
    """Rows of every matrix in which samples are computed, a sample alone too (the others are dummies): more are faster
    by the sample and slower for one. Another number gives other last digits, as it is another order of sums.
    """
