"""Section `ingest`: how the source is read; a modality adds its own fields."""

from pydantic import Field

from genfoundry.config.specs import Section


class Ingest(Section):
    """How the source is read; a modality adds its own fields."""

    max_rejected: float = Field(default=0.05, ge=0, le=1)
    """Largest share of records that may be set aside as unreadable before the stage fails."""
    shard: float = Field(default=16.0, gt=0)
    """Megabytes of content in a shard, about: what one process works on at a time, and what is worked on again when
    something in it changes.
    """
    shard_records: int = Field(default=0, ge=0)
    """Records in a shard, about, where that comes to less: work on small ones goes by their number; 0 for no bound."""
