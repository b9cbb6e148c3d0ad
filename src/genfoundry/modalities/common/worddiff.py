"""Difference of two texts by words, as HTML."""

import difflib
import re

from genfoundry.core.pages import escape

LIMIT = 1000
"""Pieces compared: difflib takes time with their square."""

CONTEXT = 24
"""Equal pieces shown on each side of a change."""


def html(first: str, second: str) -> str:
    """The first text with removals in ``<del>`` and additions in ``<ins>``; long equal passages are left out."""
    before, after = (re.findall(r"\w+|\s+|[^\w\s]+", text)[:LIMIT] for text in (first, second))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    parts = []
    blocks = matcher.get_opcodes()
    for number, (kind, a, b, c, d) in enumerate(blocks):
        if kind == "equal":
            parts.append(_equal(before[a:b], number == 0, number == len(blocks) - 1))
            continue
        if b > a:
            parts.append(f"<del>{escape(''.join(before[a:b]))}</del>")
        if d > c:
            parts.append(f"<ins>{escape(''.join(after[c:d]))}</ins>")
    return "".join(parts)


def _equal(pieces: list[str], opening: bool, closing: bool) -> str:
    head, tail = (0 if opening else CONTEXT), (0 if closing else CONTEXT)
    if opening and closing:
        head = CONTEXT
    if len(pieces) <= head + tail + 8:
        return escape("".join(pieces))
    left, right = "".join(pieces[:head]), "".join(pieces[len(pieces) - tail :])
    return f"{escape(left)}<span class=soft> … </span>{escape(right)}"
