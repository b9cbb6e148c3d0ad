"""The block `retraining.servability` of params.yaml: time and memory limits for one answer of a model."""

from pydantic import Field

from genfoundry.config.specs import Section


class Servability(Section):
    """Limits within which a clean process must load the model and answer, or it is not promoted."""

    seconds: float = Field(default=120.0, gt=0)
    """Longest time from the start of the process to its answer."""
    memory_gib: float = Field(default=8.0, gt=0)
    """Largest memory of that process."""
