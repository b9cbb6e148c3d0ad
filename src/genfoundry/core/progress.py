"""Progress of long work: a bar on a terminal, a plain line every few seconds otherwise."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PLAIN_EVERY_S = 10.0
"""Seconds between plain lines: a log stays readable, a person sees that it lives."""


class Progress:
    """Counts finished units and shows them; ``note`` is a short text behind the count, such as the loss."""

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done = total, what, 0
        self.started = self.shown = time.monotonic()

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        now = time.monotonic()
        if now - self.shown >= PLAIN_EVERY_S or self.done == self.total:
            self.shown = now
            left_s = (now - self.started) / max(self.done, 1) * (self.total - self.done)
            print(f"{self.what}: {self.done}/{self.total} {note} {left_s:.0f} s left", flush=True)


class _Bar(Progress):
    def __init__(self, total: int, what: str) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        super().__init__(total, what)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
        self.rich = Rich(TextColumn(what), *columns, transient=True)
        self.task = self.rich.add_task(what, total=total, note="")

    def advance(self, units: int = 1, note: str = "") -> None:
        self.done += units
        self.rich.update(self.task, advance=units, note=note)


@contextmanager
def progress(total: int, what: str) -> Iterator[Progress]:
    """Show progress over ``total`` units of work while the block runs."""
    if not sys.stdout.isatty():
        yield Progress(total, what)
        return
    bar = _Bar(total, what)
    with bar.rich:
        yield bar
