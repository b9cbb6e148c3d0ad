"""Event log of a project, one JSON line per event: retrains, promotions, rollbacks, missed slots, upkeep.

``<state>/mlruns/events.jsonl`` is only ever appended to, under a lock, each line whole and on disk before the caller
goes on. A line that a crash cut short is ignored by readers and closed by the next writer.
"""

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from genfoundry.core.clock import stamp
from genfoundry.core.io import disk_errors
from genfoundry.state.locks import locked


def events_file(state: Path) -> Path:
    """Where the events of a project lie."""
    return state / "mlruns/events.jsonl"


def append_event(state: Path, kind: str, at: datetime | None = None, **facts: Any) -> dict[str, Any]:
    """Note an event and return it: ``at`` in UTC to the second, ``kind``, and what the caller says of it."""
    event = {"at": stamp(at), "kind": kind, **facts}
    line = json.dumps(event, ensure_ascii=False, allow_nan=False)
    path = events_file(state)
    with locked(path.with_suffix(".lock")), disk_errors(path), path.open("ab+") as file:
        if file.tell() and not _ends_whole(path):
            file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    return event


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def read_events(state: Path, *kinds: str, holding: str = "") -> Iterator[dict[str, Any]]:
    """Events in the order they happened, of all kinds or of those named.

    Args:
        state: The state root.
        kinds: Which; none: all.
        holding: A text that stands in the event, such as a slot: years of events are not parsed for one of them.
    """
    path = events_file(state)
    if not path.is_file():
        return
    words, held = [json.dumps(kind).encode() for kind in kinds], holding.encode()
    for line in path.read_bytes().splitlines():
        if held not in line or (words and not any(word in line for word in words)):
            continue
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and (not kinds or event.get("kind") in kinds):
            yield event
