"""Crash points one by one: a training dies before, in and after every write, rename, sync and removal."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from trainline import Killed, outputs, tiny, train

TOUCHED = (
    (Path, "write_bytes"),
    (Path, "unlink"),
    (Path, "mkdir"),
    (os, "replace"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (shutil, "copyfile"),
)
"""All by which training, publishing and checkpoints change what is on disk."""

FOLDERS = ("artifacts", "checkpoints", "reports")
"""All that a training writes into."""


@dataclass(frozen=True)
class Calm:
    """The data before an undisturbed training, and what it left and did on disk."""

    prepared: Path
    outputs: dict[str, str]
    seen: list[tuple[str, str]]


class Countdown:
    """Dies before, halfway through or after the n-th operation on disk below a folder; n 0 only counts."""

    def __init__(self, root: Path, at: int = 0, moment: str = "before") -> None:
        self.root, self.at, self.moment = root, at, moment
        self.seen: list[tuple[str, str]] = []
        """Operation, and the folder of the project that it is in."""

    def wrap(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(where: Any, *values: Any, **named: Any) -> Any:
            path = Path(f"/proc/self/fd/{where}").readlink() if isinstance(where, int) else Path(where)
            if not path.is_relative_to(self.root):
                return original(where, *values, **named)
            if self.at and len(self.seen) >= self.at:
                raise Killed  # what a finally block would still tidy up, a killed process does not
            self.seen.append((name, path.relative_to(self.root).parts[0]))
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


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    root = tmp_path_factory.mktemp("crash")
    prepared, calm = root / "prepared", root / "calm"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genfoundry.training.loop.train", lambda *values: None)
        run(prepared)  # its data alone
    shutil.copytree(prepared, calm)
    counting = Countdown(calm)
    with counting.armed():
        run(calm)
    assert {name for name, _ in counting.seen} == {name for _, name in TOUCHED}
    assert {folder for _, folder in counting.seen} == set(FOLDERS)
    return Calm(prepared, outputs(calm), counting.seen)


def points(seen: list[tuple[str, str]]) -> Iterator[tuple[int, str]]:
    """Where and when to die: dead after an operation is dead before the next one, but for the last."""
    for at, (name, _) in enumerate(seen, 1):
        yield at, "before"
        if name in ("write_bytes", "rmtree"):
            yield at, "half"
    yield len(seen), "after"


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["kinds", "every"])
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_crash_at_any_operation_on_disk_leaves_no_trace(calm: Calm, tmp_path: Path, folder: str, every: bool) -> None:
    """By default one crash of each kind, an operation in a folder and a moment: the last such, which finds the most."""
    chosen = [(at, moment) for at, moment in points(calm.seen) if calm.seen[at - 1][1] == folder]
    if not every:
        chosen = list({(calm.seen[at - 1][0], moment): (at, moment) for at, moment in chosen}.values())
    for at, moment in chosen:
        root = tmp_path / f"{at}-{moment}"
        shutil.copytree(calm.prepared, root)
        with Countdown(root, at, moment).armed(), pytest.raises(Killed):
            run(root)
        torch.manual_seed(at)

        run(root)

        said = f"killed {moment} operation {at}, {calm.seen[at - 1]}"
        assert outputs(root) == calm.outputs, said
        assert not list(root.rglob("*.partial")), f"left: {said}"
