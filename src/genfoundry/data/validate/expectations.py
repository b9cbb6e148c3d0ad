"""Run a Great Expectations suite over a table of facts and render its data docs; its only importer.

Results come back as plain values without the times and random ids that it adds.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genfoundry.config.sections.validation import Expectation
from genfoundry.core.errors import ConfigError
from genfoundry.core.parts import nearest

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = 5
"""Offending records named for each expectation."""

COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")


@dataclass(frozen=True)
class Outcome:
    """Result of one expectation."""

    expectation: Expectation
    success: bool
    unexpected: int | None
    """Records that broke it; None for expectations over the whole table."""
    observed: str
    """What was seen instead of counted, such as a mean."""
    examples: tuple[str, ...]
    """Ids of offending records with their value."""

    @property
    def column(self) -> str:
        named = self.expectation.kwargs.get("column")
        return str(named) if named is not None else ""

    @property
    def stops(self) -> bool:
        """True if the stage must fail for it."""
        return not self.success and self.expectation.severity == "critical"


def merged(defaults: Sequence[Mapping[str, Any]], own: Sequence[Expectation]) -> list[Expectation]:
    """The defaults, then the user's; one of the user's with equal type and arguments replaces the default."""
    found = {}
    for expectation in [*(Expectation(**values) for values in defaults), *own]:
        found[expectation.type, json.dumps(expectation.kwargs, sort_keys=True, default=str)] = expectation
    return list(found.values())


def check(
    table: "pd.DataFrame", suite: Sequence[Expectation], name: str, docs: Path, section: str = "validation"
) -> list[Outcome]:
    """Outcomes in the order of the suite; Great Expectations' own pages go to the folder ``docs``.

    Args:
        table: Facts of the records, with their ids.
        suite: What they must keep.
        name: The data set.
        docs: An empty folder.
        section: Where in the data set's settings the expectations stand, for errors.

    Raises:
        ConfigError: An expectation does not exist, has wrong arguments or names a missing column; all are named.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # else it sends usage statistics
    import great_expectations as gx
    from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

    built = _build(table, suite, name, section)
    # Its own defaults would leave an empty folder for pages behind in /tmp at every run.
    stores = InMemoryStoreBackendDefaults(init_temp_docs_sites=False)
    settings = DataContextConfig(
        store_backend_defaults=stores, progress_bars={"globally": False}, analytics_enabled=False
    )
    context = gx.get_context(mode="ephemeral", project_config=settings)
    batch = (
        context.data_sources.add_pandas("records").add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    )
    definition = gx.ValidationDefinition(
        name=name, data=batch, suite=context.suites.add(gx.ExpectationSuite(name=name, expectations=built))
    )
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs)},
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }
    context.add_data_docs_site("local", site)
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[context.validation_definitions.add(definition)],
            actions=[gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=["local"])],
            result_format={
                "result_format": "SUMMARY",
                "unexpected_index_column_names": ["id"],
                "partial_unexpected_count": EXAMPLES,
            },
        )
    )
    (validation,) = checkpoint.run(batch_parameters={"dataframe": table}).run_results.values()
    results = {result.expectation_config.meta["number"]: result.to_json_dict() for result in validation.results}
    return [_outcome(expectation, results[number]) for number, expectation in enumerate(suite)]


def _build(table: "pd.DataFrame", suite: Sequence[Expectation], name: str, section: str = "validation") -> list[Any]:
    from great_expectations.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    built, faults = [], []
    for number, one in enumerate(suite):
        where = f"params.yaml: datasets.{name}.{section}.expectations: {one.type}"
        faults += [
            f"{where}: no column {column!r}{nearest(column, list(table.columns))}" for column in _absent(table, one)
        ]
        configuration = ExpectationConfiguration(
            type=one.type, kwargs=dict(one.kwargs), meta={"number": number}, severity=one.severity
        )
        try:
            built.append(configuration.to_domain_obj())
        except ExpectationNotFoundError:
            known = list_registered_expectation_implementations()
            faults.append(f"{where}: unknown{nearest(one.type, known)}")
        except (ValueError, TypeError) as error:
            reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:]) or str(error)
            faults.append(f"{where}: wrong arguments {one.kwargs}: {reasons}")
    if faults:
        raise ConfigError("\n".join(faults))
    return built


def _absent(table: "pd.DataFrame", expectation: Expectation) -> list[str]:
    if expectation.type in ("expect_column_to_exist", "expect_table_columns_to_match_set"):
        return []
    named = [expectation.kwargs[name] for name in COLUMN_ARGUMENTS if name in expectation.kwargs]
    flat = [column for value in named for column in (value if isinstance(value, list | tuple) else [value])]
    return [str(column) for column in flat if column not in table.columns]


def _outcome(expectation: Expectation, result: Mapping[str, Any]) -> Outcome:
    found = result["result"]
    failure = _failure(result.get("exception_info") or {})
    rows = found.get("partial_unexpected_index_list") or []
    column = expectation.kwargs.get("column")
    examples = tuple(
        f"{row['id']} ({_short(row[column])[:24]})" if column in row else str(row["id"]) for row in rows[:EXAMPLES]
    )
    observed = failure or (_short(found["observed_value"]) if "observed_value" in found else "")
    return Outcome(expectation, bool(result["success"]), found.get("unexpected_count"), observed, examples)


def _failure(info: Mapping[str, Any]) -> str:
    """The first line of an error that an expectation met, if any."""
    if "raised_exception" in info:
        return _short(info["exception_message"]) if info["raised_exception"] else ""
    return "; ".join(_short(one["exception_message"]) for one in info.values())


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "none"
    return " ".join(str(value).split())[:80]
