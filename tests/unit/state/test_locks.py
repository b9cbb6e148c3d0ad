"""Locks with real processes: free exactly when the holder is dead, whatever lies in the file and however old it is."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from genfoundry.core.errors import BusyError
from genfoundry.state.locks import HeldError, describe, held, holder, locked

HOLDS = """
import os, sys, time
from pathlib import Path
from genfoundry.state.locks import held
with held(Path(sys.argv[1]), "a backup"):
    if sys.argv[2:] and os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def process(path: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock, in a group of its own."""
    command = [sys.executable, "-c", HOLDS, str(path), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as child:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def test_a_lock_is_free_when_its_holder_is_dead_and_never_before(tmp_path: Path) -> None:
    path = tmp_path / "below" / "lock"
    with process(path) as child:
        os.utime(path, (0, 0))
        with pytest.raises(HeldError) as caught, held(path, "a retrain"):
            pass
        found = holder(path)
        assert found == caught.value.holder and (found or {})["pid"] == child.pid
        for word in (f"a backup is running as process {child.pid} on ", "; wait for it, or stop it with kill "):
            assert word in str(caught.value)
        assert caught.value.exit_code == 12
        child.kill()
        child.wait()
        assert json.loads(path.read_bytes())["pid"] == child.pid, "its note lies there still"
        assert holder(path) is None
        with held(path, "a retrain"):
            assert (holder(path) or {})["what"] == "a retrain"
    assert holder(path) is None and path.read_bytes() == b""


def test_a_forked_child_does_not_hold_what_its_parent_held(tmp_path: Path) -> None:
    with process(tmp_path / "lock", "fork") as child:
        child.kill()
        child.wait()
        assert os.killpg(child.pid, 0) is None, "the grandchild lives"
        with held(tmp_path / "lock", "a retrain"):
            pass


def test_who_waits_gets_it_when_the_other_has_ended(tmp_path: Path) -> None:
    other, path = ExitStack(), tmp_path / "lock"
    other.enter_context(held(path, "a backup"))

    class Ends:
        slept = 0

        def now(self) -> datetime:
            return datetime(2026, 3, 1, tzinfo=UTC)

        def sleep(self, seconds: float) -> None:
            self.slept += 1
            if self.slept == 3:
                other.close()

    clock = Ends()
    with pytest.raises(BusyError), held(path, "a retrain", 2 * 0.2, clock):
        pass
    assert clock.slept == 2
    with held(path, "a retrain", 60, clock):
        assert (holder(path) or {})["since"] == "2026-03-01T00:00:00Z"
    assert clock.slept == 3


def test_an_error_inside_frees_it(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path / "lock", "a retrain"):
        raise ZeroDivisionError
    with held(tmp_path / "lock", "a retrain"):
        pass


@pytest.mark.parametrize("note", ["", "4711", "{", '{"pid": 1', "[]"])
def test_a_note_that_is_none_stops_nobody(tmp_path: Path, note: str) -> None:
    path = tmp_path / "lock"
    path.write_text(note)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert holder(path) == {}
        with pytest.raises(HeldError, match="another process is just starting; wait for it"), held(path, "a retrain"):
            pass
    with held(path, "a retrain"):
        pass


def test_who_looks_is_not_who_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, looks = tmp_path / "lock", ExitStack()
    path.touch()
    fcntl.flock(looks.enter_context(path.open("rb")), fcntl.LOCK_SH)
    assert holder(path) is None, "two may look at once"
    monkeypatch.setattr(time, "sleep", lambda seconds: looks.close())

    with held(path, "a retrain"):
        pass


def test_a_lock_file_that_was_removed_is_no_second_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flock, removed = fcntl.flock, []

    def late(file: Any, how: int) -> None:
        if not removed:
            removed.append(path.unlink())
        flock(file, how)

    path = tmp_path / "lock"
    monkeypatch.setattr(fcntl, "flock", late)
    with held(path, "a retrain"):
        assert removed and holder(path), "a lock on a file that nobody else will find"


def test_a_short_lock_is_waited_for_in_the_kernel(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with process(path) as child:
        begun = time.monotonic()
        killer = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -9 {child.pid}"])
        with locked(path):
            assert time.monotonic() - begun > 0.4
        killer.wait()


def test_how_long_it_is_held_is_said() -> None:
    note = {"pid": 7, "host": "h", "since": "2026-03-01T00:00:00Z", "what": "retrain"}
    since = datetime(2026, 3, 1, tzinfo=UTC)

    words = [describe(note, since + timedelta(seconds=seconds)) for seconds in (-5, 59, 5400)]

    assert [text.rsplit(", for ")[1] for text in words] == ["0 s", "59 s", "1.5 h"]
