"""Living, dead, and dead without anybody having waited for it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genfoundry.core.processes import _idle, _ticks, alive, cores, free_cores, start_of


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert alive(child.pid) and start_of(child.pid)
    child.kill()
    for _ in range(500):  # until the kernel has ended it; nobody has waited for it yet
        if not alive(child.pid):
            break
        time.sleep(0.02)

    assert not alive(child.pid)
    os.kill(child.pid, 0)  # it is still listed: the naive question would call it alive
    assert start_of(child.pid) == ""
    child.wait()
    assert not alive(child.pid)


def test_this_process_lives() -> None:
    assert alive(os.getpid())
    assert start_of(os.getpid()) == start_of(os.getpid())


STAT = """cpu  {0} 0 0 {1} 0 0 0 0 0 0
cpu0 {0} 0 0 {1} 0 0 0 0 0 0
cpu3 10 0 0 {2} {2} 0 0 0 7 7
intr 3618434 0
"""


def test_idle_processors_are_counted_by_their_share_of_the_time_that_passed() -> None:
    before, after = _ticks(STAT.format(100, 50, 0)), _ticks(STAT.format(130, 60, 20))

    # Processor 0: 30 ticks busy, 10 idle. Processor 3: all of 40 idle or waiting for a disk.
    assert _idle(before, after, [0]) == 0.25
    assert _idle(before, after, [0, 3]) == 1.25
    # One that the kernel does not list, and a clock that stood still, say nothing against it.
    assert _idle(before, after, [7]) == _idle(before, before, [0]) == 1.0


@pytest.mark.skipif(not Path("/proc/stat").is_file(), reason="only Linux says what its processors do")
def test_on_a_busy_machine_little_is_free() -> None:
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores())]
    try:
        time.sleep(0.3)
        assert free_cores(0.5) < 0.6 * cores()
    finally:
        for process in spinning:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("lines", "files", "found"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"}, 1),
        ("0::/of/the/host", {"cpu.max": "100000 100000"}, 1),
        ("3:cpuset:/\n1:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "90000", "cpu/x/cpu.cfs_period_us": "100000"}, 1),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("1:cpu:/", {}, None),
    ],
)
def test_a_cgroup_limits_the_cores(lines: str, files: dict[str, str], found: int | None, tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(lines + "\n")
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    without = cores(tmp_path / "nothing")
    assert without >= 1 and cores(tmp_path) == (found or without)
