"""Quality rules published for web corpora; each is off until it is given a value.

MassiveText: Rae et al. 2021 (arXiv:2112.11446), table A1. C4: Raffel et al. 2020 (arXiv:1910.10683), section 2.2.
FineWeb: Penedo et al. 2024 (arXiv:2406.17557), section 3.6. A word is what stands between white space, so the rules
that count words fit scripts that are written with spaces.
"""

import re
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np
from pydantic import Field

from genfoundry.config.specs import Section

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
"""Of MassiveText; English."""

SHORT_LINE = 30
"""Characters of FineWeb's short line."""


def _share(note: str) -> float | None:
    return Field(default=None, ge=0, le=1, description=note)  # type: ignore[no-any-return]


class Quality(Section):
    """Which documents are too poor; a limit that is null is off. A share counts from 0 to 1."""

    min_words: int | None = Field(default=None, ge=0)
    """Fewest words; MassiveText 50."""
    max_words: int | None = Field(default=None, ge=0)
    """Most words; MassiveText 100000."""
    min_mean_word: float | None = Field(default=None, ge=0)
    """Least mean length of a word; MassiveText 3."""
    max_mean_word: float | None = Field(default=None, ge=0)
    """Greatest mean length of a word; MassiveText 10."""
    min_stop_words: int | None = Field(default=None, ge=0)
    """Fewest different words of the, be, to, of, and, that, have, with; MassiveText 2. For English."""
    phrases: tuple[str, ...] = ()
    """A document with one of these is dropped, whatever its case; C4 ``["lorem ipsum", "{"]``."""
    max_hashes: float | None = _share("Most ``#`` for each word; MassiveText 0.1.")
    max_ellipses: float | None = _share("Most ``...`` or ``…`` for each word; MassiveText 0.1.")
    max_bullet_lines: float | None = _share("Greatest share of lines that begin with a bullet; MassiveText 0.9.")
    max_ellipsis_lines: float | None = _share("Greatest share of lines that end in an ellipsis; MassiveText 0.3.")
    min_ended_lines: float | None = _share("Least share of lines that end in punctuation; FineWeb 0.12.")
    max_short_lines: float | None = _share("Greatest share of lines below 30 characters; FineWeb 0.67.")
    max_newlines: float | None = Field(default=None, ge=0)
    """Most line ends for each word; FineWeb 0.3."""
    min_alphabetic_words: float | None = _share("Least share of words with a letter in them; MassiveText 0.8.")
    max_duplicate_lines: float | None = _share("Greatest share of lines that stood before; MassiveText 0.3.")
    max_duplicate_line_characters: float | None = _share("The same by characters; MassiveText 0.2, FineWeb 0.1.")
    max_duplicate_paragraphs: float | None = _share("Greatest share of paragraphs that stood before; MassiveText 0.3.")
    max_duplicate_paragraph_characters: float | None = _share("The same by characters; MassiveText 0.2.")
    max_top_2gram: float | None = _share("Greatest share of the most frequent 2 words in a row; MassiveText 0.2.")
    max_top_3gram: float | None = _share("The same for 3 words; MassiveText 0.18.")
    max_top_4gram: float | None = _share("The same for 4 words; MassiveText 0.16.")
    max_duplicate_5gram: float | None = _share("Greatest share in 5 words that stood before; MassiveText 0.15.")
    max_duplicate_6gram: float | None = _share("The same for 6 words; MassiveText 0.14.")
    max_duplicate_7gram: float | None = _share("The same for 7 words; MassiveText 0.13.")
    max_duplicate_8gram: float | None = _share("The same for 8 words; MassiveText 0.12.")
    max_duplicate_9gram: float | None = _share("The same for 9 words; MassiveText 0.11.")
    max_duplicate_10gram: float | None = _share("The same for 10 words; MassiveText 0.1.")


_LETTER = re.compile(r"[^\W\d_]")
_BULLETS = ("•", "‣", "▪", "●", "◦", "–", "- ", "* ", "+ ")
_ELLIPSES = ("...", "…")
_ENDS = (*".!?:;\"'", "\u2019", "\u201d", "\u2026", "\u3002", "\uff01", "\uff1f", "\u0964", "\u061f")


class _Document:
    """A text, and what several rules ask about it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._grams: dict[int, np.ndarray] = {}
        self._sorted: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._repeats: dict[int, bool] = {}

    @cached_property
    def words(self) -> list[str]:
        return self.text.split()

    @cached_property
    def lengths(self) -> np.ndarray:
        """Characters of each word: int64 (W,)."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    @cached_property
    def size(self) -> int:
        """Characters of all words, at least 1."""
        return max(sum(map(len, self.words)), 1)

    @cached_property
    def lines(self) -> list[str]:
        """Lines with something on them, without the white space around it."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def paragraphs(self) -> list[str]:
        return [part for part in map(str.strip, re.split(r"\n\s*\n", self.text)) if part]

    @cached_property
    def _numbers(self) -> np.ndarray:
        """A number for each word, equal for equal words, of 64 mixed bits: uint64 (W,)."""
        known: dict[str, int] = {}
        ranks = np.fromiter((known.setdefault(w, len(known)) for w in self.words), np.uint64, len(self.words))
        mixed = (ranks + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        return (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)

    def grams(self, n: int) -> np.ndarray:
        """A hash of each n words in a row: uint64 (max(W - n + 1, 0),)."""
        if n not in self._grams:
            shorter = self.grams(n - 1) if n > 1 else np.zeros(len(self.words) + 1, np.uint64)
            count = max(len(self.words) - n + 1, 0)
            self._grams[n] = shorter[:count] * np.uint64(0xD6E8FEB86659FD93) + self._numbers[n - 1 :]
        return self._grams[n]

    def sorted_grams(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(places of the n words in a row, equal ones together and in order; whether each equals the one before)."""
        if n not in self._sorted:
            found = self.grams(n)
            order = np.argsort(found, kind="stable")
            found = found[order]
            self._sorted[n] = order, np.concatenate([np.zeros(min(len(found), 1), bool), found[1:] == found[:-1]])
        return self._sorted[n]

    def repeats(self, n: int) -> bool:
        """Whether any n words in a row stand twice: not if no fewer do."""
        if n not in self._repeats:
            shorter = n <= 2 or self.repeats(n - 1)
            self._repeats[n] = shorter and bool(self.sorted_grams(n)[1].any())
        return self._repeats[n]


def _duplicates(parts: list[str]) -> tuple[int, int]:
    """(parts that stood before, their characters)."""
    seen: set[str] = set()
    again = [part for part in parts if part in seen or seen.add(part)]  # type: ignore[func-returns-value]
    return len(again), sum(map(len, again))


def _duplicate_share(parts: list[str]) -> float:
    return _duplicates(parts)[0] / max(len(parts), 1)


def _duplicate_characters(parts: list[str]) -> float:
    return _duplicates(parts)[1] / max(sum(map(len, parts)), 1)


def _top(document: _Document, n: int) -> float:
    """Share of the characters in the most frequent n words in a row; 0 where none stand twice."""
    if not document.repeats(n):
        return 0.0
    order, again = document.sorted_grams(n)
    starts = np.flatnonzero(~again)
    counts = np.diff(starts, append=len(order))
    most = int(counts.max())
    first = order[starts[counts == most]]
    # Of several that are as frequent the longest.
    ends = np.concatenate([[0], np.cumsum(document.lengths)])
    return int((ends[first + n] - ends[first]).max()) * most / document.size


def _repeated(document: _Document, n: int) -> float:
    """Share of the characters in n words in a row that stood before, each counted once."""
    if not document.repeats(n):
        return 0.0
    order, again = document.sorted_grams(n)
    steps = np.zeros(len(document.words) + 1, np.int64)
    places = order[again]
    steps[places] += 1
    steps[places + n] -= 1
    return int(document.lengths[np.cumsum(steps[:-1]) > 0].sum()) / document.size


def _of_lines(document: _Document, holds: Callable[[str], bool]) -> float:
    return sum(map(holds, document.lines)) / max(len(document.lines), 1)


def _stop_words(document: _Document) -> int:
    return len(STOP_WORDS.intersection(word.lower() for word in document.words))


def _alphabetic(document: _Document) -> float:
    words = document.words
    return sum(1 for word in words if word.isalpha() or _LETTER.search(word)) / max(len(words), 1)


class _Rule(NamedTuple):
    field: str
    value: Callable[[_Document], float]


def _by_length(kind: str, lengths: range, value: Callable[[_Document, int], float]) -> list[_Rule]:
    return [_Rule(f"max_{kind}_{n}gram", lambda document, n=n: value(document, n)) for n in lengths]  # type: ignore[misc]


RULES = (
    _Rule("min_words", lambda d: len(d.words)),
    _Rule("max_words", lambda d: len(d.words)),
    _Rule("min_mean_word", lambda d: d.size / max(len(d.words), 1)),
    _Rule("max_mean_word", lambda d: d.size / max(len(d.words), 1)),
    _Rule("max_hashes", lambda d: d.text.count("#") / max(len(d.words), 1)),
    _Rule("max_ellipses", lambda d: sum(map(d.text.count, _ELLIPSES)) / max(len(d.words), 1)),
    _Rule("max_newlines", lambda d: d.text.count("\n") / max(len(d.words), 1)),
    _Rule("max_bullet_lines", lambda d: _of_lines(d, lambda line: line.startswith(_BULLETS))),
    _Rule("max_ellipsis_lines", lambda d: _of_lines(d, lambda line: line.endswith(_ELLIPSES))),
    _Rule("min_ended_lines", lambda d: _of_lines(d, lambda line: line.endswith(_ENDS))),
    _Rule("max_short_lines", lambda d: _of_lines(d, lambda line: len(line) < SHORT_LINE)),
    _Rule("min_stop_words", _stop_words),
    _Rule("max_duplicate_lines", lambda d: _duplicate_share(d.lines)),
    _Rule("max_duplicate_line_characters", lambda d: _duplicate_characters(d.lines)),
    _Rule("max_duplicate_paragraphs", lambda d: _duplicate_share(d.paragraphs)),
    _Rule("max_duplicate_paragraph_characters", lambda d: _duplicate_characters(d.paragraphs)),
    _Rule("min_alphabetic_words", _alphabetic),
    *_by_length("duplicate", range(5, 11), _repeated),
    *_by_length("top", range(2, 5), _top),
)
"""The cheap ones first; a document is dropped by the first that it fails."""


def fault(text: str, config: Quality) -> tuple[str, str] | None:
    """(rule, measured value) of the first rule that the text breaks; None if it breaks none."""
    if config == _OFF:
        return None
    document = _Document(text)
    for phrase in config.phrases:
        if phrase.lower() in text.lower():
            return "phrases", f"holds {phrase!r}"
    for rule in RULES:
        limit = getattr(config, rule.field)
        if limit is None:
            continue
        value = rule.value(document)
        low = rule.field.startswith("min_")
        if value < limit if low else value > limit:
            return rule.field, f"{value:.4g}, {'at least' if low else 'at most'} {limit:g}"
    return None


_OFF = Quality()
