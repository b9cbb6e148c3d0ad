"""Verdicts in words: a score against its baseline, one model against another, memorization of training data."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from genfoundry.evaluation.influences import paired_se
from genfoundry.evaluation.results import ModelResult
from genfoundry.metrics._paired import LEAST_DOCUMENTS

NAMES = {"floor": "real data", "unigram": "unigram model", "bigram": "bigram model"}
RIVALS = ("floor", "unigram", "bigram")

PRIMARY = ("fid_domain", "bits_per_byte")
"""What models are ranked by: the score of each kind of data whose error bar holds, and which no tokenizer moves."""

COPYING = ("exact_copies", "near_copies", "copied_ngrams", "longest_overlap")
"""Metrics of memorization, compared with held-out records scored alike."""

Z = 1.959964
"""Of a two-sided 95 % interval."""


def name_of(key: str) -> str:
    """Metric of a key such as ``fid_domain@ab12cd34``."""
    return key.split("@")[0]


def centre(score: Mapping[str, float]) -> float:
    """The value less the bias that is known of it: what models of unlike spread are compared by."""
    return score["value"] - score.get("bias", 0.0)


def plus_minus(score: Mapping[str, float]) -> str:
    """The value and half of its 95 % interval, which stands around the value without bias where that is known."""
    half = f" ± {Z * score['se']:.2g}" if "se" in score else ""
    if "bias" in score:
        return f"{score['value']:.4g}, without bias {centre(score):.4g}{half}"
    return f"{score['value']:.4g}{half}"


def against(score: Mapping[str, float], higher_is_better: bool | None) -> str:
    """A score against its baseline, in words."""
    said, bias = [], score.get("bias", 0.0)
    for rival in (rival for rival in RIVALS if rival in score):
        share = score["value"] / score[rival] - 1 if score[rival] else math.nan
        # Real data's score has a bias like the model's.
        if rival == "floor" and "se" in score and score["low"] <= score["floor"] - bias <= score["high"]:
            said.append("its interval reaches real data's")
        elif rival == "floor" and higher_is_better and score["value"] > score["floor"]:
            said.append(f"more than real data's {score['floor']:.4g}, which is no merit")
        elif rival == "floor" and "relative" in score:
            said.append(f"{score['relative']:.3g} times real data's {score['floor']:.4g}")
        elif rival == "floor" or math.isnan(share):
            said.append(f"{NAMES[rival]} has {score[rival]:.4g}")
        else:
            word = "above" if share > 0 else "below"
            judged = f"{abs(share):.0%} {word} the {NAMES[rival]}'s {score[rival]:.4g}"
            said.append(judged if (share > 0) == higher_is_better else f"{judged}: worse")
    return "; ".join(said)


class Contest(NamedTuple):
    """Two models by one score, measured alike."""

    key: str
    first: str
    second: str
    difference: float
    """Value of the first less that of the second, both without bias where that is known."""
    se: float
    paired: bool
    """Whether the error bar lets what both share cancel; else it is too wide rather than too narrow."""
    better: str
    """The better one, or empty where the 95 % interval of the difference holds 0."""

    @property
    def interval(self) -> tuple[float, float]:
        return self.difference - Z * self.se, self.difference + Z * self.se

    @property
    def p_value(self) -> float:
        """Two-sided: how often two equal models would differ by as much."""
        if self.se == 0:
            return 0.0 if self.difference else 1.0
        return math.erfc(abs(self.difference) / self.se / math.sqrt(2))

    @property
    def words(self) -> str:
        how = f"{abs(self.difference):.3g} ± {Z * self.se:.2g}"
        if not self.better:
            return f"{self.first} and {self.second} can't be told apart: they differ by {how}"
        other = self.second if self.better == self.first else self.first
        sure = f"p = {self.p_value:.1g}" if self.p_value >= 1e-6 else "p < 1e-6"
        return f"{self.better} is better than {other} by {how} ({sure})"


def contests(models: Sequence[ModelResult], names: Sequence[str] = PRIMARY) -> list[Contest]:
    """Every two models that share a key of these metrics: both were measured alike, else their keys would differ."""
    found = []
    for place, first in enumerate(models):
        for second in models[place + 1 :]:
            for key in sorted(set(first.scores) & set(second.scores)):
                if name_of(key) in names and (contest := _contest(key, first, second)):
                    found.append(contest)
    return found


def _contest(key: str, first: ModelResult, second: ModelResult) -> Contest | None:
    mine, theirs, higher = first.scores[key], second.scores[key], first.higher_is_better(key)
    if "se" not in mine or "se" not in theirs or higher is None:
        return None
    if name_of(key) == "bits_per_byte" and mine["n"] < LEAST_DOCUMENTS:
        return None
    se = paired_se(first.influences.get(key, {}), second.influences.get(key, {}))
    paired = math.isfinite(se)
    se = se if paired else math.hypot(mine["se"], theirs["se"])
    difference = centre(mine) - centre(theirs)
    clear = abs(difference) > Z * se
    better = (first.key if (difference > 0) == higher else second.key) if clear else ""
    return Contest(key, first.key, second.key, difference, se, paired, better)


def ranked(models: Sequence[ModelResult], key: str) -> list[ModelResult]:
    """Models with that score, best first."""
    scored = [model for model in models if key in model.scores]
    sign = -1 if scored and scored[0].higher_is_better(key) else 1
    return sorted(scored, key=lambda model: (sign * centre(model.scores[key]), model.key))


def copies(model: ModelResult) -> tuple[str, bool]:
    """Whether a model copies its training data, in words; True if it does so more than held-out records do."""
    said, bad = [], False
    for key, score in sorted(model.scores.items(), key=lambda item: _order(item[0])):
        if name_of(key) in COPYING:
            floor = score.get("floor", 0.0)
            more = score["value"] > floor and score.get("low", score["value"]) > floor
            bad |= more
            said.append(f"{_copy_words(name_of(key), score)} (held-out records: {_share(name_of(key), floor)})")
    return "; ".join(said), bad


def _order(key: str) -> int:
    return COPYING.index(name_of(key)) if name_of(key) in COPYING else -1


def _share(name: str, value: float) -> str:
    return f"{value:.3g} tokens" if name == "longest_overlap" else f"{value:.2%}"


def _copy_words(name: str, score: Mapping[str, float]) -> str:
    what = {
        "exact_copies": "are exact copies of training records",
        "near_copies": "are nearer to a training record than 99 % of held-out records",
        "copied_ngrams": "of long n-grams stand in the training documents",
        "longest_overlap": "is the mean longest run that stands in a training document",
    }[name]
    return f"{_share(name, score['value'])} {what}"


def summary(model: ModelResult) -> dict[str, Any]:
    """Summary of one model for reviewers, as plain values."""
    lines = {
        key: {"value": plus_minus(score), "against": against(score, model.higher_is_better(key))}
        for key, score in model.scores.items()
    }
    said, bad = copies(model)
    return {"scores": lines, "copying": said, "copies": bad}
