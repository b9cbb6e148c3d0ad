"""Which processes are alive (a zombie is not), and signals that end a process when its parent dies."""

import math
import os
import platform
import signal
import threading
import time
from collections.abc import Iterator
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


SAMPLE_S = 0.3
"""Seconds over which idle time is measured: thirty ticks of the kernel's clock."""


def _affinity() -> list[int]:
    """Numbers of the processors that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def _quotas(system: Path) -> Iterator[float]:
    """Limits of processor time that cgroups set, in processors: of version 2 (cpu.max) and 1 (cpu.cfs_quota_us)."""
    try:
        lines = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = system / "sys/fs/cgroup" / ("cpu" if controllers else "")
        own = top / path.strip("/")
        # In a container the path may be the host's, which is not there; the top is.
        for place in (own, *(parent for parent in own.parents if parent.is_relative_to(top))):
            try:
                if controllers:
                    quota, period = ((place / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
                else:
                    quota, period = (place / "cpu.max").read_text().split()
            except (OSError, ValueError):
                continue
            if quota.strip() not in ("max", "-1"):
                yield int(quota) / int(period)


def cores(system: Path = Path("/")) -> int:
    """Processors that this process may use: its affinity, or fewer where a cgroup limits its time; at least 1."""
    return max(min([len(_affinity()), *(math.ceil(quota) for quota in _quotas(system))]), 1)


def _ticks(text: str) -> dict[int, tuple[int, int]]:
    """(idle, all) clock ticks of each processor, from the text of /proc/stat (proc(5))."""
    found = {}
    for line in text.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name != "cpu":
            numbers = [int(field) for field in fields[:8]]
            found[int(name[3:])] = (sum(numbers[3:5]), sum(numbers))
    return found


def free_cores(seconds: float = SAMPLE_S) -> float:
    """How many of ``cores()`` are idle now; all, where the system doesn't say.

    Measured, not read off the load average: that lags by a minute, so the stage before this one would count.
    """
    stat = Path("/proc/stat")
    if not stat.is_file():
        return float(cores())
    before = _ticks(stat.read_text())
    time.sleep(seconds)
    return min(_idle(before, _ticks(stat.read_text()), _affinity()), float(cores()))


def _idle(before: dict[int, tuple[int, int]], after: dict[int, tuple[int, int]], processors: list[int]) -> float:
    """Sum of the shares of time that these processors were idle; one without ticks counts as idle."""
    free = 0.0
    for number in processors:
        idle, passed = (b - a for a, b in zip(before.get(number, (0, 0)), after.get(number, (0, 0)), strict=True))
        free += idle / passed if passed > 0 else 1.0
    return free
