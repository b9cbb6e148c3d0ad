"""Near-duplicates of text and code: sets of word 5-grams, and synthetic duplicates to measure recall with."""

import re
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from genfoundry.config.sections.dedup import Dedup as _Dedup
from genfoundry.config.specs import Sets

if TYPE_CHECKING:
    import pandas as pd


class Dedup(_Dedup):
    """Which texts count as near-duplicates."""

    threshold: float = Field(default=0.8, ge=0.3, le=1)
    """Least Jaccard index of two sets of word 5-grams; 0.8 as in SlimPajama and the tools after it."""
    engine: Literal["exact", "minhash"] = "exact"
    """Candidate search. exact: the rarest 5-grams of each document, which miss no pair. minhash: bands of
    MinHash (Broder 1997), which may miss some. Both are verified by exact counts.
    """
    bands: int = Field(default=32, ge=1, le=256)
    """Bands of ``minhash``: a pair of similarity J is found with probability 1 - (1 - J^rows)^bands."""
    rows: int = Field(default=4, ge=1, le=32)
    """Permutations in a band of ``minhash``."""
    memory: float = Field(default=4096, gt=0)
    """Megabytes that the search for copies may take; what does not fit lies in a file meanwhile. The result is the
    same.
    """


def fingerprints(records: "pd.DataFrame", config: Dedup) -> Sets:
    """The set of word 5-gram hashes of each document."""
    from genfoundry.modalities.common import shingles as _shingles

    return _shingles.sets(records["content"])


def perturb(records: "pd.DataFrame", generator: np.random.Generator) -> "pd.DataFrame":
    """Synthetic duplicates: one word in fifty replaced, dropped or doubled, at least one."""
    edited = records.copy()
    edited["content"] = [_edit(text, generator) for text in records["content"]]
    return edited


def _edit(text: str, generator: np.random.Generator) -> str:
    pieces = re.findall(r"\S+|\s+", text)
    words = [number for number, piece in enumerate(pieces) if not piece.isspace()]
    for number in generator.choice(words, max(1, len(words) // 50), replace=False) if words else ():
        pieces[number] = ("changed", "", f"{pieces[number]} {pieces[number]}")[int(generator.integers(3))]
    return "".join(pieces)
