"""A block under `components:`, one model in a set of frozen models."""

from genfoundry.config.specs import Key, Section


class Component(Section):
    """One frozen model that other models learn from or are built on.

    DVC cannot list a mapping of unknown length as deps of a stage, so each component is an edge of its own, and a model
    depends on the folder of its set.
    """

    set: Key
    """Which set it belongs to: models name theirs in `components`."""
    role: Key
    """Its role for an objective or a family: reference, codec, text_encoder, reward, ..."""
    model: Key
    """A base or a model of this file."""
