"""Read the registry without importing mlflow, which takes seconds: for `genfoundry status`.

The local sqlite store is read directly and read-only; a server is asked through mlflow's client.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from genfoundry.core.errors import InfrastructureError
from genfoundry.tracking.store import embedded_uri, store_uri

COMPARISON = "reports/comparison.json"
"""The report's verdicts in words, for MLflow."""


@dataclass(frozen=True)
class Glance:
    """A registered version that an alias points to."""

    name: str
    alias: str
    version: str
    made_ms: int
    """When it was registered, in ms since 1970."""
    tags: dict[str, str]


def glances(state: Path, project: str) -> list[Glance]:
    """All aliased versions, by name and alias; none if there is no registry yet.

    Raises:
        InfrastructureError: The store can't be read.
    """
    uri, database = store_uri(state), state / "mlruns/mlflow.db"
    if uri != embedded_uri(state):
        return list(_of_server(state, project))
    if not database.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)) as connection:
            return list(_of_file(connection))
    except sqlite3.DatabaseError as error:
        raise InfrastructureError(f"MLflow store {uri}: {error}; genfoundry record says more") from error


def _of_file(connection: sqlite3.Connection) -> Iterator[Glance]:
    if not connection.execute("select 1 from sqlite_master where name = 'registered_model_aliases'").fetchone():
        return
    rows = connection.execute(
        "select a.name, a.alias, a.version, v.creation_time from registered_model_aliases a "
        "join model_versions v on v.name = a.name and v.version = a.version order by a.name, a.alias"
    )
    for name, alias, version, made_ms in rows.fetchall():
        tags = dict(
            connection.execute(
                "select key, value from model_version_tags where name = ? and version = ?", (name, version)
            ).fetchall()
        )
        yield Glance(name, alias, str(version), int(made_ms or 0), tags)


def _of_server(state: Path, project: str) -> Iterator[Glance]:
    from genfoundry.tracking.runs import first_line, tracking_errors
    from genfoundry.tracking.store import open_store

    client = open_store(state, project).client
    try:
        for model in client.search_registered_models():
            for alias, version in sorted(dict(model.aliases).items()):
                entry = client.get_model_version(model.name, version)
                yield Glance(model.name, alias, str(version), int(entry.creation_timestamp or 0), dict(entry.tags))
    except tracking_errors() as error:
        raise InfrastructureError(f"MLflow store: {first_line(error)}") from error
