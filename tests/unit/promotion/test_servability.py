"""Limits of the process that answers for a model, with real processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from genfoundry.core.errors import InfrastructureError
from genfoundry.promotion import servability
from genfoundry.promotion.options import Servability
from genfoundry.promotion.servability import GIB, serve_once, watch


def started(code: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


def test_a_process_within_its_limits_is_measured() -> None:
    ended = watch(started("import time; x = b'x' * (100 * 2**20); time.sleep(1)"), Servability())

    assert ended.code == 0 and 100 * 2**20 < ended.peak < GIB
    assert ended.processor_seconds > 0 and 0 < ended.seconds < 120


def test_one_beyond_its_memory_is_killed_with_what_it_started(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    child = (
        f"import subprocess, sys; p = subprocess.Popen(['sleep', '600']); open({str(pid)!r}, 'w').write(str(p.pid));"
    )
    ended = watch(started(child + "x = b'x' * 2**30; input()"), Servability(memory_gib=0.2))

    assert ended.code == -9 and ended.peak > 0.2 * GIB
    state = Path(f"/proc/{pid.read_text()}/stat")
    assert not state.exists() or state.read_text().rsplit(")", 1)[1].split()[0] in "ZX"


@pytest.mark.parametrize(("code", "busy"), [("while True: pass", True), ("import time; time.sleep(600)", False)])
def test_slow_is_not_the_same_as_not_let_run(
    code: str, busy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen
    monkeypatch.setattr(servability.subprocess, "Popen", lambda command, **more: real([command[0], "-c", code], **more))
    # However busy this machine is: what counts is the share of the time in which it ran.
    monkeypatch.setattr(servability, "IDLE", 0.02)

    if busy:
        served = serve_once(tmp_path, {}, tmp_path, Servability(seconds=3))
        assert not served.passed and served.words == "no answer within 3 s"
    else:
        with pytest.raises(InfrastructureError, match=r"too busy, or the model hangs"):
            serve_once(tmp_path, {}, tmp_path, Servability(seconds=3))
