"""Write tests/golden/cases/*.json: inputs, the value wanted, and how it was obtained.

Run: python tests/golden/make_cases.py

Values come from ``exact.py`` (rational numbers, 50 digits), from closed forms or by hand; nothing of genfoundry is
imported. ``torchmetrics`` says what torchmetrics 1.9 gives, run here, where it is wrong in substance.
"""

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import exact
import mpmath
import numpy as np
import text_cases
from rivals_1_9 import torchmetrics_on

FOLDER = Path(__file__).parent / "cases"
DIGITS = "50-digit arithmetic on the exact inputs (tests/golden/exact.py)"
RATIONAL = "rational arithmetic, pair by pair (tests/golden/exact.py)"
CLOSED = "closed form: "
HAND = "by hand: "


def plain(value: Any) -> Any:
    """As JSON holds it; a 50-digit number rounded once, to float64."""
    if isinstance(value, (mpmath.mpf, Fraction)):
        return float(value)
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def case(name: str, call: str, wanted: Any, how: str, /, *, dtype: str = "float64", **arguments: Any) -> dict[str, Any]:
    found = {"name": name, "call": call, "wanted": plain(wanted), "how": how, "dtype": dtype}
    return found | {"arguments": {key: plain(value) for key, value in arguments.items()}}


def eighths(seed: int, n: int, d: int, scale: int = 16) -> np.ndarray:
    """Rows that every width of float holds exactly, also after a common offset of up to 1e8."""
    return np.random.default_rng(seed).integers(-scale, scale + 1, (n, d)) / 8


def crosses(*lengths: float) -> np.ndarray:
    """Two rows on each axis, at plus and minus these lengths: mean 0, covariance diagonal."""
    return np.concatenate([np.diag(lengths), -np.diag(lengths)])


def frechet_case(name: str, x: np.ndarray, y: np.ndarray, **more: Any) -> dict[str, Any]:
    return case(name, "frechet_distance", exact.frechet(x.tolist(), y.tolist()), DIGITS, x=x, y=y, **more)


def frechet_closed() -> list[dict[str, Any]]:
    call, wide = "frechet_distance", eighths(2, 20, 100)
    base = eighths(3, 9, 4)
    base_trace = sum(exact.moments(base.tolist())[1][i][i] for i in range(4))
    scaled = 1.5 * (base - base.mean(0)) + base.mean(0)
    return [
        case(
            "one dimension",
            call,
            9 + (math.sqrt(8) - 1) ** 2,
            CLOSED + "(2-5)^2 + (sqrt 8 - 1)^2",
            x=[[0], [4]],
            y=[[4], [5], [6]],
        ),
        case("one dimension, equal deviations", call, 49, CLOSED + "(m1-m2)^2", x=[[0], [2], [4]], y=[[7], [9], [11]]),
        case(
            "one dimension, equal means",
            call,
            10 - 2 * math.sqrt(16),
            CLOSED + "(sqrt 2 - sqrt 8)^2",
            x=[[-1], [1]],
            y=[[-2], [2]],
        ),
        case("one column of integers", call, 4, CLOSED + "2^2", dtype="int64", x=[[1], [2], [3]], y=[[3], [4], [5]]),
        case(
            "diagonal covariances",
            call,
            sum((a - b) ** 2 for a, b in ((1, 2), (3, 1), (0.5, 4))) * 2 / 5,
            CLOSED + "sum of (a-b)^2 2/(n-1) over the axes",
            x=crosses(1, 3, 0.5),
            y=crosses(2, 1, 4),
        ),
        case(
            "a scale in every direction",
            call,
            base_trace / 4,
            CLOSED + "x = 1.5 (y - mean) + mean: 0.5^2 trace of y",
            x=scaled,
            y=base,
        ),
        case("a shift alone, N below D", call, 25, CLOSED + "100 times 0.5^2", x=wide + 0.5, y=wide),
    ]


def frechet_degenerate() -> list[dict[str, Any]]:
    call = "frechet_distance"
    point, spread = np.full((10, 3), 2.0), eighths(4, 12, 3)
    gap = sum((2 - value) ** 2 for value in exact.moments(spread.tolist())[0])
    trace = sum(exact.moments(spread.tolist())[1][i][i] for i in range(3))
    return [
        case(
            "collapsed onto a point",
            call,
            gap + trace,
            CLOSED + "gap of means squared and the other's trace",
            x=point,
            y=spread,
        ),
        case("both collapsed onto points", call, 3 * 9, CLOSED + "gap of means squared", x=point, y=point + 3),
        case("collapsed onto one and the same point", call, 0, CLOSED + "0", x=point, y=point[:4]),
        case("equal sets, D above N", call, 0, CLOSED + "0", x=eighths(5, 12, 96), y=eighths(5, 12, 96)),
        case("equal sets whose squares leave float64", call, 0, CLOSED + "0", x=spread * 2.0**660, y=spread * 2.0**660),
        case("equal sets in another order", call, 0, CLOSED + "0", x=eighths(6, 30, 5), y=eighths(6, 30, 5)[::-1]),
        case(
            "rows repeated three times",
            call,
            exact.frechet(np.tile(eighths(7, 5, 2), (3, 1)).tolist(), eighths(7, 5, 2).tolist()),
            DIGITS,
            x=np.tile(eighths(7, 5, 2), (3, 1)),
            y=eighths(7, 5, 2),
        ),
        case(
            "two rows a side on crossing lines",
            call,
            2 + 2,
            CLOSED + "tr + tr, as u.v = 0",
            x=[[1, 0], [-1, 0]],
            y=[[0, 1], [0, -1]],
        ),
        case(
            "two rows a side at an angle",
            call,
            2 + 4 - 2 * 2,
            CLOSED + "tr + tr - 2 |u.v| with u = (1,0) sqrt 2, v = (1,1) sqrt 2",
            x=[[1, 0], [-1, 0]],
            y=[[1, 1], [-1, -1]],
        ),
    ]


def frechet_digits() -> list[dict[str, Any]]:
    turned = eighths(8, 14, 5) @ eighths(9, 5, 5), eighths(10, 17, 5) @ eighths(11, 5, 5) + 1
    a, b = eighths(12, 20, 3), eighths(13, 25, 3)
    dead = np.array([1.0, 0, 1, 1])
    flat = eighths(16, 9, 2) @ np.array([[1.0, 2, 0, -1], [0, 1, 1, 3]])
    near = eighths(17, 16, 3)
    near_too = near.copy()
    near_too[3, 1] += 2.0**-20
    half = {"x": eighths(18, 11, 3) + 3, "y": eighths(19, 13, 3)}
    return [
        frechet_case(
            "two dimensions that don't commute",
            np.array([[3.0, 1], [-3, -1], [1, -2], [-1, 2]]),
            np.array([[1.0, 2], [-1, -2], [2, 0], [-2, 0]]),
        ),
        frechet_case("five dimensions that don't commute", *turned),
        frechet_case("offset 1e6", a + 1e6, b + 1e6),
        frechet_case("offset 1e8", a + 1e8, b + 1e8),
        frechet_case("offset 1e8, near sets", near + 1e8, near + 1e8 + 2.0**-6),
        frechet_case("offset 1e8, means 1e-3 apart", near[:7] + 1e8, near[:7] + 1e8 + 2.0**-10),
        frechet_case("offset 1e12 on one side", a + 1e12, b),
        frechet_case("D above N", eighths(14, 6, 24), eighths(15, 9, 24)),
        frechet_case("D above N on one side", eighths(14, 5, 8), eighths(15, 20, 8)),
        frechet_case("a dead feature", eighths(20, 15, 4) * dead, eighths(21, 15, 4) * dead),
        frechet_case("a feature dead on one side", eighths(20, 15, 4) * dead, eighths(21, 15, 4)),
        frechet_case("rows in a plane of four dimensions", flat, eighths(22, 12, 4)),
        frechet_case("both in one plane", flat, eighths(23, 9, 2) @ np.array([[1.0, 2, 0, -1], [0, 1, 1, 3]])),
        frechet_case("columns of unequal scale", a * [1e-4, 1, 1e4], b * [1e-4, 1, 1e4]),
        frechet_case("tiny", a * 2.0**-400, b * 2.0**-400),
        frechet_case("huge", a * 2.0**400, b * 2.0**400),
        frechet_case("one row moved by 1e-6", near_too, near),
        frechet_case("float32", half["x"], half["y"], dtype="float32"),
        frechet_case("float16", half["x"], half["y"], dtype="float16"),
        frechet_case("bfloat16", half["x"], half["y"], dtype="bfloat16"),
    ]


def moments_cases() -> list[dict[str, Any]]:
    call, zero = "frechet_distance_from_moments", [0.0] * 3
    a, b = eighths(30, 12, 4), eighths(31, 14, 4)
    of_a, of_b = exact.moments((a + 1e6).tolist()), exact.moments((b + 1e6).tolist())
    rounded = [plain(part) for part in (*of_a, *of_b)]
    again = [
        [Fraction(value) for value in rounded[0]],
        exact.fractions(rounded[1]),
        [Fraction(value) for value in rounded[2]],
        exact.fractions(rounded[3]),
    ]
    u, v = np.array([1.0, 2, 2]), np.array([2.0, -1, 2])
    names = ("mean_x", "cov_x", "mean_y", "cov_y")

    def one(name: str, wanted: Any, how: str, *parts: Any) -> dict[str, Any]:
        return case(name, call, wanted, how, **dict(zip(names, parts, strict=True)))

    return [
        one("one number each", 4 + 1, CLOSED + "(3-1)^2 + (3-2)^2", [3.0], [[9.0]], [1.0], [[4.0]]),
        one(
            "multiples of the identity",
            3 + 3 * (3 - 2) ** 2,
            CLOSED + "|shift|^2 + d (a-b)^2",
            zero,
            np.eye(3) * 9,
            [1.0] * 3,
            np.eye(3) * 4,
        ),
        one("no spread at all", 14, CLOSED + "|shift|^2", [1.0, 2, 3], np.zeros((3, 3)), zero, np.zeros((3, 3))),
        one("spread on one side alone", 6, CLOSED + "the trace", zero, np.diag([1.0, 2, 3]), zero, np.zeros((3, 3))),
        one("two of rank one", 9 + 9 - 2 * 4, CLOSED + "tr + tr - 2 |u.v|", zero, np.outer(u, u), zero, np.outer(v, v)),
        one("equal, of rank one", 0, CLOSED + "0", zero, np.outer(u, u), zero, np.outer(u, u)),
        one(
            "diagonals 18 powers of ten apart",
            2.0**-20,
            CLOSED + "(2^-9 - 2^-10)^2",
            [0.0] * 2,
            np.diag([1e12, 2.0**-20]),
            [0.0] * 2,
            np.diag([1e12, 2.0**-18]),
        ),
        one("four dimensions, offset 1e6", exact.frechet_of_moments(*again), DIGITS, *rounded),
    ]


def sharded(name: str, x: list[np.ndarray], y: list[np.ndarray]) -> list[dict[str, Any]]:
    one, other = np.concatenate(x), np.concatenate(y)
    mean, covariance = exact.moments(one.tolist())
    return [
        case(
            f"{name}: distance",
            "statistics",
            exact.frechet(one.tolist(), other.tolist()),
            DIGITS,
            x=[part.tolist() for part in x],
            y=[part.tolist() for part in y],
        ),
        case(f"{name}: moments", "shard_moments", [mean, covariance], RATIONAL, x=[part.tolist() for part in x]),
    ]


def statistics_cases() -> list[dict[str, Any]]:
    a, b = eighths(40, 15, 3), eighths(41, 12, 3) + 1
    singles = [a[row : row + 1] for row in range(len(a))]
    return [
        *sharded("three uneven shards", [a[:2], a[2:9], a[9:]], [b]),
        *sharded("empty shards first, between and last", [a[:0], a[:7], a[7:7], a[7:], a[:0]], [b[:0], b]),
        *sharded("one row a shard", singles, [b[:1], b[1:]]),
        *sharded("offset 1e8", [a[:4] + 1e8, a[4:] + 1e8], [b[:6] + 1e8, b[6:] + 1e8]),
        *sharded("offset 1e8, means 1e-3 apart", [a[:3] + 1e8, a[3:7] + 1e8], [a[:7] + 1e8 + 2.0**-10]),
        *sharded("shards far apart", [a[:5], a[5:] + 1e6], [b]),
    ]


def inception_case(name: str, logits: np.ndarray, parts: list[int], **more: Any) -> dict[str, Any]:
    wanted = exact.inception(logits.tolist(), parts)
    return case(name, "inception_score", wanted, DIGITS, logits=logits, splits=len(parts), **more)


def inception_cases() -> list[dict[str, Any]]:
    call, sure = "inception_score", np.eye(5).repeat(3, axis=0)
    unused = np.array([[120.0, 0, -120], [0, 120.0, -120]] * 4)
    soft = eighths(50, 11, 4)
    return [
        case("sure and evenly spread", call, [5, 0], CLOSED + "K", logits=sure * 1e4, splits=1),
        case("all alike", call, [1, 0], CLOSED + "1", logits=[[3.0, -1, 0.5]] * 7, splits=1),
        case("a class never used", call, [2, 0], CLOSED + "2: gaps of 120 and 240 nats", logits=unused, splits=1),
        case("a class never used, float32", call, [2, 0], CLOSED + "2", dtype="float32", logits=unused, splits=1),
        case(
            "gaps beyond the largest float",
            call,
            [2, 0],
            CLOSED + "2",
            logits=[[1.7e308, -1.7e308], [-1.7e308, 1.7e308]],
            splits=1,
        ),
        case(
            "one sure class of unequal weight",
            call,
            [math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), 0],
            CLOSED + "exp of the entropy of (3/4, 1/4)",
            logits=[[1e3, 0]] * 3 + [[0, 1e3]],
            splits=1,
        ),
        case(
            "two splits of one class each",
            call,
            [1, 0],
            HAND + "each split sees one class",
            logits=[[1e3, 0]] * 3 + [[0, 1e3]] * 3,
            splits=2,
        ),
        case(
            "splits of unequal score",
            call,
            [1.5, 0.5],
            HAND + "1 and 2, population deviation",
            logits=[[1e3, 0], [1e3, 0], [1e3, 0], [0, 1e3]],
            splits=2,
        ),
        inception_case("soft, one split", soft, [11]),
        inception_case("soft, 11 rows in 3 splits", soft, [3, 4, 4]),
        inception_case("soft, 11 rows in 10 splits", soft, [*[1] * 9, 2]),
        inception_case("gaps of 200 nats among soft ones", np.vstack([soft, soft * 100]), [22]),
        inception_case("bfloat16", soft, [11], dtype="bfloat16"),
    ]


def kernel_case(name: str, x: np.ndarray, y: np.ndarray, **more: Any) -> dict[str, Any]:
    return case(name, "kernel_distance", exact.kernel_distance(x.tolist(), y.tolist()), RATIONAL, x=x, y=y, **more)


def kernel_cases() -> list[dict[str, Any]]:
    a, b = eighths(60, 7, 3), eighths(61, 9, 3) + 0.5
    apart = np.array([[0.0, 2], [2, 0], [1, 1]])
    # Far along one axis, little difference: in float32 and bfloat16 all digits cancel.
    long = eighths(64, 9, 8) + 16
    return [
        kernel_case("random", a, b),
        kernel_case("negative", apart, apart + 0.0),
        kernel_case("two rows a side", a[:2], b[:2]),
        kernel_case("one column", a[:, :1], b[:, :1]),
        kernel_case("equal sets", a, a),
        kernel_case("two points", np.zeros((4, 2)), np.ones((5, 2))),
        kernel_case("offset 1e4", a + 1e4, b + 1e4),
        kernel_case("offset 1e6", a + 1e6, b + 1e6),
        kernel_case("far from 0, float32", long, long[:, ::-1] + 0.0, dtype="float32"),
        kernel_case("far from 0, bfloat16", long, long[:, ::-1] + 0.0, dtype="bfloat16"),
        kernel_case("tiny", a * 2.0**-300, b * 2.0**-300),
    ]


def neighbour_case(name: str, real: np.ndarray, fake: np.ndarray, k: int, **more: Any) -> dict[str, Any]:
    wanted = exact.neighbours(real.tolist(), fake.tolist(), k)
    return case(name, "precision_recall_density_coverage", wanted, RATIONAL, real=real, fake=fake, k=k, **more)


def neighbour_cases() -> list[dict[str, Any]]:
    a, b = eighths(70, 14, 2), eighths(71, 11, 2) + 0.25
    line, grid = np.arange(8.0)[:, None], np.stack(np.meshgrid(range(4), range(4)), -1).reshape(-1, 2).astype(float)
    return [
        neighbour_case("random, k = 1", a, b, 1),
        neighbour_case("random, k = 5", a, b, 5),
        neighbour_case("largest k", a[:6], b[:6], 5),
        neighbour_case("ten dimensions", eighths(72, 20, 10), eighths(73, 18, 10), 3),
        neighbour_case("samples on the rims of balls", line, line + 1, 1),
        neighbour_case("a grid, all distances tied", grid, grid + 1, 3),
        neighbour_case("copies of the real data", a, a, 3),
        neighbour_case("ten duplicates of each real row", np.repeat(line, 10, axis=0), line, 5),
        neighbour_case("a model of one point, on a real row", a, np.repeat(a[3:4], 9, axis=0), 5),
        neighbour_case("a model of one point, far away", a, np.full((9, 2), 50.0), 5),
        neighbour_case("offset 1e8", a + 1e8, b + 1e8, 3),
        neighbour_case("huge", a * 2.0**520, b * 2.0**520, 3),
        neighbour_case("float16", a, b, 3, dtype="float16"),
    ]


FILES: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
    "frechet": [frechet_closed, frechet_degenerate, frechet_digits, moments_cases, statistics_cases],
    "inception": [inception_cases],
    "kernel": [kernel_cases],
    "neighbours": [neighbour_cases],
    "text": [
        text_cases.likelihood_cases,
        text_cases.unit_cases,
        text_cases.logit_cases,
        text_cases.window_cases,
        text_cases.sliding_cases,
    ],
    "copies": [text_cases.copy_cases],
}


def main() -> None:
    text_cases.case = case
    for name, makers in FILES.items():
        cases = [found for maker in makers for found in maker()]
        for found in cases:
            wrong = torchmetrics_on(found)
            if wrong is not None:
                found["torchmetrics"] = wrong
        lines = ",\n".join(json.dumps(found) for found in cases)
        (FOLDER / f"{name}.json").write_text(f"[\n{lines}\n]\n")
        print(f"{name}: {len(cases)}, torchmetrics wrong in {sum('torchmetrics' in found for found in cases)}")


if __name__ == "__main__":
    main()
