"""Share of samples that parse as source code.

The least that code must do, before it runs: pass@k of Chen et al. 2021 (arXiv:2107.03374) needs tests, this needs only
the parser of the interpreter at hand. A sample without any statement doesn't count as code. Off unless
params.yaml names it, as it means nothing for prose.
"""

import ast
import sys
import warnings
from collections.abc import Sequence
from typing import Literal

from genfoundry.config.specs import Score, Section
from genfoundry.core.errors import DataError
from genfoundry.metrics._copies import share_error

TITLE = "Samples that parse"
CAVEAT = "A sample cut at the length limit rarely parses, and nonsense may: read it beside real files cut alike."
COST = "milliseconds a sample"
HIGHER_IS_BETTER = True
VERSION = 1
RANGE = (0.0, 1.0)
BY_DEFAULT = False


class Config(Section):
    language: Literal["python"] = "python"
    """Language of the samples."""


def is_python(text: str) -> bool:
    """Whether a text is at least one statement of Python, as ``ast.parse`` of this interpreter sees it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(ast.parse(text).body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        # ValueError: null bytes or lone surrogates. The others: nested deeper than the parser goes.
        return False


def score(sample_texts: Sequence[str], config: Config) -> Score:
    """Share in [0, 1], with half of Wilson's 95 % interval over 1.96 as the standard error over samples.

    ``python`` is the interpreter's version, such as 3.11, as the grammar depends on it.

    Args:
        sample_texts: Source code.
        config: Its language.

    Raises:
        DataError: No sample.
    """
    if not len(sample_texts):
        raise DataError("parses: sample_texts are empty; give at least one")
    good = sum(map(is_python, sample_texts))
    share, count = good / len(sample_texts), len(sample_texts)
    version = float(f"{sys.version_info.major}.{sys.version_info.minor:02d}")
    return Score(share, count, share_error(share, count), {"parsed": good, "python": version})
