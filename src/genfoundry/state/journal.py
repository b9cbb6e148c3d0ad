"""Write-ahead journal of one retrain: steps begun and ended with their facts, each line synced to disk.

``<state>/mlruns/retraining/<key>/journal.jsonl`` is appended to; ``outcome.json`` beside it is replaced whole when an
attempt ends; ``<state>/mlruns/retraining/open.json`` names the attempt under way, so that its death is noticed.
"""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from genfoundry.core.clock import stamp
from genfoundry.core.io import disk_errors, write_json
from genfoundry.state.secrets import redacted

OPEN, JOURNAL = "open.json", "journal.jsonl"


def home(state: Path) -> Path:
    """Where retraining keeps its state."""
    return state / "mlruns/retraining"


def lock_file(state: Path) -> Path:
    """The lock of retrain, upkeep and whatever else must not run beside them."""
    return home(state) / "lock"


def worktrees(state: Path) -> Path:
    """Folder of the worktrees of retrains."""
    return home(state) / "worktrees"


def read_whole(path: Path) -> dict[str, Any] | None:
    """A JSON object that is replaced whole; None if there is none or it is no such."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def open_attempt(state: Path) -> dict[str, Any] | None:
    """The attempt under way, or that died: its ``key``, ``attempt`` and facts; None if there is none."""
    return read_whole(home(state) / OPEN)


def set_open(state: Path, attempt: Mapping[str, Any] | None) -> None:
    """Name the attempt under way; None when it has ended."""
    if attempt is None:
        (home(state) / OPEN).unlink(missing_ok=True)
    else:
        write_json(home(state) / OPEN, attempt)


class Journal:
    """Reads what earlier attempts noted, appends what this one does."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / JOURNAL
        self.entries = self._read()

    def _read(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        entries = []
        for line in self.path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # a crash cut it short
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def note(self, moment: datetime, step: str, state: str, **facts: Any) -> None:
        """Append one line and wait for the disk."""
        entry = {"at": stamp(moment), "step": step, "state": state, **redacted(facts)}
        line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        with disk_errors(self.path), self.path.open("ab+") as file:
            if file.tell() and not self._ends_whole():
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self.entries.append(entry)

    def _ends_whole(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

    @property
    def attempts(self) -> int:
        """Number of attempts."""
        return sum(entry["step"] == "attempt" and entry["state"] == "begin" for entry in self.entries)

    def began(self) -> datetime | None:
        """When the first attempt began; None if no line says so."""
        try:
            return datetime.fromisoformat(str(self.entries[0]["at"]))
        except (IndexError, KeyError, ValueError):
            return None

    def ended(self, step: str) -> dict[str, Any] | None:
        """Facts of a step that came to its end, in any attempt since it was last to be done again (``redo``)."""
        found = None
        for entry in self.entries:
            if entry["step"] == step and entry["state"] == "end":
                found = entry
            elif entry["step"] == "redo" and step in entry["steps"]:
                found = None
        return found

    def outcome(self) -> dict[str, Any] | None:
        """How the last attempt ended, if one did."""
        return read_whole(self.folder / "outcome.json")

    def close(self, outcome: Mapping[str, Any]) -> None:
        """Replace ``outcome.json``."""
        write_json(self.folder / "outcome.json", redacted(outcome))
