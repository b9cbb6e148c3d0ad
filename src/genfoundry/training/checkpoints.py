"""Atomic checkpoints: written to a temporary file, hashed, renamed; the last two are kept, damaged ones skipped.

Lightning's own save goes through $TMPDIR and destroyed the old file on a full disk; ``torch.load`` loads a flipped
bit in silence (both tried). The folder is named by the run's fingerprint, so that a resume never continues
something else.
"""

import hashlib
import io
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import torch

from genfoundry.core.errors import DataError
from genfoundry.core.io import publish_file

KEEP = 2


def _read(path: Path, payload: bytes, run: str) -> dict[str, Any]:
    """The state of a run's checkpoint; a pickle that would run code is refused unread."""
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: whole, but no checkpoint of ours ({reason}); remove it and run dvc repro") from None
    if state.pop("run", None) != run:
        raise DataError(
            f"{path}: a checkpoint of another run, which had other data, code or settings; remove it and run dvc "
            "repro. To go on from another model's weights name it in init_from"
        )
    return state


class Checkpoints:
    """The checkpoints of one training run: ``step-<n>-<sha256 of the file>.pt``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[tuple[int, Path]]:
        """(step, file), newest first."""
        found = [(re.match(r"step-(\d+)-[0-9a-f]{64}\.pt$", path.name), path) for path in self.folder.glob("step-*.pt")]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a checkpoint; older ones than the last two go only after it is there."""
        buffer = io.BytesIO()
        torch.save({**state, "run": self.folder.name}, buffer)
        payload = buffer.getbuffer()
        target = self.folder / f"step-{step:09d}-{hashlib.sha256(payload).hexdigest()}.pt"
        with publish_file(target) as temporary:
            temporary.write_bytes(payload)
        for _, old in self.files()[KEEP:]:
            old.unlink()
        return target

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint whose bytes match its name, or None; damaged ones are reported and removed."""
        for step, path in self.files():
            try:
                payload = path.read_bytes()
            except FileNotFoundError:  # another rank found it damaged and removed it
                continue
            if hashlib.sha256(payload).hexdigest() == path.stem.rsplit("-", 1)[1]:
                return _read(path, payload, self.folder.name)
            print(
                f"genfoundry: checkpoint of step {step} is damaged ({path.name}); using the one before", file=sys.stderr
            )
            path.unlink(missing_ok=True)
        return None

    def clear(self) -> None:
        """Remove all: the model is published."""
        # Checkpoints first: a rerun that resumes from one expects the pictures beside it.
        for _, path in self.files():
            path.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
