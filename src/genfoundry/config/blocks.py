"""What blocks of params.yaml, of specs and of requests have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from genfoundry.core.parts import KEY_PATTERN

Key = Annotated[str, Field(pattern=KEY_PATTERN, max_length=64)]
"""A name that may stand in a shell command and in a path."""


class Section(BaseModel):
    """A block of params.yaml: frozen, unknown keys refused, attribute docstrings kept for docs/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
