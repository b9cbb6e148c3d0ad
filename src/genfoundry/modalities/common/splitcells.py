"""Find cells of a TSV file that were quoted when it was written, and so lie on several lines.

TSV has no quotes (IANA, text/tab-separated-values): ``"`` is a character, and each line a row. But pandas and
spreadsheets quote a cell that holds a line end, and its pieces may look like rows. A quotation over two sentences, each
in a row of its own, looks the same; then the other cells of these rows are such as their columns hold elsewhere.
"""

import re
from collections import Counter
from typing import NamedTuple

from genfoundry.core.errors import DataError

KNOWN = 1000
"""Different values of a column that are held; a column with more of them, most of them single, is free text."""

LONGEST = 100
"""Characters; a column with a longer value is free text."""

FEW = 10
"""Below so many cells nobody can say that a column is free text."""

_NUMBER = re.compile(r"[+-]?\d+(?:[.,]\d+)?")


class _Span(NamedTuple):
    """A cell that begins with a quote which the line does not close."""

    line: int
    column: int
    cells: list[tuple[int, str]]
    """(column, cell) of what would belong to it besides the pieces in its own column."""


class SplitCells:
    """Watches the rows of one file, read without quotes.

    Args:
        name: The file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.span: _Span | None = None
        self.clear = True
        """Whether the span may be rows: each line has as many cells as the header, and no quote in it is doubled."""
        self.seen: dict[int, set[str] | None] = {}
        """By column: different cells outside of spans; None for free text."""
        self.count: Counter[int] = Counter()
        """By column: cells outside of spans."""
        self.doubtful: list[tuple[_Span, int]] = []
        """Spans that may be rows, with their last line."""

    def row(self, line: int, cells: list[str], width: int) -> None:
        """Take a row that ends on a line, under a header of some width.

        Raises:
            DataError: It ends a cell that was quoted.
        """
        self.clear &= len(cells) == width
        for column, cell in enumerate(cells):
            if self.span:
                end = _end(cell)
                self.clear &= '""' not in cell
                if end is None:
                    if column != self.span.column and len(self.span.cells) < KNOWN:
                        self.span.cells.append((column, cell))
                    continue
                span, self.span = self.span, None
                if end:
                    self._close(span, line, column)
                    continue
                for other, taken in span.cells:
                    self._see(other, taken)
            if cell.startswith('"') and _end(cell[1:]) is None:
                self.span = _Span(line, column, [])
                self.clear = len(cells) == width and '""' not in cell[1:]
            else:
                self._see(column, cell)

    def _close(self, span: _Span, line: int, column: int) -> None:
        if line == span.line:
            return
        if not self.clear or column != span.column:
            raise DataError(self._message(span.line, line))
        if span.cells and len(self.doubtful) < KNOWN:
            self.doubtful.append((span, line))

    def _see(self, column: int, cell: str) -> None:
        known = self.seen.setdefault(column, set())
        if known is None:
            return
        known.add(cell)
        self.count[column] += 1
        if len(cell) > LONGEST or (len(known) > KNOWN and len(known) * 2 > self.count[column]):
            self.seen[column] = None

    def check(self) -> None:
        """At the end of the file.

        Raises:
            DataError: A cell of a doubtful span is such as its column nowhere holds.
        """
        numbers = {column: all(map(_NUMBER.fullmatch, known)) for column, known in self.seen.items() if known}
        for span, last in self.doubtful:
            for column, cell in span.cells:
                known, count = self.seen.get(column), self.count[column]
                if known is None or cell in known or (numbers[column] and _NUMBER.fullmatch(cell)):
                    continue
                if numbers[column] or count < FEW or len(known) * 2 <= count:
                    raise DataError(self._message(span.line, last))

    def _message(self, first: int, last: int) -> str:
        return (
            f"{self.name}: lines {first} to {last} look like one cell in quotes, but TSV has no quotes; set "
            "ingest.quoting to true if the file was written with them (pandas, spreadsheets), or to false to read each "
            "line as a row"
        )


def _end(text: str) -> bool | None:
    """Whether a text behind an opening quote ends with the closing one; False if text follows it, None without one."""
    text = text.replace('""', "")
    return text.index('"') == len(text) - 1 if '"' in text else None
