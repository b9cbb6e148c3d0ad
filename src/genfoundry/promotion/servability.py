"""Check servability: a clean process must load the model and answer one request, within time and memory limits."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import genfoundry
from genfoundry.config import params as settings
from genfoundry.config.sections.sampling import Sampling
from genfoundry.core import pin
from genfoundry.core.errors import InfrastructureError
from genfoundry.core.io import write_json
from genfoundry.gate.rules import Rule
from genfoundry.promotion.options import Servability

MAXRSS = 1 if sys.platform == "darwin" else 1024
"""Bytes in a unit of ``ru_maxrss`` (getrusage(2))."""

POLL = 0.02
GIB = 2**30

IDLE = 0.25
"""A process that had a processor for less than this share of its time was not slow: it was not let run."""


@dataclass(frozen=True)
class Served:
    """Result of the servability check."""

    passed: bool
    words: str
    seconds: float
    memory_gib: float
    """Largest resident memory of the process."""

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.passed,
            "words": self.words,
            "seconds": round(self.seconds, 2),
            "memory_gib": round(self.memory_gib, 3),
        }

    def as_rule(self) -> Rule:
        return Rule("servable", self.passed, self.words, {"seconds": self.seconds, "memory_gib": self.memory_gib})


def serves(root: Path, tree: settings.Settings, key: str, model: Path, generator: Mapping[str, Any]) -> Served:
    """Ask a model for one sample within ``retraining.servability``.

    It draws with its own generator; length and prompts are those of its block of params.yaml, if that is still of its
    family.
    """
    limits = settings.parse(Servability, tree.retraining.get("servability", {}), "retraining.servability")
    mine = key in tree.models and tree.models[key].family == settings.read_architecture(model).family
    protocol = settings.model_section(tree, key, Sampling).of_protocol() if mine else {}
    return serve_once(model, {**protocol, **generator}, root, limits)


def serve_once(model: Path, sampling: dict[str, Any], root: Path, limits: Servability) -> Served:
    """Ask the model for one sample in a process of its own.

    Args:
        model: Published folder.
        sampling: Fields of its family's ``sampling``: its generator, and the protocol of the request.
        root: Workspace, whose prompt files the section may name.
        limits: Of time and memory.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_json(folder / "request.json", {"model": str(model), "sampling": sampling, "root": str(root)})
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "genfoundry.promotion.answer", "request.json", "answer.json"],
                cwd=folder,
                env=_clean(),
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            ended = watch(process, limits)
        words = (folder / "said").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        answer = folder / "answer.json"
        facts = json.loads(answer.read_bytes()) if answer.is_file() else {}
    gib, seconds = ended.peak / GIB, ended.seconds
    cost = f"{seconds:.1f} s, {gib:.2f} GiB"
    if gib > limits.memory_gib:
        return Served(False, f"needs {gib:.2f} GiB to answer, {limits.memory_gib:g} are allowed", seconds, gib)
    if seconds > limits.seconds:
        if ended.processor_seconds < IDLE * limits.seconds:
            # The model is not to blame for a machine that lets it wait.
            raise InfrastructureError(
                f"no answer within {limits.seconds:g} s, of which the process had a processor for "
                f"{ended.processor_seconds:.1f} s: the machine is too busy, or the model hangs; run it again, or raise "
                "retraining.servability.seconds"
            )
        return Served(False, f"no answer within {limits.seconds:g} s", seconds, gib)
    if ended.code != 0 or not facts:
        why = words[-1] if words else "without a word"
        return Served(False, f"a clean process can't serve it: ended with {ended.code}: {why}", seconds, gib)
    return Served(True, f"a clean process loaded it and drew {facts['drew']} ({cost})", seconds, gib)


def _clean() -> dict[str, str]:
    """The environment of a process that knows of this one where the code lies and how to compute, nothing else."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "VIRTUAL_ENV")
    found = {name: os.environ[name] for name in (*kept, "OMP_WAIT_POLICY", *pin.NAMES) if name in os.environ}
    return found | {"PYTHONPATH": str(Path(genfoundry.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}


@dataclass(frozen=True)
class Watched:
    """How a process ended."""

    code: int
    seconds: float
    processor_seconds: float
    peak: int
    """Largest resident bytes."""


def watch(process: "subprocess.Popen[bytes]", limits: Servability) -> Watched:
    """Wait for a process; one beyond its limits is killed with all that it started."""
    began, peak = time.monotonic(), 0
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            seconds = time.monotonic() - began
            if not pid:
                peak = max(peak, _resident(process.pid))
                if seconds > limits.seconds or peak > limits.memory_gib * GIB:
                    os.killpg(process.pid, signal.SIGKILL)
                    pid, status, usage = os.wait4(process.pid, 0)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                used = usage.ru_utime + usage.ru_stime
                # Where the system did not say in time. Not the larger of the two: on Linux ru_maxrss counts what the
                # process shared with this one before it became another program (1.5 GiB under the test suite).
                return Watched(process.returncode, seconds, used, peak or usage.ru_maxrss * MAXRSS)
            time.sleep(POLL)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _resident(pid: int) -> int:
    """Largest resident bytes so far (proc(5)); 0 where the system does not say."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        pass
    return 0
