"""How pictures are shown: as they are."""

from genfoundry.modalities.common.media import GridMedia as Media

__all__ = ["Media"]
