"""Git worktrees for retrains: the project at a commit, with its DVC cache and remotes.

Nothing here writes to the user's files, index, HEAD or branches; hooks are off, and git asks nobody for a password.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from genfoundry.core.errors import ConfigError, InfrastructureError, error_line
from genfoundry.state.journal import worktrees
from genfoundry.state.secrets import redact

NOBODY = {"name": "genfoundry", "email": "genfoundry@localhost"}
"""Committer where git has none configured."""

TIMEOUT_S = 600.0

PREFIX = "retrain/"
"""Prefix of the branches with the results of retrains."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without variables that would point git, DVC or MLflow to another project."""
    kept = ("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS")
    return {
        name: value
        for name, value in environment.items()
        if name not in ("DVC_ROOT", "DVC_STAGE", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")
        and not name.startswith("DVC_EXP_")
        and (
            not name.startswith("GIT_")
            or name in kept
            or name.startswith(("GIT_CONFIG", "GIT_AUTHOR", "GIT_COMMITTER"))
        )
    }


def environment_in(project: Path, state: Path, **more: str) -> dict[str, str]:
    """Environment of a command that works in a worktree, with that worktree's code.

    Args:
        project: The project in the worktree.
        state: State root whose worktrees it is one of.
        more: Further variables.
    """
    return clean_environment(os.environ) | {
        "PYTHONPATH": str(project / "src"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        # No child may take the user's own checkout, which contains the worktree, for its project.
        "GIT_CEILING_DIRECTORIES": str(worktrees(state)),
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


class Git:
    """git in a folder of the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, check: bool = True, timeout_s: float = TIMEOUT_S) -> str:
        """Output of a git command, without the final newline.

        Raises:
            ConfigError: There is no git, or it refuses the folder as somebody else's.
            InfrastructureError: git failed, or took too long; unless ``check`` is off, then the answer is empty.
        """
        environment = {**clean_environment(os.environ), "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        quiet = ("-c", f"core.hooksPath={os.devnull}", "-c", "gc.auto=0", "-c", "advice.detachedHead=false")
        try:
            done = subprocess.run(
                ["git", "--no-optional-locks", *quiet, *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout_s,
            )
        except FileNotFoundError:
            raise ConfigError("git: no such command, or no such folder as " + str(self.folder)) from None
        except subprocess.TimeoutExpired:
            raise InfrastructureError(f"git {words[0]}: no end after {timeout_s:.0f} s") from None
        if done.returncode:
            said = error_line(done.stderr.decode("utf-8", "replace").splitlines())
            if "dubious ownership" in said:
                # No answer to the question, so it must not count as "no".
                raise ConfigError(
                    f"git {words[0]}: {said}: it belongs to another user; work as its owner, or allow it with "
                    "`git config --global --add safe.directory <that folder>`"
                )
            if not check:
                return ""
            raise InfrastructureError(redact(f"git {words[0]}: {said}"))
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def text(self, commit: str, name: str) -> str | None:
        """Contents of a file at a commit; the name is relative to the folder."""
        if not self("ls-tree", "--name-only", commit, f"./{name}", check=False):
            return None
        return self("show", f"{commit}:./{name}") + "\n"

    def commit_of(self, branch: str) -> str:
        """The commit that a branch, or what is checked out, stands at."""
        found = self("rev-parse", "--verify", "--quiet", f"{branch or 'HEAD'}^{{commit}}", check=False)
        if not found:
            if not self("rev-parse", "--git-dir", check=False):
                raise ConfigError(f"{self.folder}: no git repository; run git init, and commit the project")
            what = f"branch {branch!r} of retraining.branch" if branch else "HEAD"
            raise ConfigError(f"{self.folder}: git knows no {what}; commit the project first, or correct the name")
        return found


class Checkout:
    """A worktree of the project."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.git = Git(root)

    @property
    def project(self) -> Path:
        """The project in it: the project need not be the top of its repository."""
        return self.folder / self.git("rev-parse", "--show-prefix")

    def standing(self) -> bool:
        """True if it is a whole worktree; a folder without its ``.git`` would lead git to the user's own checkout."""
        if not (self.folder / ".git").is_file():
            return False
        return Git(self.folder)("rev-parse", "--show-toplevel", check=False) == str(self.folder.resolve())

    def add(self, commit: str) -> None:
        """Create it again at a commit, with the project's DVC cache and remotes.

        Raises:
            ConfigError: The project is a git submodule, or has no usable DVC configuration.
        """
        if above := self.git("rev-parse", "--show-superproject-working-tree"):
            raise ConfigError(
                f"{self.root}: a git submodule of {above}, and DVC does not work in a worktree of one; clone the "
                "project on its own, and run this there"
            )
        self.remove()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.git("worktree", "add", "--quiet", "--detach", "--force", str(self.folder), commit)
        share(self.root / ".dvc", self.project / ".dvc")

    def remove(self) -> None:
        """Remove this worktree and git's record of it; other records stay, as their disks may be unplugged."""
        if self.folder.exists():
            for path in self._locked_folders():
                path.chmod(0o755)
        self.git("worktree", "remove", "--force", "--force", str(self.folder), check=False)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _locked_folders(self) -> Iterator[Path]:
        """Folders that can't be emptied as they are."""
        for path, folders, _ in os.walk(self.folder):
            for name in folders:
                folder = Path(path, name)
                if not folder.is_symlink() and not os.access(folder, os.W_OK | os.X_OK):
                    yield folder

    def identity(self) -> list[str]:
        """Options that name a committer where git knows none."""
        options = []
        for name, value in NOBODY.items():
            if (
                not self.git("config", f"user.{name}", check=False)
                and f"GIT_COMMITTER_{name.upper()}" not in os.environ
            ):
                options += ["-c", f"user.{name}={value}"]
        return options


def share(project: Path, copy: Path) -> None:
    """Give a copy's ``.dvc`` the cache and the remotes of the project's, with paths that hold there too.

    Relative paths of DVC's configuration are relative to its file, so in a worktree they would lead elsewhere. What
    stands in the project's config.local (credentials, perhaps) goes into the copy's, readable by the owner alone.
    """
    from dvc.config import Config
    from dvc.config import ConfigError as DvcConfigError

    if not copy.is_dir():
        raise ConfigError(f"{copy}: the commit has no .dvc folder; commit .dvc/config and .dvc/.gitignore")
    local = copy / "config.local"
    local.touch(mode=0o600)
    local.chmod(0o600)
    try:
        found = Config(dvc_dir=str(project))
        levels = [found.load_one(level) for level in ("repo", "local")]
        with Config(dvc_dir=str(copy)).edit("local") as target:
            for level in levels:
                _merge(target, {name: level[name] for name in ("core", "cache", "remote") if level.get(name)})
            cache: dict[str, Any] = target.setdefault("cache", {})
            cache["dir"] = str(cache.get("dir") or project / "cache")
    except DvcConfigError as error:
        raise ConfigError(redact(f"{project}: DVC's configuration is broken ({error})")) from None


def _merge(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, Mapping):
            _merge(target.setdefault(name, {}), value)
        else:
            target[name] = value


def has_remote(project: Path) -> bool:
    """True if DVC knows where to push to."""
    from dvc.config import Config

    return bool(Config(dvc_dir=str(project / ".dvc"), validate=False).get("core", {}).get("remote"))
