"""How source files are shown: as they are."""

from genfoundry.modalities.common.media import TextMedia as Media

__all__ = ["Media"]
