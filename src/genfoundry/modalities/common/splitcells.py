"""Find cells of a TSV file that were quoted when it was written, and so lie on several lines.

TSV has no quotes (IANA, text/tab-separated-values): ``"`` is a character, and each line a row. But pandas and
spreadsheets quote a cell that holds a line end, and its pieces may look like rows. A quotation over two sentences, each
in a row of its own, looks the same, so that only the user knows.
"""

from genfoundry.core.errors import DataError


class SplitCells:
    """Watches the rows of one file, read without quotes.

    Args:
        name: The file, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.start = 0
        """Line of a cell that begins with a quote and has not come to the next one; 0 for none."""

    def row(self, line: int, cells: list[str]) -> None:
        """Take a row that ends on a line.

        Raises:
            DataError: It ends a cell that was quoted over lines, or has one in which quotes are doubled.
        """
        for cell in cells:
            if self.start:
                end = _end(cell)
                if end and line > self.start:
                    raise DataError(self._message(f"lines {self.start} to {line} look like one cell in quotes"))
                if end is None:
                    continue
                self.start = 0
                if end:
                    continue
            if not cell.startswith('"'):
                continue
            end = _end(cell[1:])
            if end is None:
                self.start = line
            elif end and '""' in cell[1:-1]:
                raise DataError(self._message(f"line {line} has a cell in quotes that doubles those inside"))

    def _message(self, what: str) -> str:
        return (
            f"{self.name}: {what}, but TSV has no quotes; set ingest.quoting to true if the file was written with them "
            "(pandas, spreadsheets), or to false to read each line as a row and each quote as a character"
        )


def _end(text: str) -> bool | None:
    """Whether a text behind an opening quote ends with the closing one; False if text follows it, None without one."""
    text = text.replace('""', "")
    return text.index('"') == len(text) - 1 if '"' in text else None
