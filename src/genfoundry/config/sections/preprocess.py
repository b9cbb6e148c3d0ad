"""Section `preprocess`: how records are cleaned; a modality adds its own fields."""

from pydantic import Field

from genfoundry.config.specs import Section


class Preprocess(Section):
    """How records are cleaned; a modality adds its own fields."""

    max_dropped: float = Field(default=0.5, ge=0, le=1)
    """Largest share of records that may be dropped before the stage fails."""
