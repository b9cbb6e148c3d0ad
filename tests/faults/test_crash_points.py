"""Crash points one by one: a training dies before, in and after every write, rename, sync and removal."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from trainline import Killed, outputs, tiny, train

TOUCHED = (
    (Path, "write_bytes"),
    (Path, "write_text"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (os, "replace"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (shutil, "copyfile"),
)
"""All by which training, publishing and checkpoints change what is on disk."""


class Countdown:
    """Dies before, halfway through or after the n-th operation on disk below a folder; n 0 only counts."""

    def __init__(self, root: Path, at: int = 0, moment: str = "before") -> None:
        self.root, self.at, self.moment = root, at, moment
        self.seen: list[str] = []

    def wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(where: Any, *values: Any, **named: Any) -> Any:
            if not self._ours(where):
                return original(where, *values, **named)
            if self.at and len(self.seen) >= self.at:
                raise Killed  # what a finally block would still tidy up, a killed process does not
            self.seen.append(name)
            if len(self.seen) < self.at or not self.at:
                return original(where, *values, **named)
            if self.moment == "half" and name == "write_bytes":
                original(where, bytes(values[0])[: len(values[0]) // 2])
            elif self.moment == "half":
                files = sorted(path for path in Path(where).rglob("*") if path.is_file())
                for path in files[: len(files) // 2 + 1]:
                    os.remove(path)  # noqa: PTH107 -- Path.unlink is watched itself
            elif self.moment == "after":
                original(where, *values, **named)
            raise Killed

        return watched

    def _ours(self, where: Any) -> bool:
        path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else Path(where)
        return path.is_relative_to(self.root)

    @contextmanager
    def armed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for owner, name in TOUCHED:
                patch.setattr(owner, name, self.wrap(name, getattr(owner, name)))
            yield


def run(root: Path) -> None:
    kind, options = tiny("transformer")
    more = {"steps": 3, "val_every": 2, "log_every": 2, "sample_every": 3, "ema": 0.9}
    train(root, "transformer", kind, options, more, {"checkpoint_every": 1e-9})


def test_a_crash_at_any_operation_on_disk_leaves_no_trace(tmp_path: Path) -> None:
    prepared, calm = tmp_path / "prepared", tmp_path / "calm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genfoundry.training.loop.train", lambda *values: None)
        run(prepared)  # its data alone
    shutil.copytree(prepared, calm)
    counting = Countdown(calm)
    with counting.armed():
        run(calm)
    wanted = outputs(calm)
    assert set(counting.seen) == {name for _, name in TOUCHED}

    # Dead after an operation is dead before the next one, but for the last.
    points = [(at, "before") for at in range(1, len(counting.seen) + 1)] + [(len(counting.seen), "after")]
    points += [(at, "half") for at, name in enumerate(counting.seen, 1) if name in ("write_bytes", "rmtree")]
    for at, moment in points:
        root = tmp_path / f"{at}-{moment}"
        shutil.copytree(prepared, root)
        with Countdown(root, at, moment).armed(), pytest.raises(Killed):
            run(root)
        torch.manual_seed(at)

        run(root)

        assert outputs(root) == wanted, f"killed {moment} operation {at}, {counting.seen[at - 1]}"
        assert not list(root.rglob("*.partial")), f"left by a kill {moment} operation {at}, {counting.seen[at - 1]}"
