"""Histories of a project for tests of upkeep: real runs, models and versions in a real store, made in milliseconds."""

import json
import os
import random
import sqlite3
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from genfoundry.core.io import folder_digest, publish_folder
from genfoundry.state.events import append_event
from genfoundry.tracking import tags
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.store import Store, open_store

DAY_S = 86_400


class SetClock:
    """A clock that stands where it is put."""

    def __init__(self, moment: datetime | None = None) -> None:
        self.moment = moment or datetime.now(UTC)

    def now(self) -> datetime:
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def git(root: Path, *words: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(["git", "-C", root, *identity, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@dataclass
class History:
    """A project with versions of any age."""

    root: Path
    store: Store
    clock: SetClock = field(default_factory=SetClock)
    digests: dict[tuple[str, str], str] = field(default_factory=dict)
    """By name and number of the version."""
    runs: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.root

    def run(self, key: str, days: float, kind: str = "model", status: str = "FINISHED", **more: str) -> str:
        made = self.store.client.create_run(
            self.store.experiment, run_name=key, tags={tags.KIND: kind, tags.KEY: key, **more}
        )
        run_id = made.info.run_id
        self.store.client.log_text(run_id, "a page", "report/page.html")
        at_ms = int((self.clock.now().timestamp() - days * DAY_S) * 1000)
        self.store.client.set_terminated(run_id, status, end_time=at_ms)
        return run_id

    def version(
        self,
        name: str,
        days: float,
        inputs: dict[str, str] | None = None,
        weights: str = "",
        source: Path | None = None,
    ) -> str:
        """Number of a new registered version that was made so many days ago, from these inputs."""
        client, bytes_of = self.store.client, weights or f"{name} {len(self.digests)}"
        model = source or self.root / "made" / name / str(len(self.digests)) / "model"
        if source is None:
            with publish_folder(model) as folder:
                (folder / "weights.safetensors").write_text(bytes_of)
        digest = folder_digest(model)
        output = {f"{tags.OUTPUT}artifacts/models/{name}/model": digest}
        run_id = self.run(name, days, **output)
        client.log_text(
            run_id,
            json.dumps({"fingerprint": run_id, "inputs": inputs or {}, "outputs": {}}),
            f"train/lineage/train@{name}.json",
        )
        made = client.create_logged_model(
            self.store.experiment, name, source_run_id=run_id, tags={tags.DIGEST: digest, tags.KEY: name}
        )
        client.log_model_artifacts(made.model_id, str(model))
        client.finalize_logged_model(made.model_id, "READY")
        if name not in {entry.name for entry in client.search_registered_models()}:
            client.create_registered_model(name)
        import mlflow

        mlflow.set_tracking_uri(self.store.uri)
        version = client.create_model_version(
            name, f"models:/{made.model_id}", run_id, tags={tags.DIGEST: digest}, model_id=made.model_id
        )
        mlflow.set_tracking_uri(None)
        number = str(version.version)
        client.set_tag(run_id, tags.VERSION, number)
        at_ms = int((self.clock.now().timestamp() - days * DAY_S) * 1000)
        with sqlite3.connect(self.root / "mlruns/mlflow.db") as connection:
            connection.execute(
                "update model_versions set creation_time = ? where name = ? and version = ?", (at_ms, name, number)
            )
            connection.execute(
                "update logged_models set creation_timestamp_ms = ? where model_id = ?", (at_ms, made.model_id)
            )
        connection.close()
        self.digests[name, number], self.runs[name, number] = digest, run_id
        return number

    def alias(self, name: str, alias: str, number: str) -> None:
        self.store.client.set_registered_model_alias(name, alias, number)
        if alias == "champion":
            append_event(self.state, "promoted", model=name, version=number)

    def numbers(self, name: str) -> set[str]:
        return {str(each.version) for each in self.store.client.search_model_versions(f"name = '{name}'")}

    def loads(self, name: str, which: str, target: Path) -> bool:
        """Fetches a version, which checks every byte against its digest."""
        folder, number, *_ = fetch_model(self.store, name, which, target)
        return folder_digest(folder) == self.digests[name, number]

    def artifact_folders(self) -> set[str]:
        """Names of all folders of artifacts: ids of runs, and of models."""
        place = self.root / "mlruns/artifacts"
        return {path.name for path in place.iterdir() if path.name != "models"} | {
            path.name for path in (place / "models").iterdir()
        }


def lay_out(root: Path, template: Path) -> History:
    """A git repository with settings, and a fresh store copied from a template (a new one takes a second)."""
    import shutil

    root.mkdir()
    (root / "params.yaml").write_text("format: 1\nproject: p\nexecution: {}\nbases: {}\ndatasets: {}\nmodels: {}\n")
    (root / ".gitignore").write_text("/mlruns/\n/checkpoints/\n/cache/\n/artifacts/\n/made/\n/data\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    shutil.copytree(template / "mlruns", root / "mlruns")
    return History(root, open_store(root, "p"))


def random_history(root: Path, template: Path, seed: int) -> History:
    """Two models, the second of which starts from versions of the first; champions, failures and ages at random."""
    history, chance = lay_out(root, template), random.Random(seed)
    for name in ("first", "second"):
        numbers: list[str] = []
        for _ in range(chance.randint(5, 8)):
            inputs = {}
            if name == "second":
                start = chance.choice([pair for pair in history.digests if pair[0] == "first"])
                inputs = {"artifacts/models/first/model": history.digests[start]}
            numbers.append(history.version(name, chance.choice([1, 40, 400, 800]), inputs))
        for alias in ("previous", "champion"):
            history.alias(name, alias, chance.choice(numbers))
    for _ in range(4):
        history.run("digits", chance.choice([1, 500]), "dataset", chance.choice(["FAILED", "FINISHED"]))
    return history


def age(path: Path, days: float, clock: SetClock) -> None:
    """Give a folder and all in it an old date."""
    then = clock.now().timestamp() - days * DAY_S
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then), follow_symlinks=False)
