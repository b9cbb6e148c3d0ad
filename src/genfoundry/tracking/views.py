"""Ready views of the experiment for the MLflow UI: the columns a reviewer wants, without choosing them first.

The UI keeps a shared view as JSON in a tag of the experiment and opens it by ``?viewStateShareKey=<name>`` (tried in
a browser on MLflow 3.17.2).
"""

import json

from genfoundry.tracking import tags
from genfoundry.tracking.store import Store

PREFIX = "mlflow.sharedViewState."
VIEWS = ("models", "datasets")
ATTRIBUTES = ("Created", "Duration", "Models")
TRAINING = ("train/loss", "train/best_val_loss", "train/tokens_per_second", "train/samples_per_second")
FIRST = ("fid_domain", "bits_per_byte", "exact_copies", "near_copies", "copied_ngrams")
"""Scores whose columns stand first: those that models are ranked by, and copying."""

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
    """Refresh the views: every score gets a column, those that decide first."""
    runs = store.client.search_runs([store.experiment], max_results=1000)
    scores = sorted(
        {
            name
            for run in runs
            if run.data.tags.get(tags.KIND) == "model"
            for name in run.data.metrics
            if name.startswith("evaluate/") and ":" in name and "." not in name
        },
        key=_place,
    )
    metrics = {"models": (*TRAINING, *scores), "datasets": DATASET}
    extra = {"models": (f"tags.`{tags.VERSION}`",), "datasets": ()}
    for name in VIEWS:
        columns = [f"attributes.`{column}`" for column in ATTRIBUTES]
        columns += [*extra[name], *(f"metrics.`{metric}`" for metric in metrics[name])]
        query = f"tags.`{tags.KIND}` = '{name.removesuffix('s')}'"
        store.client.set_experiment_tag(store.experiment, PREFIX + name, json.dumps(_state(query, columns)))


def _place(name: str) -> tuple[int, str]:
    metric = name.removeprefix("evaluate/").split(":")[0]
    return (FIRST.index(metric) if metric in FIRST else len(FIRST), name)


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
