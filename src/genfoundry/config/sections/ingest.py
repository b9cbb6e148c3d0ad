"""Section `ingest`: how the source is read; a modality adds its own fields."""

from typing import ClassVar, Literal

from pydantic import Field

from genfoundry.config.specs import Section


class Ingest(Section):
    """How the source is read; a modality adds its own fields."""

    FOLDERS: ClassVar[Literal["labels", "places", "program"]] = "labels"
    """What folders are besides splits: labels, mere places, or parts of a program, where few called test are one."""
    TABLES: ClassVar[tuple[str, ...]] = ()
    """Name endings of files that hold many records, and may be named after a split."""

    max_rejected: float = Field(default=0.05, ge=0, le=1)
    """Largest share of records that may be rejected as unreadable before the stage fails."""
    shard: float = Field(default=16.0, gt=0)
    """Approximate megabytes of content per shard: the unit that one process works on, and that is computed again when a
    record in it changes.
    """
    shard_records: int = Field(default=0, ge=0)
    """Approximate maximum of records per shard; whichever of shard and shard_records is reached first ends it (0: no
    limit).
    """
    split_names: dict[str, Literal["train", "val", "test", "none"]] = Field(default_factory=dict)
    """Further names of splits, of folders, archives and tables and in a column, in any case, such as ``{holdout: test,
    extra: none}``; none is no split. Known are train and training; val, valid, validation and dev; test and testing;
    each also with ``set`` behind it (``test_set``).
    """
