"""The last line of `make repro`, on real repositories."""

import json
import subprocess
from pathlib import Path

import pytest

from genfoundry.commands.changed import changed_line


def git(root: Path, *words: str) -> None:
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", root, *name, *words], check=True, capture_output=True)


def trained_on(root: Path, *kinds: str) -> None:
    for number, kind in enumerate(kinds):
        report = root / f"reports/models/m{number}/train.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps({"steps": 3, "processor": kind} if kind else {"steps": 3}))
    (root / "dvc.lock").write_text(f"made by {kinds}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    (tmp_path / "params.yaml").write_text("format: 1\n")
    trained_on(tmp_path, "intel-avx2", "intel-avx2")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    return tmp_path


def test_nothing_that_differs_is_said(root: Path) -> None:
    (root / "notes.txt").write_text("no result")

    assert changed_line(root).startswith("tracked results: all as in commit ")


def test_another_kind_of_processor_is_named_with_each_file(root: Path) -> None:
    trained_on(root, "amd-avx2", "amd-avx2")

    line = changed_line(root)
    assert "\n" not in line and line.startswith("tracked results: 3 other than in commit ")
    assert "(dvc.lock; reports/models/m0: train.json; reports/models/m1: train.json)" in line
    assert "trained on amd-avx2, there on intel-avx2: other kinds of processor round differently" in line


def test_a_project_in_a_folder_of_a_repository_is_compared_with_its_own_reports(tmp_path: Path) -> None:
    project = tmp_path / "models/ours"
    git(tmp_path, "init", "-q")
    trained_on(project, "intel-avx2")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "first")
    trained_on(project, "amd-avx2")

    assert "trained on amd-avx2, there on intel-avx2" in changed_line(project)


def test_a_report_that_was_never_committed_and_one_that_is_gone_count(root: Path) -> None:
    (root / "reports/models/m1/train.json").unlink()
    (root / "reports/new.json").write_text("{}")

    assert "2 other than in commit" in changed_line(root)
    assert "reports: new.json" in changed_line(root) and "reports/models/m1: train.json" in changed_line(root)


def test_changed_settings_are_the_reason_before_the_processor(root: Path) -> None:
    trained_on(root, "amd-avx2", "amd-avx2")
    (root / "params.yaml").write_text("format: 1 # other\n")

    assert changed_line(root).endswith("as params.yaml differ too")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("intel-avx2", "another C library, or a fault"),
        ("amd-native", "amd-native promises no equal bytes"),
        ("", "an unknown kind"),
    ],
)
def test_equal_kinds_are_no_reason(kind: str, reason: str, root: Path) -> None:
    trained_on(root, kind, kind)
    git(root, "commit", "-q", "-a", "-m", "second", "--allow-empty")
    (root / "dvc.lock").write_text("other bytes")

    assert reason in changed_line(root)


def test_without_a_commit_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    assert changed_line(tmp_path) == ""
    git(tmp_path, "init", "-q")
    assert changed_line(tmp_path) == ""
