"""Cases of text and copying for make_cases.py."""

import math
from typing import Any

import exact
import mpmath
import numpy as np

CLOSED, HAND = "closed form: ", "by hand: "
DIGITS = "50-digit arithmetic on the exact inputs (tests/golden/exact.py)"
case: Any = None
"""Set by make_cases.py."""


def priced(name: str, logits: Any, targets: list[int], **more: Any) -> dict[str, Any]:
    scored = [(row, target) for row, target in zip(logits, targets, strict=True) if target != more.get("ignore_index")]
    nats = exact.token_nats([row for row, _ in scored], [target for _, target in scored])
    return case(
        name, "nats_from_logits", [mpmath.fsum(nats), len(nats)], DIGITS, logits=logits, targets=targets, **more
    )


def likelihood_cases() -> list[dict[str, Any]]:
    call = "perplexity_per_unit"
    return [
        case(
            "uniform over 4096", call, 4096, CLOSED + "V", nats=[3 * math.log(4096), 5 * math.log(4096)], units=[3, 5]
        ),
        case("tokens are weighed, not documents", call, math.e, HAND + "exp(10/10)", nats=[10.0, 0.0], units=[1, 9]),
        case("a document without units", call, math.exp(2), HAND + "exp(8/4)", nats=[8.0, 0.0], units=[4, 0]),
        case("a sure model", call, 1, CLOSED + "exp(0)", nats=[0.0, 0.0], units=[3, 4]),
        case(
            "2^24 tokens and 1000 more",
            call,
            mpmath.exp(mpmath.mpf(2**24 + 3000) / (2**24 + 1000)),
            DIGITS,
            nats=[2.0**24, *[3.0] * 1000],
            units=[2**24, *[1] * 1000],
        ),
        case(
            "3e12 tokens",
            call,
            mpmath.exp(mpmath.mpf("2.5")),
            CLOSED + "exp(2.5)",
            nats=[2.5e12, 5e12],
            units=[10**12, 2 * 10**12],
        ),
        case("600 nats a token", call, mpmath.exp(600), DIGITS, nats=[600.0, 1200.0], units=[1, 2]),
    ]


def unit_cases() -> list[dict[str, Any]]:
    ln2 = math.log(2)
    return [
        case("eight bits a byte", "bits_per_unit", 8, CLOSED + "8", nats=[80 * ln2, 1600 * ln2], units=[10, 200]),
        case(
            "bits per character",
            "bits_per_unit",
            6 / math.log(2) / 4,
            HAND + "6 / ln 2 / 4",
            nats=[1.0, 5.0],
            units=[1, 3],
        ),
        case(
            "all units at once",
            "text_scores",
            [math.exp(3), math.exp(6), math.exp(0.5), 0.5 / ln2, 1 / ln2],
            HAND + "12 nats over 4 tokens, 2 words, 24 bytes, 12 characters",
            nats=[5.0, 7.0],
            tokens=[1, 3],
            words=[1, 1],
            utf8_bytes=[10, 14],
            characters=[5, 7],
        ),
        case(
            "units of a page",
            "count_units",
            [4, 18, 16],
            HAND + "'', na\u00efve, caf\u00e9, now between white space",
            text=" na\u00efve\n\tcaf\u00e9 now",
        ),
    ]


def logit_cases() -> list[dict[str, Any]]:
    soft = (np.random.default_rng(80).integers(-40, 41, (6, 5)) / 8).tolist()
    wide = (np.random.default_rng(81).integers(-40, 41, (4, 64)) / 8).tolist()
    return [
        priced("soft logits", soft, [0, 4, 2, 1, 3, 0]),
        priced("a target ignored", soft, [0, 4, 2, -100, 3, 0], ignore_index=-100),
        priced("a gap of 120 nats in float32", [[120.0, 0.0, 0.0], [0.0, 1.0, 2.0]], [1, 0], dtype="float32"),
        priced("a gap of 18 nats in float16", [[18.0, 0.0, 0.0], [0.0, 1.0, 2.0]], [1, 0], dtype="float16"),
        priced("a gap of 1e5 nats", [[1e5, 0.0], [0.0, 1.0]], [1, 0]),
        priced("bfloat16 logits", wide, [1, 30, 61, 11], dtype="bfloat16"),
    ]


def window_cases() -> list[dict[str, Any]]:
    return [
        case(
            "windows: shorter than one",
            "sliding_windows",
            [[0, 1, 3]],
            HAND + "one reading of 3",
            length=3,
            window=5,
            stride=2,
        ),
        case(
            "windows: as long as one",
            "sliding_windows",
            [[0, 1, 5]],
            HAND + "one reading of 5",
            length=5,
            window=5,
            stride=2,
        ),
        case(
            "windows: a last one that is filled to the left",
            "sliding_windows",
            [[0, 1, 4], [2, 5, 6], [3, 7, 7]],
            HAND + "4 + 2 + 1 positions, 4 shown before each last one",
            length=7,
            window=4,
            stride=2,
        ),
        case(
            "windows: no overlap",
            "sliding_windows",
            [[0, 1, 3], [3, 4, 6]],
            HAND + "two readings of 3",
            length=6,
            window=3,
            stride=3,
        ),
        case("windows: nothing to score", "sliding_windows", [], HAND + "no reading", length=0, window=4, stride=2),
    ]


def sliding_cases() -> list[dict[str, Any]]:
    # A model whose price is 1 over the number of tokens it sees before: 1, 1/2, 1/3, 1/4, then of 3 and 4, then of 4.
    return [
        case(
            "sliding: price by context",
            "score_sliding",
            [1 + 1 / 2 + 1 / 3 + 1 / 4 + 1 / 3 + 1 / 4 + 1 / 4, 7],
            HAND + "contexts 1 2 3 4, 3 4, 4",
            tokens=[5, 6, 7, 8, 9, 10, 11],
            window=4,
            stride=2,
        ),
        case(
            "sliding: window above the length",
            "score_sliding",
            [1 + 1 / 2 + 1 / 3, 3],
            HAND + "contexts 1 2 3",
            tokens=[5, 6, 7],
            window=9,
            stride=9,
        ),
    ]


def copy_cases() -> list[dict[str, Any]]:
    train = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [9.0, 9.0]]
    return [
        case(
            "exact copies",
            "exact_copy_share",
            0.5,
            HAND + "rows 0 and 2 of 4",
            samples=[[4.0, 0.0], [4.0, 0.1], [9.0, 9.0], [1.0, 1.0]],
            training=train,
        ),
        case("no exact copy", "exact_copy_share", 0, HAND + "none", samples=[[0.0, 0.5]], training=train),
        case(
            "authentic and not",
            "authenticity_share",
            2 / 3,
            HAND + "(0,1) is nearer than 4 to (0,0); (0,-5) at 5 is farther than 4; (9,0) at 5 from (4,0) than 4",
            samples=[[0.0, 1.0], [0.0, -5.0], [9.0, 0.0]],
            training=train,
        ),
        case("copies are not authentic", "authenticity_share", 0, HAND + "distance 0", samples=train, training=train),
        case(
            "equal distances are not authentic",
            "authenticity_share",
            0,
            HAND + "4 is not above 4",
            samples=[[0.0, -4.0]],
            training=train,
        ),
    ]
