"""Living, dead, and dead without anybody having waited for it."""

import os
import subprocess
import sys
import time

from genfoundry.core.processes import alive, start_of


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
