"""A tokenizer that a data set keeps while its data grow (``genfoundry accept --tokenizer``).

A retrained tokenizer changes with every record, and with it every token and the unit of each score per token.
A pinned one is a committed file that encode depends on: new data add their rows, and nothing else changes. People pin
it and remove it; no stage writes it.
"""

from pathlib import Path
from typing import Any

from genfoundry.config.sections.encode import Encode
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import read_json, write_json
from genfoundry.core.paths import DatasetPaths
from genfoundry.modalities.common.tokens import FILE

FOLDER = "presets/tokenizers"
"""Where pinned tokenizers lie: a dependency of every encode stage."""

FORMAT = 1

FIELDS = ("tokenizer", "vocab_size")
"""Settings of encode that a pinned tokenizer fixes."""


def path_of(paths: DatasetPaths) -> Path:
    """Where the tokenizer of a data set would be."""
    return paths.root / FOLDER / f"{paths.key}.json"


def pinned(paths: DatasetPaths, config: Encode) -> bytes | None:
    """Contents of a data set's pinned tokenizer; None if the tokenizer is to be trained.

    Raises:
        ConfigError: It was pinned under other settings.
        DataError: The file holds no tokenizer.
    """
    path = path_of(paths)
    if not path.is_file() or not _settings(config):
        return None
    held = read_json(path)
    if not isinstance(held, dict) or held.get("format") != FORMAT or not isinstance(held.get("file"), str):
        raise DataError(f"{path}: no tokenizer of format {FORMAT}; remove it, and pin one anew")
    for name, value in _settings(config).items():
        if held["settings"].get(name) != value:
            raise ConfigError(
                f"params.yaml: 'datasets.{paths.key}.encode.{name}' is {value!r}, but {FOLDER}/{path.name} was pinned "
                f"with {held['settings'].get(name)!r}; set it back, or remove the file to learn a tokenizer anew"
            )
    return str(held["file"]).encode()


def pin(paths: DatasetPaths, config: Encode) -> Path:
    """Pin the tokenizer of the current arrays; returns the file to commit.

    Raises:
        ConfigError: The data set has no tokens.
        DataError: Its arrays are not there.
    """
    if not _settings(config):
        raise ConfigError(f"datasets.{paths.key}: only text and code have a tokenizer; leave out --tokenizer")
    source = paths.arrays / FILE
    read_json(source)
    path = path_of(paths)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"format": FORMAT, "settings": _settings(config), "file": source.read_text("utf-8")})
    return path


def _settings(config: Encode) -> dict[str, Any]:
    return {name: getattr(config, name) for name in FIELDS if hasattr(config, name)}
