"""Import bases: pretrained models from outside, verified by digest and converted to genfoundry's format."""

from pathlib import Path

from genfoundry.config.sections.base import Base
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import canonical_json, read_json, tree_digest

FACTS = "base.json"
"""Digest, format and licence of what a base was imported from."""


def import_base(base: Base, root: Path, key: str, folder: Path) -> None:
    """Write a base into a folder that is being published; the empty one if it names no path.

    Raises:
        ConfigError: Nothing lies at the path, its digest is not named, or it is of another format than is said.
        DataError: What lies there is not what the digest is of.
    """
    if not base.path:
        (folder / FACTS).write_bytes(canonical_json({"empty": True}))
        return
    source, where = root / base.path, f"params.yaml: 'bases.{key}"
    if not source.exists():
        raise ConfigError(f"{where}.path' is {base.path!r}: no such file or folder; put the model there")
    module = parts.load("formats", base.format)
    if not module.recognise(source):
        others = {name: parts.load("formats", name).recognise(source) for name in parts.names("formats")}
        found = next((f"{said}; set it to {name}" for name, said in others.items() if said), "")
        found = found or f"{looks_like(source)}; formats there are: {', '.join(others)}"
        raise ConfigError(f"{where}.format' is {base.format!r}, but {base.path} is {found}")
    digest = tree_digest(source)
    if not base.sha256:
        raise ConfigError(f"{where}.sha256' is missing; of what lies at {base.path} it is {digest}: write it there")
    if digest != base.sha256:
        raise DataError(
            f"{where}.sha256' is {base.sha256}, but what lies at {base.path} has {digest}: it was changed; put the "
            "model back that is meant, or write the new digest"
        )
    module.convert(source, folder)
    facts = {"format": base.format, "sha256": digest, "license": base.license}
    (folder / FACTS).write_bytes(canonical_json(facts))


def looks_like(source: Path) -> str:
    """Guess the format of a file or folder that no importer reads, for an error message."""
    if source.is_file():
        with source.open("rb") as file:
            gguf = file.read(4) == b"GGUF"
        return "a GGUF file" if gguf else f"a file that ends in {source.suffix or 'nothing'}"
    if (source / "config.json").is_file():
        config = read_json(source / "config.json")
        kind = config.get("model_type") if isinstance(config, dict) else None
        named = f"a Hugging Face folder (model_type {kind!r})"
        return named if kind else "a folder with a config.json that names no family"
    if any(source.glob("*.bin")) or any(source.glob("*.pt*")):
        return "a folder of pickled weights, which may run code when they are read"
    names = sorted(path.name for path in source.iterdir())
    return f"a folder of {', '.join(names[:5]) or 'nothing'}"
