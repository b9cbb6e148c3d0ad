"""The MLflow store of a project: sqlite and artifacts under ``<state>/mlruns``, or a server.

Creation is locked (two processes migrating a fresh database crash: tried), the write-ahead log is on, and a store
that was copied to another folder has its absolute addresses rewritten.
"""

import os
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.core.errors import InfrastructureError
from genfoundry.state.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

# Set before mlflow is imported: no telemetry, no address on stdout, and a dead server costs seconds, not 246.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}

_ADDRESSES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}


@dataclass(frozen=True)
class Store:
    """An open store: its client, its address and the experiment of the project."""

    client: "MlflowClient"
    uri: str
    experiment: str
    lock: Path


def embedded_uri(state: Path) -> str:
    """Address of the sqlite database under the state root, with ``%`` and ``?`` of its path escaped.

    SQLAlchemy reads it as it reads ``URL.create("sqlite", database=path)``, whose import costs `status` 0.1 s.
    MLflow also makes an empty folder of the escaped name (mlflow.store.db.utils._make_parent_dirs_if_sqlite).
    """
    path = str(state / "mlruns/mlflow.db")
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


def store_uri(state: Path) -> str:
    """MLFLOW_TRACKING_URI if set, else the sqlite database under the state root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or embedded_uri(state)


def shown(text: str) -> str:
    """A message or address without the user and password that an address may hold."""
    return re.sub(r"(\w+://)[^/@\s]+@", r"\1***@", text)


def open_store(state: Path, project: str, uri: str = "") -> Store:
    """Open the store, making it and the project's experiment if need be.

    Args:
        state: State root.
        project: Name of the experiment.
        uri: Of another store than the one that is set; ``embedded``: the one under the state root.

    Raises:
        InfrastructureError: The database or the server can't be used.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    home = state / "mlruns"
    embedded = embedded_uri(state)
    uri = embedded if uri == "embedded" else uri or store_uri(state)
    local = uri == embedded
    try:
        with locked(home / ".lock"):
            if local:
                _mend_addresses(home)
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            found = client.get_experiment_by_name(project)
            if found is None:
                where = (home / "artifacts").as_uri() if local else None
                experiment = client.create_experiment(project, artifact_location=where)
                if local:
                    _write_ahead(home / "mlflow.db")
            else:
                experiment = found.experiment_id
                if found.lifecycle_stage == "deleted":
                    client.restore_experiment(experiment)
    except (MlflowException, SQLAlchemyError, sqlite3.DatabaseError) as error:
        first = shown(str(error).splitlines()[0])
        raise InfrastructureError(f"MLflow store {shown(uri)}: {first}; {remedy(uri, str(error))}") from None
    return Store(client, uri, experiment, home / ".runs.lock")


DAMAGED = (
    "restore a backup (genfoundry restore), or rename the damaged file: `genfoundry record` then logs what the "
    "workspace holds, but aliases, versions, timings and runs of other states are in that file alone"
)
"""What to do about a database that sqlite can't read."""


def remedy(uri: str, said: str) -> str:
    """What to do about a store that gave this error."""
    if uri.startswith("http"):
        return "start the server, or correct MLFLOW_TRACKING_URI"
    if "not a database" in said or "malformed" in said:
        return DAMAGED
    # A folder that can't be written, a full disk, a lock, another version of MLflow: the contents may be sound.
    return "keep the file; see that it and its folder can be read and written, and that no other program locks it"


def _write_ahead(database: Path) -> None:
    connection = sqlite3.connect(database)
    connection.execute("pragma journal_mode=wal")
    connection.close()


def _mend_addresses(home: Path) -> None:
    """Point artifact addresses to this folder if the store was made in another one (they are absolute: tried)."""
    database, here = home / "mlflow.db", (home / "artifacts").as_uri()
    if not database.exists():
        return
    # What sqlite can't open is said here at once; MLflow would try for 100 s.
    connection = sqlite3.connect(database)
    try:
        tables = {row[0] for row in connection.execute("select name from sqlite_master where type='table'")}
        if "experiments" not in tables:
            return
        rows = connection.execute(
            "select artifact_location from experiments where artifact_location like '%/mlruns/artifacts'"
        )
        for (old,) in rows.fetchall():
            if old == here:
                continue
            for table, column in _ADDRESSES.items():
                if table in tables:
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) "
                        # Not by LIKE: "%20" and "_" of an address are its wildcards.
                        f"where {column} = ? or substr({column}, 1, ?) = ?",
                        (here, len(old) + 1, old, len(old) + 1, old + "/"),
                    )
        connection.commit()
    finally:
        connection.close()
