"""Section `reference`: the feature network and the baselines that scores are computed with."""

from typing import Any

from pydantic import Field

from genfoundry.config.specs import Key, Section


class Reference(Section):
    """The feature network (images) and the n-gram baselines (text) that scores are computed with."""

    features: int = Field(default=32, ge=2)
    """Width of the feature network's embedding; the smaller of this and N/10 is used, N the held-out records."""
    steps: int = Field(default=600, ge=1)
    """Training steps of the feature network."""
    seed: int = Field(default=0, ge=0)
    """Seed of the feature network."""
    max_error_ratio: float = Field(default=0.8, gt=0)
    """The network's held-out error may be at most this share of a linear classifier's, else PCA features are used."""
    networks: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    """Published networks to score with as well, by the name of a file under evaluation/networks/, and their options."""
