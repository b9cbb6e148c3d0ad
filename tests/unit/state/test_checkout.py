"""Answers of git that are no answer to the question: another owner, no repository, a submodule, a larger repository."""

import shutil
import subprocess
from pathlib import Path

import pytest

from genfoundry.commands.check import check
from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.state.checkout import Checkout, Git
from genfoundry.tracking import tags
from genfoundry.tracking.runs import git_tags


def git(root: Path, *words: str) -> str:
    named = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always", *words]
    return subprocess.run(named, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a project in one of its folders."""
    project = tmp_path / "repository/models/ours"
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc/config").touch()
    (project / "requirements.lock").touch()
    git(tmp_path / "repository", "init", "-q")
    git(tmp_path / "repository", "add", "-A")
    git(tmp_path / "repository", "commit", "-q", "-m", "first")
    return project


def of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on git takes every repository for somebody else's, as it does in a mounted folder (its test hook)."""
    real = shutil.which("git")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text(f'#!/bin/sh\nGIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real} "$@"\n')
    (tmp_path / "bin/git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))


def git_faults(root: Path) -> list[str]:
    return [line for line in check(root)[0] if "git" in line and "data.dvc" not in line]


def test_a_project_in_a_folder_of_a_repository_needs_no_git_init(root: Path) -> None:
    assert git_faults(root) == []


def test_a_project_outside_of_any_repository_needs_one(root: Path, tmp_path: Path) -> None:
    shutil.move(root, tmp_path / "moved")

    (fault,) = git_faults(tmp_path / "moved")
    assert "fatal: not a git repository" in fault and fault.endswith("run git init")
    with pytest.raises(ConfigError, match="no git repository; run git init"):
        Git(tmp_path / "moved").commit_of("")


def test_a_repository_of_another_owner_is_not_one_without_commits(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    of_another(tmp_path, monkeypatch)

    with pytest.raises(ConfigError, match=r"dubious ownership .*git config --global --add safe.directory"):
        Git(root).commit_of("")
    (fault,) = git_faults(root)
    assert "dubious ownership" in fault and "git init" not in fault
    assert git_tags(root) == {}
    assert "will not say which commit it is of" in capsys.readouterr().err


def test_changes_elsewhere_in_the_repository_are_not_the_project_s(root: Path) -> None:
    other = root.parents[1] / "other.txt"
    other.touch()
    git(root, "add", str(other))
    # What a run of the pipeline writes itself is no change either.
    (root / "reports").mkdir()
    for made in (root / "dvc.lock", root / "reports/scores.json"):
        made.touch()
        git(root, "add", str(made))
    assert git_tags(root)[tags.DIRTY] == "false"

    (root / ".dvc/config").write_text("[core]\n")
    assert git_tags(root) == {
        tags.COMMIT: git(root, "rev-parse", "HEAD"),
        "mlflow.source.git.commit": git(root, "rev-parse", "HEAD"),
        tags.DIRTY: "true",
    }


def test_a_submodule_is_refused_before_dvc_fails_in_its_worktree(root: Path, tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir()
    git(above, "init", "-q")
    git(above, "submodule", "add", "-q", str(tmp_path / "repository"), "sub")

    with pytest.raises(ConfigError, match=r"a git submodule of .*above, and DVC does not work .* clone"):
        Checkout(above / "sub/models/ours", tmp_path / "worktree").add("HEAD")


def test_the_first_error_of_git_is_said_not_its_last_hint(root: Path) -> None:
    with pytest.raises(
        InfrastructureError, match=r"git push: fatal: '/nowhere' does not appear to be a git repository"
    ):
        Git(root)("push", "/nowhere", "HEAD")
