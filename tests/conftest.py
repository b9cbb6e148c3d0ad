"""Shared fixtures: one miniature project, run once for the whole session, and copies of it to break."""

import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from genfoundry.core.io import file_digest
from genfoundry.core.processes import processor

if TYPE_CHECKING:
    from histories import History

ROOT = Path(__file__).resolve().parents[1]
for name, value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    # The miniature trains for a second: the default of 5 s would see nothing of it.
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.2",
    "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis"),
}.items():
    os.environ.setdefault(name, value)
# No time limit: machines are shared. The same few examples every time, so that a change is judged by what it changed;
# `make test-long` looks for new ones, and says how to have a failing one again.
quiet = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("steady", max_examples=25, derandomize=True, **quiet)
settings.register_profile("search", max_examples=300, print_blob=True, **quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "steady"))
# The suite must not write into the store of the checkout, nor into that of a retraining around it.
for name in ("GENFOUNDRY_STATE", "DVC_ROOT", "MLFLOW_TRACKING_URI"):
    os.environ.pop(name, None)

# A shell's background commands ignore these, and whatever the tests start would inherit it.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)

TRACKED = (
    "pipelines",
    "presets",
    "src",
    "dvc.yaml",
    "params.yaml",
    ".dvcignore",
    ".gitignore",
    "requirements.lock",
    "pyproject.toml",
)
PARAMS = ROOT / "tests/support/miniature.yaml"
MADE_BY = ("tests/conftest.py", "tests/support/miniature.py", "tests/support/miniature.yaml")
"""What the finished miniature is made of beside the tracked files."""
FIRST = [f"{stage}@bars" for stage in ("validate", "reference")] + ["evaluate@bars-vae"]
"""Targets whose stages, with all before them, are one of each kind but the last one, the report."""
QUICK = "GENFOUNDRY_TESTS_PYTHON"
"""Environment variable with the interpreter of commands: one that has the large libraries (``support/preload.py``), or
that of the virtual environment, which starts everything cold; ``make test-long`` sets it."""

PRELOADED = pytest.StashKey["Preloaded"]()


def pytest_configure(config: pytest.Config) -> None:
    """One preloaded interpreter for all workers, started by the process that starts them."""
    if QUICK not in os.environ:
        from preload import Preloaded

        from genfoundry.tracking.store import ENVIRONMENT

        config.stash[PRELOADED] = Preloaded(ENVIRONMENT)
        os.environ[QUICK] = str(config.stash[PRELOADED].python)


def pytest_unconfigure(config: pytest.Config) -> None:
    if PRELOADED in config.stash:
        config.stash[PRELOADED].stop()
        del os.environ[QUICK]


class Project:
    """A project folder and commands in it, each a process as a user would start it.

    ``cold`` starts fresh interpreters throughout, for what a preloaded one can't show.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self, *command: str, check: bool = True, timeout: float = 300, cold: bool = False, **env: str
    ) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if not cold:
            path = f"{Path(os.environ[QUICK]).parent}{os.pathsep}{path}"
        done = subprocess.run(
            command,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "PATH": path, **env},
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
            )
        return done

    def dvc(self, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "dvc", *words, **more)

    def genfoundry(self, *words: str, **more: object) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", "genfoundry.cli", *words, PYTHONPATH="src", **more)

    def code(self) -> None:
        """Digests of the code of all stages, as `dvc repro` has them made before it starts one."""
        self.dvc("repro", "-q", "code")

    def stage(self, stage: str, key: str, **more: object) -> subprocess.CompletedProcess[str]:
        return self.run("python", "-m", f"pipelines.{stage}", key, **more)

    def edit(self, old: str, new: str, file: str = "params.yaml") -> None:
        path = self.root / file
        text = path.read_text()
        assert text.count(old) == 1, f"{file}: {old!r} stands {text.count(old)} times"
        path.write_text(text.replace(old, new))

    def copy(self, target: Path) -> "Project":
        shutil.copytree(self.root, target, symlinks=True)
        return Project(target)

    def git(self, *words: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words).stdout.strip()


def lay_out(root: Path) -> Project:
    """A fresh project: the tracked files of this checkout, miniature settings, miniature data, git and DVC."""
    import miniature

    root.mkdir(parents=True)
    for name in TRACKED:
        source = ROOT / name
        if source.is_dir():
            # With numba's compiled kernels, which take 14 s to make and are valid while their source's time stays.
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("*.pyc", "*.egg-info"))
        else:
            shutil.copyfile(source, root / name)
    shutil.copyfile(PARAMS, root / "params.yaml")
    miniature.write(root / "data")
    project = Project(root)
    project.git("init", "-q")
    project.dvc("init", "-q")
    project.dvc("config", "core.analytics", "false")
    project.dvc("add", "-q", "data")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "miniature")
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """The miniature project after `dvc repro` and `genfoundry record`. Look, don't touch: copy it to change it.

    Made once for all workers and kept for the next session: the first to come makes it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    base = base if worker_id == "master" else base.parent
    target = base / "miniature/project"
    kept = ROOT / ".pytest_cache/miniature"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            whole = kept / state()
            if not whole.exists():
                for old in kept.glob("*/"):
                    shutil.rmtree(old)
                make(kept / "partial").root.rename(whole)
            Project(whole).copy(target)
    return Project(target)


def state() -> str:
    """sha256 of all that the finished miniature is made of: files, installed packages, interpreter, machine."""
    digest = hashlib.sha256(f"{sys.version} {processor()}".encode())
    digest.update(repr(sorted((each.name, each.version) for each in importlib.metadata.distributions())).encode())
    for name in (*TRACKED, *MADE_BY):
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts and "egg-info" not in str(file):
                digest.update(f"{file.relative_to(ROOT)} {file_digest(file)}\n".encode())
    return digest.hexdigest()


def make(root: Path) -> Project:
    """The finished miniature, one stage of each kind by a fresh interpreter."""
    project = lay_out(root)
    project.dvc("repro", "-q", *FIRST, timeout=1800, cold=True)
    project.dvc("repro", "-q", "evaluate@notes-transformer", "validate@notes", timeout=1800)
    project.dvc("repro", "-q", timeout=1800, cold=True)
    project.genfoundry("record", cold=True)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "finished")
    return project


@pytest.fixture()
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished miniature project, free to be changed."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh store of project ``p``, made once: copying it takes 20 ms, migrating a new one a second."""
    from genfoundry.tracking.store import open_store

    state = tmp_path_factory.mktemp("store")
    open_store(state, "p")
    return state


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, template: Path) -> "History":
    """The project of ``tinymodel``, made once a file. Look, don't touch: ``tinymodel.copied`` gives one to change."""
    import tinymodel

    return tinymodel.lay_out(tmp_path_factory.mktemp("tiny") / "project", template)
