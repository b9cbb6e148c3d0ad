"""A block under `bases:`, a model to start from."""

from genfoundry.config.specs import Section


class Base(Section):
    """A pretrained model to start from; without a path it is the empty base ``scratch``."""

    path: str = ""
    """Folder of a model that genfoundry made (its ``model/``)."""
