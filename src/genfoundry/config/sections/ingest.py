"""Section `ingest`: how the source is read; a modality adds its own fields."""

from pydantic import Field

from genfoundry.config.specs import Section


class Ingest(Section):
    """How the source is read; a modality adds its own fields."""

    max_rejected: float = Field(default=0.05, ge=0, le=1)
    """Largest share of records that may be rejected as unreadable before the stage fails."""
    shard: float = Field(default=16.0, gt=0)
    """Approximate megabytes of content per shard: the unit that one process works on, and that is computed again when a
    record in it changes.
    """
    shard_records: int = Field(default=0, ge=0)
    """Approximate maximum of records per shard; whichever of shard and shard_records is reached first ends it (0: no
    limit).
    """
