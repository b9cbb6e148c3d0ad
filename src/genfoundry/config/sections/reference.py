"""Section `reference`: what scores are held against."""

from typing import Literal

from pydantic import Field

from genfoundry.config.specs import Section


class PretrainedNetwork(Section):
    """Published weights to score with, beside the data set's own network."""

    weights: str
    """File (inception), folder of a transformers model (dinov2, clip), or an http(s) address of a file."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """What the weights must hash to; empty takes the published one where it is known, else what is found."""


class Reference(Section):
    """What scores are held against; fields for images and for text."""

    features: int = Field(default=32, ge=2)
    """Width of the feature network's embedding; the smaller of this and N/10 is used, N the held-out records."""
    steps: int = Field(default=600, ge=1)
    """Training steps of the feature network."""
    seed: int = Field(default=0, ge=0)
    max_error_ratio: float = Field(default=0.8, gt=0)
    """The network's held-out error may be at most this share of a linear classifier's, else PCA features are used."""
    networks: dict[Literal["inception", "dinov2", "clip"], PretrainedNetwork] = Field(default_factory=dict)
    """Pretrained networks to score with as well: fid, isc and kid by inception, fd_dinov2, fd_clip."""
