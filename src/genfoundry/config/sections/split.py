"""Section `split`: how records are divided into train, val and test."""

from typing import Any, Literal

from pydantic import Field, model_validator

from genfoundry.config.sections.validation import Expectation
from genfoundry.config.specs import Section


class Guard(Section):
    """An external evaluation set, such as a public benchmark, to decontaminate training against."""

    source: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_./ -]*$")
    """File or folder below presets/guards/, read by the data set's own modality."""
    ingest: dict[str, Any] = Field(default_factory=dict)
    """How it is read, where that differs from the defaults, such as ``{text_column: question}``."""


class Split(Section):
    """How records are divided; a given split (folder or column) wins over the drawn one.

    Where records come with some splits only, those that nobody is given are drawn from train.
    """

    by: Literal["hash", "time", "group", "contiguous"] = "hash"
    """hash: drawn from the content; group: drawn from the record's ``group``, so that none is in two splits; both stay
    where they are when data grow. time: the newest records test, the ones before them validate. contiguous: so do the
    last records of each file or ``source``, in its order. With these two, new data move the borders, unless
    ``val_from`` and ``test_from`` name them.
    """
    val: float = Field(default=0.1, ge=0, lt=1)
    """Share of records drawn for validation."""
    test: float = Field(default=0.1, gt=0, lt=1)
    """Share of records drawn for testing."""
    val_from: str = ""
    """With ``by: time``: the first moment of validation, in place of a share: ISO 8601, or a number."""
    test_from: str = ""
    """With ``by: time``: the first moment of testing."""
    gap: int = Field(default=0, ge=0)
    """With ``by: contiguous``: records left out before each border, where neighbours share some text."""
    salt: str = ""
    """Salt of the hash that assigns splits; another salt gives another split."""
    max_containment: float = Field(default=0.8, gt=0, le=1)
    """An evaluation record with at least this share of its 5-grams inside one training record is withheld."""
    guard: tuple[Guard, ...] = ()
    """External evaluation sets: training records that nearly duplicate or contain one of theirs are withheld."""
    max_leaks: int = Field(default=0, ge=0)
    """Evaluation records near a training record that an independent check may still find before the stage fails."""
    min_records: int = Field(default=2, ge=1)
    """Least number of records in each split."""
    expectations: tuple[Expectation, ...] = ()
    """Further expectations of the records in use: columns id, sha256, split, label and the records' facts."""

    @model_validator(mode="after")
    def _only_what_is_used(self) -> "Split":
        if self.val + self.test >= 1:
            raise ValueError(f"val {self.val:g} and test {self.test:g} leave nothing to train on; lower one")
        if (self.val_from or self.test_from) and self.by != "time":
            raise ValueError(f"val_from and test_from belong to by: time, but by is {self.by}; drop them or change it")
        if bool(self.val_from) != bool(self.test_from) and (self.val > 0 or self.val_from):
            raise ValueError("val_from and test_from come together; name both, or set val to 0")
        if self.gap and self.by != "contiguous":
            raise ValueError(f"gap belongs to by: contiguous, but by is {self.by}; drop it or change by")
        return self
