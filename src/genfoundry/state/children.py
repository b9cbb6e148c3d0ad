"""Run commands of a retrain, each in a process group of its own that is stopped at its timeout or with the retrain.

A signal to `dvc repro` alone leaves its stage training (tried), so signals go to the whole group: SIGTERM first, which
saves a checkpoint, SIGKILL after a grace. If the retrain itself is killed, the kernel sends its child SIGTERM (Linux),
and the stages below it notice; whatever survives that is identified by the next retrain, by a mark in its environment.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from genfoundry.core.errors import (
    ConfigError,
    DiskError,
    Exit,
    GenfoundryError,
    InfrastructureError,
    PreemptedError,
    error_line,
)
from genfoundry.core.processes import alive, stat_fields
from genfoundry.state.secrets import redact

GRACE_S = 120.0
"""Seconds between SIGTERM and SIGKILL: what a stage may take to save a checkpoint."""

TAIL = 40
"""Lines of output that are kept for a message."""

LOG_BYTES = 64 << 20
"""A log does not grow beyond this; the rest of the output is dropped."""

MARK = "GENFOUNDRY_RETRAIN"
"""Environment variable that marks the processes of a retrain with its state root."""

_PR_SET_PDEATHSIG = 1


class TimeUp(Exception):
    """The command was stopped because its time was up."""


def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None


class Ended:
    """How a command ended: its exit code, and the end of what it said."""

    def __init__(self, code: int, tail: Sequence[str]) -> None:
        self.code, self.tail = code, tuple(tail)

    def last(self) -> str:
        """The last line of output that is not empty."""
        return next((line.strip() for line in reversed(self.tail) if line.strip()), "it said nothing")


def run(
    command: Sequence[str],
    cwd: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout_s: float,
    grace_s: float = GRACE_S,
    echo: bool = True,
) -> Ended:
    """Run a command to its end; its output goes to ``log`` (appended, without secrets) and to our own.

    Raises:
        ConfigError: There is no such command.
        TimeUp: It was stopped after ``timeout_s``.
        Anything that a signal handler raises meanwhile; the group is stopped first.
    """
    libc = _libc()

    def die_with_parent() -> None:
        if libc:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        try:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except FileNotFoundError:
            raise ConfigError(f"{command[0]!r}: no such command; install it, or correct its name") from None
        output = _Output(process, file, echo)
        try:
            if not output.follow(time.monotonic() + timeout_s):
                raise TimeUp(f"{command[0]}: stopped after {timeout_s:.0f} s")
        finally:
            _stop(process.pid, output, grace_s)
            output.close()
    return Ended(process.returncode, output.tail)


class _Output:
    """Copies what a process says, line by line, without waiting for those that inherited its end of the pipe."""

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], echo: bool) -> None:
        assert process.stdout is not None
        self.process, self.pipe, self.log, self.echo = process, process.stdout, log, echo
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.rest, self.size = b"", log.tell()
        os.set_blocking(self.pipe.fileno(), False)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.pipe, selectors.EVENT_READ)

    def follow(self, end: float) -> bool:
        """Copy until the process ended (True) or time is up (False)."""
        while self.process.poll() is None:
            left = end - time.monotonic()
            if left <= 0:
                return False
            if self.selector.get_map():
                self.selector.select(min(left, 0.2))
                self._copy()
            else:
                time.sleep(min(left, 0.05))
        self._copy()
        return True

    def _copy(self) -> None:
        while self.selector.get_map():
            try:
                chunk = os.read(self.pipe.fileno(), 65536)
            except BlockingIOError:
                return
            if not chunk:
                self.selector.unregister(self.pipe)
                return
            *lines, self.rest = (self.rest + chunk).split(b"\n")
            for line in lines:
                self._line(line)

    def _line(self, line: bytes) -> None:
        text = redact(line.decode("utf-8", "replace"))
        self.tail.append(text)
        data = text.encode() + b"\n"
        if self.size < LOG_BYTES:
            self.log.write(data if self.size + len(data) <= LOG_BYTES else b"(the rest of the output was dropped)\n")
            self.log.flush()
        self.size += len(data)
        if self.echo:
            # Nobody may read it any more (a closed terminal); that must not end a retrain.
            with contextlib.suppress(OSError, ValueError):
                print(text, flush=True)

    def close(self) -> None:
        self._copy()
        if self.rest:
            self._line(self.rest)
        self.selector.close()
        self.pipe.close()


def _stop(group: int, output: _Output, grace_s: float) -> None:
    """End what is left of a process group."""
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        if not _group_lives(group, output.process):
            break
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
        end = time.monotonic() + seconds
        while _group_lives(group, output.process) and time.monotonic() < end:
            output.follow(min(end, time.monotonic() + 0.1))
            time.sleep(0.02)
    output.process.wait()


def _group_lives(group: int, leader: subprocess.Popen[bytes]) -> bool:
    if leader.poll() is None:
        return True
    return any(alive(pid) for pid in members(group))


def _numbers() -> list[int]:
    return (
        [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        if Path("/proc/1").exists()
        else []
    )


def members(group: int) -> list[int]:
    """Processes of a group; empty where the system has no /proc."""
    return [pid for pid in _numbers() if stat_fields(pid)[2:3] == [str(group)]]


def marked(state: Path) -> list[int]:
    """Processes that a retrain of this state root started, this one and its own ancestors left out."""
    wanted = f"\0{MARK}={state}\0".encode()
    own = _ancestors()
    found = []
    for pid in _numbers():
        with contextlib.suppress(OSError):
            if pid not in own and wanted in b"\0" + Path(f"/proc/{pid}/environ").read_bytes() and alive(pid):
                found.append(pid)
    return found


def _ancestors() -> set[int]:
    pids, pid = {os.getpid()}, os.getppid()
    while pid > 1 and pid not in pids:
        pids.add(pid)
        pid = int((stat_fields(pid) or ["", "0"])[1])
    return pids


def end_marked(state: Path, grace_s: float = GRACE_S) -> list[int]:
    """End the processes that a dead retrain left; the lock must be held. Returns which there were."""
    left = found = marked(state)
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while (left := [pid for pid in left if alive(pid)]) and time.monotonic() < end:
            time.sleep(0.05)
        if not left:
            break
    return found


class StepError(GenfoundryError):
    """A command of a step failed; ``exit_code`` is the one that its failure has in our table."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]


def failure(command: Sequence[str], ended: Ended, failed: dict[str, Any] | None, log: Path) -> GenfoundryError:
    """The error that a command's end means.

    Args:
        command: What was run.
        ended: How it ended.
        failed: What the stage that failed left behind (``stage.FAILURE_FILE``), if one did.
        log: Where its output is.
    """
    if failed and failed.get("code") in set(Exit):
        return StepError(Exit(failed["code"]), redact(f"{failed.get('stage')}: {failed.get('message')} (log: {log})"))
    name = next((word for word in command if "genfoundry" in word or word == "dvc"), command[0])
    words = " ".join(command[command.index(name) :][:2])
    text = "\n".join(ended.tail)
    if ended.code < 0:
        return InfrastructureError(f"{words}: killed by signal {-ended.code} (out of memory?); log: {log}")
    if "No space left on device" in text or "[Errno 28]" in text:
        return DiskError(f"{words}: no space left; free some and run again (log: {log})")
    said = error_line(ended.tail)
    # 1 is any program's failure, and 255 is DVC's: the others are ours, or a command of the user's that means them.
    known = ended.code in set(Exit) and ended.code not in (Exit.ERROR, Exit.NO_OP, Exit.REJECTED)
    if ended.code == Exit.PREEMPTED:
        return PreemptedError(f"{words}: {said}")
    return StepError(
        Exit(ended.code) if known else Exit.INFRASTRUCTURE, f"{words} ended with {ended.code}: {said} (log: {log})"
    )
