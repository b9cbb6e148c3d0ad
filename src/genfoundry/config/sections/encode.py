"""Section `encode`: how clean records become arrays; a modality adds its own fields."""

from genfoundry.config.specs import Section


class Encode(Section):
    """How clean records become arrays; a modality adds its own fields."""
