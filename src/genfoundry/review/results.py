"""Compute a ranking from answers: wins, ties, losses, strengths, agreement and consistency of raters.

Repeated pairs (the checks) measure how consistent a rater is; they are left out of the ranking, where they would count
twice.
"""

import itertools
import math
from collections.abc import Mapping
from statistics import median
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.core.io import FORMAT
from genfoundry.metrics._ranking import Ranking, davidson, krippendorff_alpha, sign_test, wilson_interval
from genfoundry.review.answers import Answers
from genfoundry.review.plan import plan_digest

RATERS_FOR_CLUSTERS = 8
"""Raters from which on the interval covers other raters, too: a variance between fewer can't be measured."""

LEAN = {"left": 1, "tie": 0, "right": -1}
APART = np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 1.0], [4.0, 1.0, 0.0]])
"""Squared distance of left, tie and right as -1, 0 and 1: preferring the other side is four times as far as a tie."""


def _rounded(value: float) -> float | None:
    """Six significant digits, so that equal answers give equal files on every machine; None for NaN and infinity."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _entry(triple: tuple[float, float, float]) -> dict[str, float | None]:
    return dict(zip(("value", "low", "high"), map(_rounded, triple), strict=True))


def evaluate(plan: Mapping[str, Any], answers: Answers) -> dict[str, Any]:
    """Everything about a review that the reports show, as plain values.

    Raises:
        DataError: No answer counts, or models that no chain of answers connects.
    """
    keys = sorted(plan["models"])
    items = {item["id"]: item for item in plan["items"]}
    rows = _rows(items, answers)
    sides = [[keys.index(item[side]["model"]) for item, _, _ in rows] for side in ("left", "right")]
    leans = [lean for _, _, lean in rows]
    ranking = _ranking(rows, sides, leans, keys, len(answers.by_rater))
    tallies = _tallies(sides, leans, len(keys))
    return {
        "format": FORMAT,
        "plan": plan_digest(plan),
        "answers_digest": answers.digest,
        "kind": plan["kind"],
        "question": plan["question"],
        "matched": plan["matched"],
        "pairs_planned": sum(item["repeats"] is None for item in items.values()),
        "comparisons": len(rows),
        "models": _models(plan, keys, ranking, tallies),
        "pairs": _pairs(keys, ranking, tallies),
        "ranking": {
            "model": "Bradley-Terry with ties (Davidson 1970), maximum likelihood",
            "nu": _rounded(ranking.nu),
            "penalised": ranking.penalised,
            "interval": _interval(len(answers.by_rater)),
            "covers_raters": len(answers.by_rater) >= RATERS_FOR_CLUSTERS,
        },
        "agreement": _agreement(rows),
        "sides": _sides(rows),
        "raters": {rater: _rater(items, given) for rater, given in answers.by_rater.items()},
        "answers": {
            "read": answers.read,
            "used": answers.used,
            "replaced": answers.replaced,
            "rejected": answers.reasons,
        },
    }


def _rows(items: Mapping[str, Any], answers: Answers) -> list[Any]:
    """Item, rater and lean of each answer to a pair that is no repeat.

    They stand in the order of the plan, whatever order they came in: equal answers give equal bytes.
    """
    rows = [
        (item, rater, LEAN[given[name].choice])
        for rater, given in answers.by_rater.items()
        for name, item in items.items()
        if item["repeats"] is None and name in given
    ]
    if not rows:
        raise DataError(
            f"review: none of {answers.read} entries is an answer to a pair of this plan "
            f"({answers.reasons or 'no entries'}); collect answers first"
        )
    return rows


def _ranking(rows: list[Any], sides: list[list[int]], leans: list[int], keys: list[str], raters: int) -> Ranking:
    names = [np.unique([row[0]["id"] for row in rows], return_inverse=True)[1]]
    if raters >= RATERS_FOR_CLUSTERS:
        names.append(np.unique([row[1] for row in rows], return_inverse=True)[1])
    try:
        return davidson(*sides, leans, len(keys), names)
    except DataError as error:
        raise DataError(f"review of {', '.join(f'{n} {key}' for n, key in enumerate(keys))}: {error}") from error


def _interval(raters: int) -> str:
    by = "pair shown and by rater" if raters >= RATERS_FOR_CLUSTERS else "pair shown"
    return (
        f"95 %, Student's t on the larger of two standard errors: curvature of the likelihood, and sandwich by {by} "
        "(Cameron, Gelbach and Miller 2011)"
    )


def _tallies(sides: list[list[int]], leans: list[int], models: int) -> np.ndarray:
    """int64 (K, K): how often the row's model was preferred to the column's, and on ties [1]: (2, K, K)."""
    counts = np.zeros((2, models, models), dtype=np.int64)
    for left, right, lean in zip(*sides, leans, strict=True):
        if lean == 0:
            counts[1, left, right] += 1
            counts[1, right, left] += 1
        else:
            winner, loser = (left, right) if lean > 0 else (right, left)
            counts[0, winner, loser] += 1
    return counts


def _models(plan: Mapping[str, Any], keys: list[str], ranking: Ranking, tallies: np.ndarray) -> dict[str, Any]:
    order = list(np.argsort(-ranking.strength, kind="stable"))
    return {
        key: {
            **plan["models"][key],
            "rank": order.index(number) + 1,
            "strength": _entry(ranking.of(number)),
            "wins": int(tallies[0, number].sum()),
            "ties": int(tallies[1, number].sum()),
            "losses": int(tallies[0, :, number].sum()),
        }
        for number, key in enumerate(keys)
    }


def _pairs(keys: list[str], ranking: Ranking, tallies: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for first, second in itertools.combinations(range(len(keys)), 2):
        difference = ranking.difference(first, second)
        preferred = tuple(1 / (1 + math.exp(-value)) for value in difference)
        rows.append(
            {
                "first": keys[first],
                "second": keys[second],
                "first_wins": int(tallies[0, first, second]),
                "ties": int(tallies[1, first, second]),
                "second_wins": int(tallies[0, second, first]),
                "difference": _entry(difference),
                "preferred": _entry(preferred),  # type: ignore[arg-type]
            }
        )
    return rows


def _agreement(rows: list[Any]) -> dict[str, Any] | None:
    """Krippendorff's alpha over pairs that two raters or more answered; None without such pairs."""
    counts: dict[str, list[int]] = {}
    for item, _, lean in rows:
        counts.setdefault(item["id"], [0, 0, 0])[1 - lean] += 1
    shared = [count for count in counts.values() if sum(count) >= 2]
    if len(shared) < 2:
        return None
    return {
        "measure": "Krippendorff's alpha, interval metric over left, tie, right; bootstrap over pairs",
        **_entry(krippendorff_alpha(np.array(shared), APART)),
        "pairs": len(shared),
    }


def _sides(rows: list[Any]) -> dict[str, Any]:
    """Side bias of the raters: sides were drawn at random, so there should be none."""
    by_item: dict[str, list[int]] = {}
    for item, _, lean in rows:
        by_item.setdefault(item["id"], []).append(lean)
    counted = [lean for _, _, lean in rows if lean]
    left = counted.count(1)
    low, high = wilson_interval(left, len(counted))
    return {
        "left": left,
        "right": len(counted) - left,
        "share_left": {
            "value": _rounded(left / len(counted) if counted else math.nan),
            "low": _rounded(low),
            "high": _rounded(high),
        },
        "p": _rounded(sign_test([float(np.mean(leans)) for leans in by_item.values()])),
    }


def _rater(items: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Number of answers, consistency on repeated pairs, and time by rater."""
    checks = [
        (LEAN[given[item["repeats"]].choice], -LEAN[given[name].choice])
        for name, item in items.items()
        if item["repeats"] is not None and name in given and item["repeats"] in given
    ]
    same = sum(before == after for before, after in checks)
    low, high = wilson_interval(same, len(checks))
    seconds = [answer.seconds for answer in given.values() if answer.seconds is not None]
    return {
        "answers": len(given),
        "ties": sum(answer.choice == "tie" for answer in given.values()),
        "checks": len(checks),
        "same_on_checks": same,
        "reversed_on_checks": sum(before * after < 0 for before, after in checks),
        "steadiness": {"value": same / len(checks), "low": _rounded(low), "high": _rounded(high)} if checks else None,
        "median_seconds": _rounded(median(seconds)) if seconds else None,
    }
