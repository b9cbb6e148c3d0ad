"""Clean source files: which are dropped, and what is removed from the others."""

from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import Field

from genfoundry.config.sections.preprocess import Preprocess as _Preprocess
from genfoundry.modalities.code import sourcecode as _sourcecode
from genfoundry.modalities.common import documents as _documents
from genfoundry.modalities.common import masking as _masking

if TYPE_CHECKING:
    import pandas as pd


class Preprocess(_Preprocess):
    """Which files are kept."""

    min_characters: int = Field(default=1, ge=1)
    """Shorter files are dropped."""
    max_characters: int = Field(default=0, ge=0)
    """Longer files are dropped; 0 drops none."""
    drop_vendored: bool = True
    """Drop files below ``vendor``, ``node_modules``, ``third_party`` and the like: copies of other projects."""
    drop_generated: bool = True
    """Drop files that say in a comment, or by their name, that a program wrote them."""
    max_mean_line: float = Field(default=100, ge=0)
    """Greatest mean length of a line; above it are data or minified code (Chen et al. 2021, arXiv:2107.03374).
    0 allows any.
    """
    max_longest_line: int = Field(default=1000, ge=0)
    """Longest line (the same source); 0 for any."""
    min_alphanumeric: float = Field(default=0.25, ge=0, le=1)
    """Least share of letters and digits, as in The Stack (arXiv:2211.15533)."""
    drop_unparsed: bool = False
    """Drop Python files that this interpreter can't parse; the column ``parses`` says so in any case."""
    strip_licence: bool = False
    """Remove a first comment about licence or copyright; the column ``license`` keeps the licence's name."""
    mask: tuple[_masking.Kind, ...] = ()
    """Personal data and secrets to replace by a placeholder such as ``[KEY]``; ``masked_key`` counts them."""


def clean(records: "pd.DataFrame", config: Preprocess) -> "tuple[pd.DataFrame, pd.DataFrame]":
    """(files that are kept, what was dropped and why)."""
    columns = {"mean_line": "float64", "longest_line": "int64", "alphanumeric": "float64", "parses": "boolean"}
    columns |= _masking.columns(config.mask)
    return _documents.cleaned(records, partial(_cleaned, config=config), columns)


def _cleaned(text: str, record: Mapping[str, Any], config: Preprocess) -> tuple[str, dict[str, Any]]:
    name = str(record["id"])
    if reason := _foreign(name, text, config):
        raise _documents.Dropped(*reason)
    parses = _sourcecode.parses(text, PurePosixPath(name).suffix.lower())
    if parses is False and config.drop_unparsed:
        raise _documents.Dropped("unparsed", "Python that this interpreter can't parse")
    counts: dict[str, int] = {}
    if config.strip_licence:
        text = _sourcecode.without_licence(text)
    if config.mask:
        text, counts = _masking.masked(text, config.mask)
    facts = dict(zip(_sourcecode.SHAPE, _sourcecode.shape(text), strict=True))
    if reason := _misshapen(text, facts, config):
        raise _documents.Dropped(*reason)
    return text, {**facts, "parses": parses, **counts}


def _foreign(name: str, text: str, config: Preprocess) -> tuple[str, str] | None:
    """(reason, detail) for a vendored or generated file."""
    if config.drop_vendored and (folder := _sourcecode.vendored(name)):
        return "vendored", f"lies below {folder}"
    if config.drop_generated and (mark := _sourcecode.generated(name, text)):
        return "generated", mark
    return None


def _misshapen(text: str, facts: Mapping[str, float], config: Preprocess) -> tuple[str, str] | None:
    if reason := _documents.misfit(text, config.min_characters, config.max_characters):
        return reason
    for rule in ("mean_line", "longest_line"):
        limit = getattr(config, f"max_{rule}")
        if limit and facts[rule] > limit:
            return f"max_{rule}", f"{facts[rule]:g} characters, at most {limit:g}"
    if facts["alphanumeric"] < config.min_alphanumeric:
        return "min_alphanumeric", f"{facts['alphanumeric']:g}, at least {config.min_alphanumeric:g}"
    return None
