"""Servers of MLflow on the loopback address, as processes, for tests that talk to them."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(command: Sequence[str], port: int, folder: Path, wait_s: float, **env: str) -> Iterator[str]:
    """Address of a server that this Python is started with; it is killed at the end, with all that it started."""
    base, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env={**os.environ, **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(f"{base}/health", timeout=2)
            break
        except OSError:
            time.sleep(0.5)
    try:
        yield base
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Address of a tracking server that keeps runs in sqlite and passes artifacts on, all below ``folder``."""
    port = free_port()
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/kept"]
    with serving(command, port, folder, 600, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as base:
        yield base
