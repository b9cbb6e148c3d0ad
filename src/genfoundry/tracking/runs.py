"""MLflow runs: one for each state of a dataset, base, model and of the repository, shared by its stages.

A run is identified by its fingerprint tags. Each stage opens it, logs under its own prefix and closes it; what a killed
process left open is reaped by whoever opens the store next.
"""

import getpass
import math
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

from genfoundry.config.dag import Node, repository_state, state
from genfoundry.core.errors import GenfoundryError
from genfoundry.core.pin import surroundings
from genfoundry.core.processes import alive, start_of
from genfoundry.state.checkout import Git
from genfoundry.state.locks import locked
from genfoundry.tracking import tags
from genfoundry.tracking.names import admitted, from_mlflow
from genfoundry.tracking.store import Store

FLUSH_S, FLUSH_POINTS = 5.0, 400
"""Metrics are written together after so many seconds or points: a write to sqlite costs 5 ms and 0.1 ms a number."""


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted names; lists become text."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among nested values, by dotted names: the score ``fid@ab.value`` becomes ``fid:ab``."""
    return {
        re.sub(r"\A(\w+)@", r"\1:", name.removesuffix(".value")): float(value)
        for name, value in flatten(values).items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def process_tag() -> str:
    return f"{socket.gethostname()} {os.getpid()} {start_of(os.getpid())}"


def dead(process: str) -> bool:
    """Whether the process of such a tag is known to be dead: of another machine nothing is known."""
    parts = process.split(" ")
    if len(parts) < 2 or parts[0] != socket.gethostname():
        return False
    pid = int(parts[1])
    return not alive(pid) or start_of(pid) != (parts[2] if len(parts) > 2 else "")


def user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid {os.getuid()}"


def git_tags(root: Path) -> dict[str, str]:
    """Commit and cleanness of the checkout, if it is one."""

    git = Git(root)
    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD", check=False)
        # What the pipeline itself writes is no change of what it was made from.
        made = (":(exclude)dvc.lock", ":(exclude)reports")
        dirty = bool(git("status", "--porcelain", "--untracked-files=no", "--", ".", *made, check=False))
    except GenfoundryError as error:
        print(f"genfoundry: the run will not say which commit it is of: {error}", file=sys.stderr)
        return {}
    if not commit:
        return {}
    return {tags.COMMIT: commit, tags.DIRTY: str(dirty).lower(), "mlflow.source.git.commit": commit}


def sweep_tags(environ: Mapping[str, str]) -> dict[str, str]:
    """Which sweep and experiment of DVC a stage runs in, so that the UI can group by it; empty outside of one."""
    names = {tags.SWEEP: "DVC_EXP_BASELINE_REV", tags.EXPERIMENT: "DVC_EXP_NAME"}
    return {tag: environ[name] for tag, name in names.items() if environ.get(name)}


def tracking_errors() -> tuple[type[Exception], ...]:
    """Exceptions of a store that can't be used."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return (MlflowException, SQLAlchemyError)


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


class Run:
    """An MLflow run being written to; metrics are buffered, everything else goes at once."""

    def __init__(self, store: Store, run_id: str, stage: str) -> None:
        self.store, self.client, self.run_id, self.stage = store, store.client, run_id, stage
        self._points: list[tuple[int, int, dict[str, float]]] = []
        """Step, time in ms, numbers by MLflow's names."""
        self._held: dict[str, float] = {}
        """Numbers without a step, by their own names."""
        self._warned, self._full = False, FLUSH_POINTS
        self._flushed = time.monotonic()

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """A number under the stage's prefix, see ``metrics``."""
        self.metrics({name: value}, step)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """A point of several curves, which waits for others to be written with; non-finite numbers are left out.

        Without a step: facts of the stage such as timings, written by ``complete``, so that a stage that is killed
        and runs again logs them once.
        """
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        if step is None:
            self._held |= finite
            return
        self._add(finite, step)
        if len(self._points) >= self._full or time.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def _add(self, values: Mapping[str, float], step: int) -> None:
        if named := admitted(values, f"{self.stage}/"):
            self._points.append((step, int(time.time() * 1000), named))

    def complete(self) -> None:
        """Write the buffered metrics and those without a step, as the stage has ended.

        Raises:
            MlflowException, SQLAlchemyError: The store did not take them: nothing may then say that all is logged.
        """
        self._add(self._held, 0)
        self._held = {}
        self._write()

    def flush(self) -> None:
        """Write the buffered metrics; a store that fails is said once and tried again at the next flush."""
        try:
            self._write()
            self._full = FLUSH_POINTS
        except tracking_errors() as error:
            if not self._warned:
                print(
                    f"genfoundry: {self.stage}: MLflow did not take metrics ({first_line(error)}); going on, they wait",
                    file=sys.stderr,
                )
            self._warned, self._full = True, len(self._points) + FLUSH_POINTS
        self._flushed = time.monotonic()

    def _write(self) -> None:
        from mlflow.entities import Metric

        while self._points:
            # As many points as a batch of at most 1,000 numbers holds.
            sizes = accumulate(len(values) for _, _, values in self._points)
            count = max(sum(size <= 1000 for size in sizes), 1)
            metrics = [
                Metric(name, value, at_ms, step)
                for step, at_ms, values in self._points[:count]
                for name, value in values.items()
            ]
            self.client.log_batch(self.run_id, metrics=metrics)
            del self._points[:count]

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters not yet logged (MLflow refuses to change one; a state's parameters never change)."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run_id).data.params
        named = admitted(flatten(values))
        new = [Param(name, str(value)[:6000]) for name, value in named.items() if name not in known]
        for start in range(0, len(new), 100):
            self.client.log_batch(self.run_id, params=new[start : start + 100])

    def tags(self, values: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(self.run_id, tags=[RunTag(name, str(value)[:5000]) for name, value in values.items()])

    def artifact(self, path: Path, folder: str = "") -> None:
        """A file or the contents of a folder, below the stage's folder of artifacts."""
        target = f"{self.stage}/{folder}" if folder else self.stage
        if path.is_dir():
            self.client.log_artifacts(self.run_id, str(path), target)
        else:
            self.client.log_artifact(self.run_id, str(path), target)

    def last_steps(self) -> dict[str, int]:
        """The last step logged of each metric of this stage: a continued run skips what is there."""
        self.flush()
        prefix = f"{self.stage}/"
        found = self.client.get_run(self.run_id).data._metric_objs
        names = {from_mlflow(metric.key): metric.step for metric in found}
        return {name.removeprefix(prefix): step for name, step in names.items() if name.startswith(prefix)}

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log use of processor, memory, disk, network and GPU while the block runs."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(
            self.run_id, sampling_interval=5, resume_logging=True, tracking_uri=self.store.uri
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


class NoRun:
    """A run that logs nothing: ranks other than zero, and direct calls of a stage."""

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        pass

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        pass

    def tags(self, values: Mapping[str, str]) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:
        pass

    def flush(self) -> None:
        pass

    def last_steps(self) -> dict[str, int]:
        return {}

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        yield


def find_run(store: Store, kind: str, key: str, state_digest: str) -> str | None:
    """Id of the run of a state, if there is one."""
    clauses = {tags.KIND: kind, tags.KEY: key, tags.STATE: state_digest}
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in clauses.items())
    found = store.client.search_runs([store.experiment], filter_string=query, max_results=1)
    return found[0].info.run_id if found else None


def reap(store: Store) -> int:
    """Close runs whose process died, as FAILED; returns how many."""
    open_runs = store.client.search_runs([store.experiment], filter_string="attributes.status = 'RUNNING'")
    left = [run for run in open_runs if dead(run.data.tags.get(tags.PROCESS, ""))]
    for run in left:
        fail(
            store,
            run.info.run_id,
            "killed: the process ended without closing the run (out of memory?); dvc repro goes on",
        )
    return len(left)


def fail(store: Store, run_id: str, reason: str) -> None:
    """Mark a run FAILED, the reason in its tag and on top of its page."""
    store.client.set_tag(run_id, tags.FAILURE, reason[:5000])
    store.client.set_tag(run_id, "mlflow.note.content", f"**FAILED** {reason[:4000]}")
    store.client.set_terminated(run_id, "FAILED")


def open_state(store: Store, root: Path, kind: str, key: str, state_digest: str, parent: str | None) -> str:
    """Find or make the run of a state."""
    with locked(store.lock):
        found = find_run(store, kind, key, state_digest)
        if found:
            return found
        name = f"{key} · {state_digest[:8]}"
        new = {
            tags.KIND: kind,
            tags.KEY: key,
            tags.STATE: state_digest,
            "mlflow.source.type": "PROJECT",
            "mlflow.source.name": "dvc repro",
            "mlflow.user": user(),
            **git_tags(root),
            **sweep_tags(os.environ),
        }
        if parent:
            new["mlflow.parentRunId"] = parent
        run = store.client.create_run(store.experiment, tags=new, run_name=name)
        if kind == "repository":
            store.client.set_terminated(run.info.run_id, "FINISHED")
        return run.info.run_id


def open_parent(store: Store, root: Path) -> str:
    """Id of the run of the repository's present state."""
    return open_state(store, root, "repository", "repository", repository_state(root), None)


def open_run(store: Store, root: Path, node: Node) -> Run:
    """The run of the state that a stage works on, not yet marked RUNNING."""
    parent = open_parent(store, root)
    if node.kind == "repository":
        return Run(store, parent, node.stage)
    return Run(store, open_state(store, root, node.kind, node.key, state(root, node), parent), node.stage)


def start(run: Run) -> None:
    """Mark a run as being written by this process."""
    run.tags({tags.PROCESS: process_tag(), tags.PROCESSOR + run.stage: surroundings()})
    run.client.update_run(run.run_id, status="RUNNING")


def finish(run: Run) -> None:
    """Close a run well."""
    run.flush()
    found = run.client.get_run(run.run_id).data.tags
    for name in (tags.FAILURE, tags.PROCESS):
        if name in found:
            run.client.delete_tag(run.run_id, name)
    if found.get("mlflow.note.content", "").startswith("**FAILED**"):
        run.client.delete_tag(run.run_id, "mlflow.note.content")
    run.client.set_terminated(run.run_id, "FINISHED")
