"""The block `retraining.servability` of params.yaml: what a model must manage before it may serve."""

from pydantic import Field

from genfoundry.config.specs import Section


class Servability(Section):
    """A model that can't be loaded and asked in a clean process is not promoted."""

    seconds: float = Field(default=120.0, gt=0)
    """Longest time from the start of the process to its answer."""
    memory_gib: float = Field(default=8.0, gt=0)
    """Largest memory of that process."""
