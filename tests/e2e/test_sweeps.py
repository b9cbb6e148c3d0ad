"""The page docs/sweeps.md, command by command: two experiments, two workers, chosen by the validation loss."""

import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import Project

from genfoundry.config.params import read_yaml
from genfoundry.tracking import tags
from genfoundry.tracking.store import open_store

VAL = "reports/models/bars-vae/train.json:best_val_loss"


def start_worker(project: Project, device: str, jobs: int) -> None:
    """A worker outlives this call and would hold a pipe open: its output goes to a file."""
    with (project.root / f"worker-{device}.log").open("w") as log:
        subprocess.run(
            [sys.executable, "-m", "dvc", "queue", "start", "-j", str(jobs)],
            cwd=project.root,
            check=True,
            stdout=log,
            stderr=log,
            timeout=300,
            env={
                **os.environ,
                "CUDA_VISIBLE_DEVICES": device,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
        )


def devices_of_workers(project: Project) -> set[str]:
    """CUDA_VISIBLE_DEVICES of the queue's workers of this project."""
    found = set()
    for process in psutil.process_iter():
        try:
            if "queue-worker" in " ".join(process.cmdline()) and process.cwd() == str(project.root):
                found.add(process.environ().get("CUDA_VISIBLE_DEVICES", ""))
        except psutil.Error:
            continue
    return found


@pytest.mark.long
def test_a_sweep_is_queued_run_by_two_workers_shown_by_val_and_applied(project: Project) -> None:
    baseline = project.git("rev-parse", "HEAD")

    project.dvc("exp", "run", "--queue", "-S", "models.bars-vae.options.latent=6,7", "train@bars-vae")
    start_worker(project, "0", 1)
    start_worker(project, "1", 2)
    devices = devices_of_workers(project)
    for _ in range(300):
        status = project.dvc("queue", "status").stdout
        if "Running" not in status and "Queued" not in status:
            break
        time.sleep(2)
        devices |= devices_of_workers(project)

    assert status.count("Success") == 2, status
    assert devices == {"0", "1"}, "each worker must see a device of its own"
    # Nothing but what one may choose by: no score of the test split is shown, and none was computed.
    words = ("--drop", ".*", "--keep", "^(Experiment|rev|typ)$|.*bars-vae.*(best_val_loss|options.latent)")
    table = project.dvc("exp", "show", "--csv", *words, "--sort-by", VAL, "--sort-order", "asc").stdout
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["typ"].startswith("branch")]
    losses = [float(row[VAL]) for row in rows]
    assert len(losses) == 2 and losses == sorted(losses)
    assert "fid_domain" not in table
    store = open_store(project.root, "miniature")
    runs = store.client.search_runs([store.experiment], f"tags.`{tags.SWEEP}` = '{baseline}'")
    runs = [run for run in runs if run.data.tags[tags.KIND] == "model"]
    assert {run.data.tags[tags.EXPERIMENT] for run in runs} == {row["Experiment"] for row in rows}
    assert sorted(run.data.metrics["train/best_val_loss"] for run in runs) == pytest.approx(losses, rel=1e-6)
    assert not any(name.startswith("evaluate/") for run in runs for name in run.data.metrics)

    project.dvc("exp", "apply", rows[0]["Experiment"])

    latent = read_yaml(project.root / "params.yaml")["models"]["bars-vae"]["options"]["latent"]
    assert str(latent) == rows[0]["models.bars-vae.options.latent"]
    assert "Running stage" not in project.dvc("repro", "train@bars-vae").stdout
    told = json.loads((project.root / "reports/models/bars-vae/train.json").read_text())
    assert told["best_val_loss"] == pytest.approx(losses[0], rel=1e-6)
