"""Summary that `make repro` prints at the end: results, scores with standard errors, paths of reports."""

from pathlib import Path

from genfoundry.config.params import Settings
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.data.funnel import read_splits
from genfoundry.evaluation.verdicts import COPYING, PRIMARY, against, name_of, plus_minus
from genfoundry.metrics._record import read_protocols_file, read_scores_file
from genfoundry.tracking.record import Recorded


def summary(root: Path, tree: Settings, facts: Recorded) -> list[str]:
    """Lines for a terminal."""
    lines = ["", "datasets"]
    for key in tree.datasets:
        lines.append(f"  {key:24} {_dataset(DatasetPaths(root, key))}")
    lines += ["", "models"]
    for key in tree.models:
        version = facts.versions.get(key)
        mark = f"version {version}" if version else "not registered"
        lines.append(f"  {key:24} {mark}")
        lines += [f"    {line}" for line in _scores(ModelPaths(root, key).reports)]
    if facts.stale:
        lines += ["", "not up to date (run dvc repro)"]
        lines += [f"  {address:24} {reason}" for address, reason in facts.stale.items()]
    if facts.restored:
        lines += ["", f"logged to MLflow from files: {', '.join(facts.restored)}"]
    if facts.refilled:
        lines += ["", f"files were no longer in the store, logged again: {', '.join(facts.refilled)}"]
    if facts.lost:
        lines += ["", "versions without files (restore a backup, or genfoundry reproduce <version>)"]
        lines += [f"  {address}" for address in facts.lost]
    if facts.reaped:
        lines += ["", f"{facts.reaped} runs of dead processes were closed as FAILED"]
    return [*lines, "", "look further:   make ui     and open   reports/index.html", ""]


def _dataset(paths: DatasetPaths) -> str:
    splits = read_splits(paths.reports)
    return ", ".join(f"{count:,} {split}" for split, count in splits.items()) or "not made"


def _scores(reports: Path) -> list[str]:
    """Every score with its baseline, those that models are ranked by first."""
    scores, protocols = read_scores_file(reports), read_protocols_file(reports / "evaluation")
    lines = []
    for key in sorted(scores, key=lambda key: (name_of(key) not in PRIMARY, name_of(key) not in COPYING, key)):
        held_against = against(scores[key], protocols.get(key, {}).get("higher_is_better"))
        lines.append(f"{key:30} {plus_minus(scores[key]):18} {held_against}".rstrip())
    return lines or ["no scores"]
