"""Preset views of the experiment for the MLflow UI, with the columns a reviewer needs.

The UI keeps a shared view as JSON in a tag of the experiment and opens it by ``?viewStateShareKey=<name>`` (tried in
a browser on MLflow 3.17.2).
"""

import json

from genfoundry.tracking import tags
from genfoundry.tracking.store import Store

PREFIX = "mlflow.sharedViewState."
VIEWS = ("models", "scores", "datasets")
ATTRIBUTES = ("Created", "Duration", "Models")
TRAINING = ("train/loss", "train/best_val_loss", "train/tokens_per_second", "train/samples_per_second")
RANKED = ("fid_domain", "bits_per_byte")
"""Scores that models are ranked by."""

FIRST = (*RANKED, "is_domain", "perplexity", "exact_copies", "near_copies", "copied_ngrams")
"""Scores in the view of models; the UI orders columns by name, so all of them would hide these (tried)."""

DATASET = (
    "ingest/records",
    "ingest/rejected.total",
    "deduplicate/records.kept",
    "deduplicate/records.removed",
    "encode/train.records",
    "encode/val.records",
    "encode/test.records",
)


def write_views(store: Store) -> None:
    """Refresh the views: models with the scores that decide, all scores, datasets."""
    runs = store.client.search_runs([store.experiment], max_results=1000)
    scores = sorted(
        {
            name
            for run in runs
            if run.data.tags.get(tags.KIND) == "model"
            for name in run.data.metrics
            if name.startswith("evaluate/") and ":" in name and "." not in name
        }
    )
    first = [name for name in scores if metric_of(name) in FIRST]
    metrics = {"models": (*TRAINING, *first), "scores": scores, "datasets": DATASET}
    extra = {"models": (f"tags.`{tags.VERSION}`",), "scores": (), "datasets": ()}
    for name in VIEWS:
        columns = [f"attributes.`{column}`" for column in ATTRIBUTES]
        columns += [*extra[name], *(f"metrics.`{metric}`" for metric in metrics[name])]
        kind = "dataset" if name == "datasets" else "model"
        query = f"tags.`{tags.KIND}` = '{kind}'"
        store.client.set_experiment_tag(store.experiment, PREFIX + name, json.dumps(_state(query, columns)))


def metric_of(name: str) -> str:
    """Metric of a score's name in MLflow, or of its key in scores.json."""
    return name.removeprefix("evaluate/").replace("@", ":").split(":")[0]


def view_address(store: Store, base: str, name: str) -> str:
    """Where a view opens on a running UI."""
    return f"{base}/#/experiments/{store.experiment}/runs?viewStateShareKey={name}"


def _state(query: str, columns: list[str]) -> dict[str, object]:
    return {
        "searchFilter": query,
        # Ordered by start the UI folds children under their parent; by end it lists them (tried).
        "orderByKey": "attributes.end_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "runsExpanded": {},
        "runsPinned": [],
        "runsHidden": [],
        "compareRunCharts": [],
        "compareRunSections": [],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": False,
        "groupBy": None,
        "groupsExpanded": {},
        "autoRefreshEnabled": True,
        "globalLineChartConfig": {},
    }
