"""Read raters' answers from files, checked line by line against the plan.

Two forms: the JSON that the page offers for download, and the JSONL that the server appends to. A later answer of the
same rater to the same item replaces the earlier one; ``undo`` takes it back.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genfoundry.core.errors import DataError
from genfoundry.core.io import digest_of
from genfoundry.review.plan import plan_digest

RATER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .-]{0,39}")
"""A rater's alias: it stands in file names, tables and log lines."""

CHOICES = ("left", "right", "tie", "undo")
MOST_BYTES = 64 * 2**20
"""Largest file of answers: 10,000 answers take 2 MB."""


@dataclass(frozen=True)
class Answer:
    """One answer; ``choice`` is ``left``, ``right``, ``tie`` or ``undo``."""

    rater: str
    item: str
    choice: str
    seconds: float | None = None


@dataclass
class Answers:
    """All answers to one plan that count, and what became of the others."""

    by_rater: dict[str, dict[str, Answer]] = field(default_factory=dict)
    """Last answer by rater and item."""
    read: int = 0
    replaced: int = 0
    """Answers that the same rater took back or gave again, differently or not."""
    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    """File, line or entry (from 1) and reason of everything that is not a valid answer."""

    @property
    def used(self) -> int:
        return sum(len(answers) for answers in self.by_rater.values())

    @property
    def reasons(self) -> dict[str, int]:
        return dict(sorted(Counter(reason for _, _, reason in self.rejected).items()))

    @property
    def digest(self) -> str:
        """sha256 of the answers that count, whatever files and order they came in."""
        choices = {
            rater: {item: answer.choice for item, answer in answers.items()} for rater, answers in self.by_rater.items()
        }
        return digest_of(choices)

    def add(self, answer: Answer) -> None:
        answers = self.by_rater.setdefault(answer.rater, {})
        if answers.pop(answer.item, None) is not None:
            self.replaced += 1
        if answer.choice != "undo":
            answers[answer.item] = answer


def parse_answer(value: Any, items: Collection[str]) -> Answer | str:
    """The answer in a parsed JSON object, or the reason why there is none; the plan's digest is checked elsewhere."""
    if not isinstance(value, Mapping):
        return "no JSON object"
    rater, item, choice, seconds = (value.get(name) for name in ("rater", "item", "choice", "seconds"))
    if not isinstance(rater, str) or not RATER.fullmatch(rater) or rater != rater.strip():
        return "no valid rater"
    if not isinstance(item, str) or item not in items:
        return "item is not in the plan"
    if choice not in CHOICES:
        return "choice is none of left, right, tie, undo"
    if seconds is not None and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf
    ):
        return "seconds are no time"
    return Answer(rater, item, choice, None if seconds is None else float(seconds))


def read_answers(plan: Mapping[str, Any], files: Sequence[Path]) -> Answers:
    """All answers in the files, which are read in the order given.

    Raises:
        DataError: A file is missing, too large, not text, or answers another plan.
    """
    digest, items = plan_digest(plan), {item["id"] for item in plan["items"]}
    found = Answers()
    for file in files:
        for number, value in _entries(file):
            found.read += 1
            if isinstance(value, str):
                found.rejected.append((file.name, number, value))
                continue
            theirs = value.get("plan") if isinstance(value, Mapping) else None
            if isinstance(theirs, str) and theirs != digest:
                raise DataError(
                    f"{file}: entry {number} answers plan {theirs[:12]!r}, this review is {digest[:12]!r}; "
                    "give the folder of the review that these answers belong to"
                )
            answer = "no plan" if theirs != digest and isinstance(value, Mapping) else parse_answer(value, items)
            if isinstance(answer, str):
                found.rejected.append((file.name, number, answer))
            else:
                found.add(answer)
    found.by_rater = {rater: answers for rater, answers in sorted(found.by_rater.items()) if answers}
    return found


def _entries(file: Path) -> list[tuple[int, Any]]:
    """Numbered entries of a file, each a parsed value or, as text, the reason why it can't be parsed."""
    try:
        size = file.stat().st_size
        if size > MOST_BYTES:
            raise DataError(f"{file}: {size} bytes, answers take at most {MOST_BYTES}; is this the right file?")
        text = file.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise DataError(f"{file}: no such file; give the answers that raters sent") from None
    except IsADirectoryError:
        raise DataError(f"{file}: a folder; name the files of answers inside") from None
    except UnicodeDecodeError:
        raise DataError(f"{file}: not UTF-8 text; give the JSON or JSONL that the page or the server wrote") from None
    whole = _parsed(text)
    if isinstance(whole, Mapping) and "answers" in whole:
        if not isinstance(whole["answers"], list):
            raise DataError(f"{file}: 'answers' is no list; give the file as the page wrote it")
        common = {name: whole[name] for name in ("plan", "rater") if name in whole}
        return [
            (number, {**entry, **common} if isinstance(entry, Mapping) else "no JSON object")
            for number, entry in enumerate(whole["answers"], 1)
        ]
    return [(number, _parsed(line)) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _parsed(text: str) -> Any:
    """A JSON value; text that is none, or that is a bare string, gives the reason."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    return "no JSON object" if isinstance(value, str) else value
