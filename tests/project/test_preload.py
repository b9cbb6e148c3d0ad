"""A preloaded command and a fresh process are told the same and tell the same; only the preloaded one has libraries."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import QUICK
from preload import Preloaded

from genfoundry.core.processes import alive
from genfoundry.tracking.store import ENVIRONMENT

TOLD = """
import json, os, signal, sys, time
import pipelines
if sys.argv[1] == "facts":
    print(json.dumps({
        "argv": sys.argv, "first": pipelines.argv, "path": sys.path,
        "name": __name__, "spec": __spec__.name, "file": __file__,
        "cwd": os.getcwd(), "environ": {name: os.environ[name] for name in sorted(os.environ)},
        "stdin": sys.stdin.read(), "open": sorted(os.listdir("/proc/self/fd")), "umask": os.umask(0o22),
        "signals": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)],
        "ours": sorted(name for name in sys.modules if name.partition(".")[0] in ("genfoundry", "pipelines")),
    }))
    print("to stderr", file=sys.stderr)
if sys.argv[1] == "libraries":
    print("mlflow" in sys.modules)
if sys.argv[1] == "wait":
    os.fork()
    os.write(1, f"{os.getpid()}\\n".encode())
    time.sleep(60)
if sys.argv[1] == "run":
    exec(sys.argv[2])
"""

ENDS = {
    "pass": 0, "sys.exit(3)": 3, "sys.exit()": 0, "sys.exit('words')": 1, "sys.exit(259)": 3, "1 / 0": 1,
    "os._exit(7)": 7,
    "os.kill(os.getpid(), 9)": -signal.SIGKILL, "os.kill(os.getpid(), 15)": -signal.SIGTERM,
    "raise KeyboardInterrupt": -signal.SIGINT,
    "import atexit; atexit.register(print, 'at the end'); print('first')": 0,
    "import threading; threading.Thread(target=lambda: (time.sleep(0.1), print('by a thread'))).start()": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def quick() -> Iterator[str]:
    """The session's preloaded interpreter; one of its own where the session starts fresh ones."""
    if Path(os.environ[QUICK]).parent != Path(sys.executable).parent:
        yield os.environ[QUICK]
    else:
        preloaded = Preloaded(ENVIRONMENT)
        yield str(preloaded.python)
        preloaded.stop()


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines/__init__.py").write_text("import sys\nargv = list(sys.argv)\n")
    (tmp_path / "pipelines/told.py").write_text(TOLD)
    return tmp_path


def told(folder: Path, python: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pipelines.told", *words]
    env = {**os.environ, "PYTHONPATH": "src", "ONE": "1"}
    return subprocess.run(command, cwd=folder, input="by a pipe", capture_output=True, text=True, timeout=120, env=env)


def test_a_preloaded_command_is_told_the_same(folder: Path, quick: str) -> None:
    fresh, warm = (told(folder, python, "facts", "two words", "ä") for python in (sys.executable, quick))

    assert (fresh.returncode, warm.returncode) == (0, 0)
    assert json.loads(warm.stdout) == json.loads(fresh.stdout)
    assert warm.stderr == fresh.stderr == "to stderr\n"


def test_only_the_preloaded_one_has_libraries(folder: Path, quick: str) -> None:
    said = [told(folder, python, "libraries").stdout for python in (sys.executable, quick)]
    code = "import sys; print('mlflow' in sys.modules)"
    other = subprocess.run([quick, "-c", code], capture_output=True, text=True, check=True)

    assert [*said, other.stdout] == ["False\n", "True\n", "False\n"]


@pytest.mark.parametrize("code", ENDS)
def test_it_ends_in_the_same_way(folder: Path, quick: str, code: str) -> None:
    fresh, warm = (told(folder, python, "run", code) for python in (sys.executable, quick))

    assert fresh.returncode == warm.returncode == ENDS[code]
    assert fresh.stdout == warm.stdout
    assert fresh.stderr.splitlines()[-1:] == warm.stderr.splitlines()[-1:], "a traceback has other lines above ours"


def waiting(folder: Path, quick: str) -> "tuple[subprocess.Popen[str], list[int]]":
    """A command that waits, and the two processes that it is."""
    command = [quick, "-m", "pipelines.told", "wait"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, [int(process.stdout.readline()) for _ in range(2)]


def test_a_killed_caller_takes_all_along(folder: Path, quick: str) -> None:
    process, pids = waiting(folder, quick)

    process.kill()

    end = time.monotonic() + 30
    while any(map(alive, pids)):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_are_passed_on(folder: Path, quick: str, number: signal.Signals) -> None:
    process, pids = waiting(folder, quick)

    process.send_signal(number)

    assert process.wait(30) == -number
    for pid in filter(alive, pids):
        os.kill(pid, signal.SIGKILL)
