"""A review as an MLflow run: strengths with their intervals, agreement, the files of the report.

One run for each plan and set of answers, identified by its state like every other run: equal answers give the same
run, and a run that is complete is left as it is.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfoundry.core.io import digest_of
from genfoundry.tracking import tags
from genfoundry.tracking.runs import Run, finish, open_parent, open_state, start
from genfoundry.tracking.store import Store

STAGE = "review"


def review_state(results: Mapping[str, Any]) -> str:
    """Fingerprint of a review: its plan, the answers that count, and what was made of them; not how often each came."""
    return digest_of({name: results[name] for name in ("plan", "answers_digest", "models", "pairs", "agreement")})


def log_review(store: Store, root: Path, results: Mapping[str, Any], reports: Path) -> str:
    """Log a review and, on the runs of the models whose very samples were shown, their strengths.

    Args:
        store: Open store.
        root: Workspace; the review becomes a child of the run of its present state.
        results: What ``review.results.evaluate`` gave.
        reports: Folder of ``results.json``, ``results.csv`` and ``index.html``.

    Returns:
        Id of the run.
    """
    state = review_state(results)
    parent = open_parent(store, root)
    run = Run(store, open_state(store, root, STAGE, str(results["plan"])[:12], state, parent), STAGE)
    if run.client.get_run(run.run_id).data.tags.get(tags.STAGE + STAGE) != state:
        start(run)
        _log_results(run, results, reports, state)
        finish(run)
    for key, model in results["models"].items():
        _log_on_model(store, key, model, state)
    return run.run_id


def _strength(model: Mapping[str, Any]) -> dict[str, float]:
    """Strength and the ends of its interval by name."""
    entry = model["strength"]
    found = {"strength": entry["value"], "strength_low": entry["low"], "strength_high": entry["high"]}
    return {name: float(value) for name, value in found.items() if value is not None}


def _log_results(run: Run, results: Mapping[str, Any], reports: Path, state: str) -> None:
    run.params({"question": results["question"], "matched": results["matched"], "kind": results["kind"]})
    for key, model in results["models"].items():
        run.metrics({f"{key}.{name}": value for name, value in _strength(model).items()})
        run.metrics({f"{key}.{name}": float(model[name]) for name in ("wins", "ties", "losses")})
    agreement = results["agreement"] or {}
    for name, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
        if agreement.get(name) is not None:
            run.metric(f"agreement{suffix}", float(agreement[name]))
    run.metrics({"raters": float(len(results["raters"])), "comparisons": float(results["comparisons"])})
    run.metric("side_p", float(results["sides"]["p"]))
    run.complete()
    run.artifact(reports)
    models = results["models"]
    run.tags(
        {
            "mlflow.source.name": "genfoundry review",
            "mlflow.note.content": _note(results),
            tags.REVIEW_PLAN: results["plan"],
            **{tags.REVIEW_MODEL + key: model["model"] for key, model in models.items()},
            **{tags.REVIEW_SAMPLES + key: model["samples"] for key, model in models.items()},
            # Last: it says that all of the above is there.
            tags.STAGE + STAGE: state,
        }
    )


def _note(results: Mapping[str, Any]) -> str:
    lines = [
        f"Blind comparison: {results['comparisons']} answers of {len(results['raters'])} raters. {results['question']}",
        "",
        "| model | log strength | 95 % interval | preferred | ties | not preferred |",
        "|---|---|---|---|---|---|",
    ]
    for key, model in sorted(results["models"].items(), key=lambda pair: pair[1]["rank"]):
        entry = model["strength"]
        lines.append(
            f"| {key} | {entry['value']:+.2f} | {entry['low']:+.2f} to {entry['high']:+.2f} "
            f"| {model['wins']} | {model['ties']} | {model['losses']} |"
        )
    return "\n".join(lines)


def _log_on_model(store: Store, key: str, model: Mapping[str, Any], state: str) -> None:
    """Put a model's strength on its run: the newest one whose samples have the digest that was shown."""
    samples = f"{tags.OUTPUT}artifacts/models/{key}/samples"
    query = f"tags.`{tags.KIND}` = 'model' and tags.`{tags.KEY}` = '{key}' and tags.`{samples}` = '{model['samples']}'"
    found = store.client.search_runs([store.experiment], filter_string=query, max_results=1)
    if not found or found[0].data.tags.get(tags.REVIEW_STATE) == state:
        return
    run = Run(store, found[0].info.run_id, STAGE)
    run.metrics(_strength(model))
    run.complete()
    run.tags({tags.REVIEW_STATE: state})
