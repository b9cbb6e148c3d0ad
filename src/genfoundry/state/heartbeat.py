"""Heartbeat file: when retraining was last alive, for monitoring.

Monitoring reads ``<state>/mlruns/retraining/heartbeat.json``: older than a slot and a run take together, somebody
should look. It is replaced whole; a reader never sees half of it.
"""

import os
import socket
from pathlib import Path
from typing import Any

from genfoundry.core.clock import Clock, stamp
from genfoundry.core.io import write_json
from genfoundry.state.journal import home


def heartbeat_file(state: Path) -> Path:
    """Path of the heartbeat file."""
    return home(state) / "heartbeat.json"


def beat(state: Path, clock: Clock, what: str, **facts: Any) -> dict[str, Any]:
    """Replace the heartbeat and return it.

    Args:
        state: State root.
        clock: Says when.
        what: Who gives it: ``retrain``, ``watch``, ``clean``.
        facts: More that a reader may want, such as the outcome and the next slot.
    """
    values = {"at": stamp(clock.now()), "what": what, "host": socket.gethostname(), "pid": os.getpid(), **facts}
    write_json(heartbeat_file(state), values)
    return values
