"""A ``model/`` folder that genfoundry published."""

from pathlib import Path

from genfoundry.core.io import MANIFEST
from genfoundry.generation.modelfile import copy_model, load_model


def recognise(source: Path) -> str:
    """What is said of a file or folder of this format; empty for others."""
    return "a model folder of genfoundry" if (source / MANIFEST).is_file() else ""


def convert(source: Path, folder: Path) -> None:
    """Write the model into a folder that is being published.

    Raises:
        DataError: The folder is damaged.
        ConfigError: It holds no model.
    """
    load_model(source)
    copy_model(source, folder)
