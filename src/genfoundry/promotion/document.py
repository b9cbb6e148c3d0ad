"""A short document that renders to Markdown and to HTML."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genfoundry.core import pages
from genfoundry.core.pages import Html, escape, number
from genfoundry.modalities.common.exhibits import Exhibit


@dataclass(frozen=True)
class Heading:
    text: str


@dataclass(frozen=True)
class Text:
    """A paragraph; `` `code` `` and ``**bold**`` as in Markdown."""

    text: str


@dataclass(frozen=True)
class Items:
    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Code:
    """Text that is shown as it is."""

    text: str


@dataclass(frozen=True)
class Shown:
    """A picture, sound or film."""

    exhibit: Exhibit
    words: str


Block = Heading | Text | Items | Table | Code | Shown


def markdown(title: str, lead: str, blocks: Sequence[Block]) -> str:
    """The document for MLflow's and git's readers; pictures, sounds and films are named only."""
    return "\n\n".join([f"# {title}", lead, *(_markdown(block) for block in blocks)]) + "\n"


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"## {block.text}"
    if isinstance(block, Text):
        return block.text
    if isinstance(block, Items):
        return "\n".join(f"- {line}" for line in block.lines)
    if isinstance(block, Code):
        # A fence longer than any run of backticks in the text, so that the text can't end it.
        longest = max((len(run) for run in re.findall("`+", block.text)), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}\n{block.text}\n{fence}"
    if isinstance(block, Shown):
        return f"*{block.words}: see the HTML card.*"
    if not block.rows:
        return "*none*"
    lines = [block.columns, ["---"] * len(block.columns), *block.rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else number(value)
    return " ".join(text.split()).replace("|", "\\|")


def html(title: str, lead: str, blocks: Sequence[Block]) -> str:
    """The document as a page that needs nothing else."""
    return pages.page(title, lead, *(_html(block) for block in blocks))


def _html(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h2>{escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{inline(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{inline(line)}</li>" for line in block.lines) + "</ul>"
    if isinstance(block, Code):
        return f"<pre>{escape(block.text)}</pre>"
    if isinstance(block, Shown):
        return f"<p>{block.exhibit.html(block.words)}</p><p class=soft>{escape(block.words)}</p>"
    rows = [[Html(inline(cell)) if isinstance(cell, str) else cell for cell in row] for row in block.rows]
    return pages.table(block.columns, rows)


def inline(text: str) -> str:
    """Escaped text with its code and bold as HTML."""
    safe = escape(text)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", safe)
