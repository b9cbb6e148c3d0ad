"""Section `encode`: how clean records become arrays; a modality adds its own fields."""

from pydantic import Field

from genfoundry.config.conditions import Wanted
from genfoundry.config.specs import Key, Section


class Encode(Section):
    """How clean records become arrays; a modality adds its own fields."""

    conditions: dict[Key, Wanted] = Field(default_factory=dict)
    """Columns of the records that become conditions of the model, besides the label, such as
    ``{caption: {kind: text, length: 64}, pitch: {kind: number}}``.
    """
