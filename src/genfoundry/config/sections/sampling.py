"""Section `sampling`: how samples are drawn; a family adds its own fields. Some of them belong to the model.

A model is weights and generator settings (sampler, temperature). ``generator.json`` names both, and its sha256 is
the digest of a registered version, so that a changed temperature is a new version of the same weights.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from genfoundry.config.params import Settings, family_section, model_section, parse
from genfoundry.config.specs import Section
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import FORMAT, MANIFEST, canonical_json, folder_digest, read_json

GENERATOR = "generator.json"
"""File beside the weights of a registered version: format, digest of the weights' folder, settings of the generator."""


class Sampling(Section):
    """How samples are drawn for evaluation; a family adds its own fields (length, temperature; steps, guidance)."""

    generator: ClassVar[frozenset[str]] = frozenset()
    """Fields of the family that belong to the model as its weights do (sampler, steps, guidance; temperature, stop):
    they lie in a registered version, are what it answers with, and scores are compared across them. All other fields
    are protocol: number, seed, lengths, prompts; models are judged under the same, and scores under different ones are
    never compared.
    """

    n: int = Field(default=0, ge=0)
    """Number of samples; 0 takes as many as there are test records (images) or 64 (text)."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Sample i is drawn with seed ``seed * 2**32 + i``, so it does not depend on batch size or devices."""
    batch: int = Field(default=32, ge=1)
    """Rows of every matrix in which samples are computed, a sample alone too (the others are dummies): more are faster
    by the sample and slower for one. Another number gives other last digits, as it is another order of sums; so it
    belongs to the generator.
    """

    def of_generator(self) -> dict[str, Any]:
        """The fields that belong to the model, as JSON has them."""
        return self.model_dump(mode="json", include={"batch", *self.generator})

    def of_protocol(self) -> dict[str, Any]:
        """All other fields, as JSON has them."""
        return self.model_dump(mode="json", exclude={"batch", *self.generator})


def generator_of(tree: Settings, key: str) -> dict[str, Any]:
    """Settings of the generator of a model of params.yaml, with their defaults."""
    return model_section(tree, key, Sampling).of_generator()


def default_generator(family: str) -> dict[str, Any]:
    """Default settings of a family's generator."""
    return family_section(family, Sampling)().of_generator()


def combined(family: str, protocol: Mapping[str, Any], generator: Mapping[str, Any], where: str) -> Sampling:
    """A family's ``sampling`` section built from protocol fields and generator fields.

    Raises:
        ConfigError: The family does not know a field, or one of the generator belongs to the protocol.
    """
    found = parse(family_section(family, Sampling), {**protocol, **generator}, "sampling", where)
    own = found.of_generator()
    if others := [name for name in generator if name not in own]:
        raise ConfigError(
            f"{where}: 'sampling.{others[0]}' is no setting of the generator of family {family}, which has "
            f"{', '.join(own)}"
        )
    return found


def generator_json(weights: str, generator: Mapping[str, Any]) -> bytes:
    """``generator.json`` of a registered version, as bytes.

    Args:
        weights: Digest of the model folder.
        generator: Settings of the generator.
    """
    return canonical_json({"format": FORMAT, "weights": weights, "sampling": dict(generator)})


def release_digest(weights: str, generator: Mapping[str, Any]) -> str:
    """Digest of a model with its generator: sha256 of its ``generator.json``."""
    return hashlib.sha256(generator_json(weights, generator)).hexdigest()


def read_generator(folder: Path) -> dict[str, Any]:
    """Settings in the ``generator.json`` beside a model's files; empty without one.

    Raises:
        DataError: It is that of other weights.
    """
    if not (folder / GENERATOR).is_file():
        return {}
    found = read_json(folder / GENERATOR)
    if found["weights"] != folder_digest(folder):
        raise DataError(f"{folder / GENERATOR}: is of other weights than {MANIFEST}; fetch both again")
    return dict(found["sampling"])
