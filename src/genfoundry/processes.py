"""Which processes live: a killed one that nobody has waited for yet (a zombie, usual in containers) does not."""

import os
from pathlib import Path


def start_of(pid: int) -> str:
    """Start in clock ticks since boot, which tells a recycled pid from its former owner; "" if dead or unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def alive(pid: int) -> bool:
    """True while the process can still act."""
    if Path("/proc/self/stat").exists():
        return bool(start_of(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
