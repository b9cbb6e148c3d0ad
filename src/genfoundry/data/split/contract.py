"""The second data contract: expectations of the records in use, which training relies on."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.sections.split import Split
from genfoundry.config.sections.validation import Expectation
from genfoundry.config.specs import RECORD_COLUMNS, SPLITS
from genfoundry.data.validate.expectations import Outcome, check, merged
from genfoundry.data.validate.validation import Run

if TYPE_CHECKING:
    import pandas as pd

DEFAULTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("expect_column_values_to_not_be_null", {"column": "id"}),
    ("expect_column_values_to_be_unique", {"column": "id"}),
    ("expect_column_values_to_be_unique", {"column": "sha256"}),
    ("expect_column_values_to_be_in_set", {"column": "split", "value_set": list(SPLITS)}),
)
"""Great Expectations' types and arguments; all of them critical."""


def hold(used: "pd.DataFrame", config: Split, key: str, run: Run | None) -> list[Outcome]:
    """Outcomes of the default contract and of the user's expectations, those over whole splits first.

    Args:
        used: The records in use: id, sha256, split, label and their facts.
        config: Least sizes, and further expectations.
        key: The data set.
        run: Gets Great Expectations' own pages.
    """
    defaults = [{"type": kind, "kwargs": arguments} for kind, arguments in DEFAULTS]
    with tempfile.TemporaryDirectory() as folder:
        outcomes = check(used, merged(defaults, config.expectations), key, Path(folder), "split")
        if run is not None:
            run.artifact(Path(folder), "data_docs_split")
    return [*_sizes(used, config), *_labels(used), *_groups(used, config), *outcomes]


def _outcome(what: str, arguments: dict[str, Any], wrong: list[str], remedy: str) -> Outcome:
    observed = f"{'; '.join(wrong)}; {remedy}" if wrong else ""
    return Outcome(Expectation(type=what, kwargs=arguments), not wrong, None, observed, ())


def _sizes(used: "pd.DataFrame", config: Split) -> list[Outcome]:
    wrong = []
    for split in SPLITS:
        count = int((used["split"] == split).sum())
        if count < config.min_records and not (split == "val" and config.val == 0 and count == 0):
            wrong.append(f"split {split} has {count} records, needs split.min_records = {config.min_records}")
    remedy = "add data, or change split.val and split.test"
    return [_outcome("splits have enough records", {"min_records": config.min_records}, wrong, remedy)]


def _labels(used: "pd.DataFrame") -> list[Outcome]:
    if used["label"].isna().all():
        return []
    known = set(used["label"][used["split"] == "train"].dropna())
    unknown = sorted(set(used["label"][used["split"] == "test"].dropna()) - known)
    wrong = [f"labels of test records that no training record has: {', '.join(unknown[:10])}"] if unknown else []
    return [_outcome("labels of test occur in train", {"column": "label"}, wrong, "add such records")]


def _groups(used: "pd.DataFrame", config: Split) -> list[Outcome]:
    if config.by != "group":
        return []
    spread = used.groupby(used["group"].astype("str"))["split"].nunique()
    names = sorted(spread.index[spread > 1])
    wrong = [f"{len(names)} groups are in more than one split: {', '.join(names[:5])}"] if names else []
    return [_outcome("groups are in one split", {"column": "group"}, wrong, "give their records one split, or none")]


def columns(names: list[str]) -> list[str]:
    """Columns of clean records that the contract may speak of, beside those of the id table."""
    return ["label", *(name for name in names if name not in RECORD_COLUMNS)]
