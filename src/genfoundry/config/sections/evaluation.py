"""Section `evaluation`: which scores are computed."""

from typing import Any

from pydantic import Field

from genfoundry.config.specs import Key, Section


class Slices(Section):
    """Scores by group of records, to see for which groups a model is worse."""

    columns: tuple[str, ...] = ("label", "source")
    """Columns of the records: label, source (the file or top folder a record comes from), or one of the user's."""
    metrics: tuple[Key, ...] = ("kid_domain", "precision_domain", "recall_domain", "bits_per_byte")
    """Metrics to slice, as far as they apply."""
    min_n: int = Field(default=30, ge=3)
    """Fewest rows on each side; a smaller group is counted, not scored."""


class Template(Section):
    """A sentence with a gap and pairs of words to fill it: compares the NLL that the model gives to each of a pair."""

    text: str = Field(pattern=r"\{\}")
    """Text with ``{}`` where the words go, as ``{} is a doctor.``"""
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    """Words to compare, two by two."""


class Evaluation(Section):
    """Which scores are computed: by default every metric that the data allow."""

    metrics: dict[Key, dict[str, Any]] = Field(default_factory=dict)
    """Options by metric name, the name of a file under metrics/; also switches on those that are off by default."""
    skip: tuple[Key, ...] = ()
    """Metrics to leave out."""
    slices: Slices = Slices()
    templates: tuple[Template, ...] = ()
    """Prompt template pairs for language models."""
    window: int = Field(default=0, ge=0)
    """Tokens of context when documents are scored; 0 takes the model's own."""
    stride: int = Field(default=0, ge=0)
    """Tokens newly scored per window; 0 takes half the window."""
    batch: int = Field(default=64, ge=1)
    """Documents or samples scored at a time."""
