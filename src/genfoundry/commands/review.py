"""What `genfoundry review` does: write a review, serve it, collect its answers."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config import params as settings
from genfoundry.core.errors import ConfigError
from genfoundry.core.io import write_json, write_text
from genfoundry.review.answers import read_answers
from genfoundry.review.page import review_page
from genfoundry.review.plan import ANSWERS, CHECKS, PAGE, PLAN, build_plan, plan_digest, read_plan, read_samples
from genfoundry.review.report import write_results
from genfoundry.review.results import evaluate

if TYPE_CHECKING:
    from genfoundry.review.serve import ReviewServer

PAIRS = 60
"""Pairs shown by default: about ten minutes at ten seconds a pair; two models differ clearly from 63 %."""


def _datasets(root: Path, keys: Sequence[str]) -> None:
    models = settings.load(root).models
    for key in keys:
        if key not in models:
            near = difflib.get_close_matches(key, models, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(models)}"
            raise ConfigError(f"params.yaml: no model {key!r}{hint}")
    datasets = {key: models[key].dataset for key in keys}
    if len(set(datasets.values())) > 1:
        raise ConfigError(f"review: models of different data sets {datasets}; compare models of one data set")


def write(
    root: Path,
    keys: Sequence[str],
    count: int = PAIRS,
    seed: int = 0,
    out: Path | None = None,
    question: str = "",
    checks: float = CHECKS,
) -> Path:
    """Write a review's folder: ``review.html`` for raters and ``plan.json``, which maps pairs to models.

    Args:
        root: Workspace.
        keys: Models of params.yaml whose samples are there; two or more, of one data set.
        count: Different pairs to show.
        seed: Of pairs, sides and order; equal arguments give an equal review.
        out: Folder; by default ``artifacts/reviews/<first digits of the plan's digest>``, which names no model.
        question: What raters are asked, instead of which sample is better.
        checks: Share of pairs that come again with sides swapped.

    Returns:
        The folder.

    Raises:
        ConfigError: Models that can't be compared, or a folder that holds another review.
        DataError: Samples that are missing, damaged or too few.
    """
    _datasets(root, keys)
    samples = [read_samples(root, key) for key in keys]
    plan = build_plan(samples, count, seed, checks, question)
    folder = out or root / "artifacts/reviews" / plan_digest(plan)[:12]
    if (folder / PLAN).is_file() and plan_digest(read_plan(folder)) != plan_digest(plan):
        raise ConfigError(f"{folder}: holds another review; choose another folder")
    write_text(folder / PAGE, review_page(plan, samples))
    write_json(folder / PLAN, plan)
    return folder


def serve(folder: Path, host: str = "127.0.0.1", port: int = 0) -> "ReviewServer":
    """A server of the review in a folder, bound but not yet answering: print ``address``, call ``serve_forever()``."""
    from genfoundry.review.serve import ReviewServer  # uvicorn: 0.2 s that writing and collecting don't need

    return ReviewServer(folder, host, port)


def collect(root: Path, folder: Path, files: Sequence[Path] = ()) -> tuple[dict[str, Any], Path]:
    """Read the answers of all raters, rank, and write ``reports/review/<name>/``.

    Args:
        root: Workspace.
        folder: The review's folder; what its server appended is read first.
        files: Answers that raters sent, JSON or JSONL, in any number.

    Returns:
        The results (``results.evaluate``) and the folder of reports.

    Raises:
        ConfigError: The folder holds no review.
        DataError: No answers, or answers to another plan.
    """
    plan = read_plan(folder)
    kept = folder / ANSWERS
    found = [kept] if kept.is_file() else []
    found += [file for file in files if file.resolve() != kept.resolve()]
    if not found:
        raise ConfigError(f"{folder}: no {ANSWERS}, and no files named; give the files that raters downloaded")
    results = evaluate(plan, read_answers(plan, found))
    reports = root / "reports/review" / results["plan"][:12]
    write_results(reports, results)
    return results, reports
