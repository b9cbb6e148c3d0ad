"""Section `dedup`: which records count as duplicates; a modality adds its own fields."""

from pydantic import Field

from genfoundry.config.specs import Section


class Embeddings(Section):
    """Embeddings given by the user as a further criterion for near-duplicates."""

    source: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_./ -]*)?$")
    """File below presets/embeddings/: Parquet with an id and a list of numbers in each row, or .npz with ``ids`` (N)
    and ``embeddings`` (N, D). Every record that is deduplicated needs one. Empty for none.
    """
    id_column: str = "id"
    """Parquet column of the record's id."""
    column: str = "embedding"
    """Parquet column of the vector."""
    threshold: float = Field(default=0.95, gt=0, le=1)
    """Least cosine similarity of two duplicates; it depends on the embedding model, so check the pairs by eye."""


class Dedup(Section):
    """Which records count as duplicates; a modality adds its own fields."""

    embeddings: Embeddings = Embeddings()

    max_removed: float = Field(default=0.9, ge=0, le=1)
    """Largest share of records that deduplication may remove before the stage fails."""
