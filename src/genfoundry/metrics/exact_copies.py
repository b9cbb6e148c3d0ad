"""Samples that are a training record, byte for byte (Carlini et al. 2023, arXiv:2301.13188, section 4).

Matched by hash and confirmed by comparing the bytes, against every training record. Small or coarse records may meet by
chance, so it is read beside held-out records scored the same way; near copies, a pixel or a level away, are not
counted here.
"""

from typing import Any

from genfoundry.config.specs import Score, Section
from genfoundry.metrics._copies import exact_copy_share

TITLE = "Exact copies of training records"
CAVEAT = "One changed level hides a copy: read near copies beside it. 0 of N samples leaves up to about 4/N undetected."
COST = "0.1 s for 2,000 samples and 10,000 records of 3 kB"
HIGHER_IS_BETTER = False
VERSION = 1
RANGE = (0.0, 1.0)
RATIO_TO_FLOOR = False


class Config(Section):
    """No settings: every byte counts."""


def score(sample_levels: Any, train_levels: Any, config: Config) -> Score:
    """Share in [0, 1]; ``copies`` is the number of samples, ``records`` that of different training records copied.

    The standard error is half of Wilson's 95 % interval over 1.96: above 0 without copies too.

    Args:
        sample_levels: uint8 (N, C, *shape).
        train_levels: uint8 (L, C, *shape) of all training records.
        config: Nothing to set.

    Raises:
        DataError: No row on a side, or unequal types or shapes.
    """
    found = exact_copy_share(sample_levels, train_levels)
    extra = {"copies": int(found.copied.sum()), "records": len(set(found.source[found.copied].tolist()))}
    return Score(found.value, len(found.copied), found.se, extra)
