"""Report which tracked results differ from the commit, and why: the last line of `make repro`."""

import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from genfoundry.training.reports import TRAIN, processor_of

RESULTS = ("dvc.lock", "reports")
"""Stage outputs that git tracks."""

CAUSES = ("params.yaml", "dvc.yaml", "requirements.lock", "data.dvc", "imports", "src", "pipelines", "presets")
"""Inputs of the results that git tracks."""


def changed_line(root: Path) -> str:
    """One line for a terminal; empty where there is no commit to compare with."""
    commit = _git(root, "rev-parse", "--short", "HEAD")
    if commit is None:
        return ""
    names = _differing(root, RESULTS)
    if not names:
        return f"tracked results: all as in commit {commit.strip()}"
    return f"tracked results: {len(names)} other than in commit {commit.strip()} ({_grouped(names)}), {_why(root)}"


def _why(root: Path) -> str:
    reports = sorted((root / "reports/models").glob(f"*/{TRAIN}"))
    now = kinds(file.read_text(encoding="utf-8") for file in reports)
    listed = _git(root, "ls-tree", "-r", "--name-only", "HEAD", "reports/models") or ""
    trained = [name for name in listed.splitlines() if name.endswith(f"/{TRAIN}")]
    then = kinds(_git(root, "show", f"HEAD:./{name}") or "" for name in trained)
    if causes := _differing(root, CAUSES):
        return f"as {_grouped(causes)} differ too"
    if now != then:
        return (
            f"as models were trained on {' and '.join(now)}, there on {' and '.join(then)}: other kinds of processor "
            "round differently"
        )
    if any(kind.endswith("-native") for kind in now):
        return (
            f"as {' and '.join(now)} promises no equal bytes: they hang on the model of the processor and its "
            "cores; see numerics.instructions"
        )
    return f"though they were made on {' and '.join(now)} there too: another C library, or a fault; look at git diff"


def kinds(reports: Iterable[str]) -> list[str]:
    """Kinds of processor that the texts of several train.json name, each once."""
    return sorted(set(map(processor_of, reports)))


def _differing(root: Path, names: Iterable[str]) -> list[str]:
    """Files that were changed, removed or never committed."""
    listed = _git(root, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *names) or ""
    return [entry[3:] for entry in listed.split("\0") if entry]


def _grouped(names: Iterable[str]) -> str:
    folders = defaultdict(list)
    for name in sorted(names):
        path = PurePosixPath(name)
        folders[str(path.parent)].append(path.name)
    return "; ".join(
        ", ".join(found) if folder == "." else f"{folder}: {', '.join(found)}" for folder, found in folders.items()
    )


def _git(root: Path, *words: str) -> str | None:
    """Output of a git command; None where it fails, as outside a repository."""
    done = subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
