"""Which processes are alive (a zombie is not), and signals that end a process when its parent dies."""

import os
import platform
import signal
import threading
import time
from pathlib import Path

POLL = 0.5
"""Seconds between checks of the processes that this one must not outlive."""


def stat_fields(pid: int) -> list[str]:
    """Fields of ``/proc/<pid>/stat`` after the name: state, parent, ...; empty if there is none (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def start_of(pid: int) -> str:
    """Start in clock ticks since boot, which identifies a process even if its pid is reused; "" if dead or unknown."""
    fields = stat_fields(pid)
    return "" if not fields or fields[0] in "ZX" else fields[19]


def alive(pid: int) -> bool:
    """True while the process runs; a zombie does not."""
    if Path("/proc/self/stat").exists():
        return bool(start_of(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def processor() -> str:
    """Kind of processor, as ``AMD EPYC 7763 64-Core Processor``; where it has no name, its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def callers() -> list[int]:
    """The parent and, in a DVC stage, all ancestors up to DVC itself.

    DVC starts a stage through ``$SHELL``. bash puts the stage in its own place; dash, the shell of cron and of many
    containers, stays between the two and does not notice that DVC was killed.
    """
    pids = [os.getppid()]
    while (fields := stat_fields(pids[-1])) and _has_stage(pids[-1]):
        pids.append(int(fields[1]))
    return pids


def _has_stage(pid: int) -> bool:
    """True if DVC gave this process a stage to run, so it is below DVC."""
    try:
        return b"\0DVC_STAGE=" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return False


def end_with(pids: list[int], number: signal.Signals) -> None:
    """Send the main thread this signal as soon as the parent, or one of these processes, is dead.

    A polling thread, not the kernel's parent-death signal, which covers the parent only, and only on Linux.
    """
    parent, starts = os.getppid(), {pid: start_of(pid) for pid in pids}

    def watch() -> None:
        while os.getppid() == parent and all(start_of(pid) == start for pid, start in starts.items()):
            time.sleep(POLL)
        signal.pthread_kill(threading.main_thread().ident or 0, number)

    threading.Thread(target=watch, name="end_with", daemon=True).start()


def no_crash(point: str) -> None:
    """Called between any two things that the engine does; a test may raise from it, as a kill would."""
