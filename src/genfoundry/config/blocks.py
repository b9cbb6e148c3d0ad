"""Base class of the typed blocks of params.yaml, specs and requests."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from genfoundry.core.parts import KEY_PATTERN

Key = Annotated[str, Field(pattern=KEY_PATTERN, max_length=64)]
"""A name that may stand in a shell command and in a path."""


class Section(BaseModel):
    """A block of params.yaml: frozen, unknown keys refused, attribute docstrings kept for docs/settings.md."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
