"""Log a stage's published files to its run; both the stage and `genfoundry record` call it.

Reports on disk are the truth, MLflow shows them; only timings exist in MLflow alone. Everything here is idempotent:
a curve goes on behind its last logged step, a picture of a step is logged once.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genfoundry.config.dag import Node, lineage_file
from genfoundry.core.io import MANIFEST, listed, read_json
from genfoundry.tracking import tags
from genfoundry.tracking.runs import Run, numbers


def log_stage(run: Run, root: Path, node: Node, record: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Log metrics, curves, pictures, pages, data sets, parameters and digests of a finished stage."""
    run.params(params)
    for out in node.outs:
        if out.startswith("reports/"):
            _log_report(run, root / out)
    for out in node.metrics:
        known = run.last_steps()
        run.metrics({name: value for name, value in numbers(read_json(root / out)).items() if name not in known})
    run.artifact(lineage_file(root, node.address), "lineage")
    _log_inputs(run, root, node, record)
    run.complete()
    digests = {tags.OUTPUT + name: digest for name, digest in record["outputs"].items()}
    run.tags({**digests, tags.STAGE + node.stage: record["fingerprint"]})


def _log_report(run: Run, path: Path) -> None:
    if path.suffix == ".csv":
        _log_curve(run, path)
    if path.is_dir():
        _log_pictures(run, path)
        for file in sorted(path.iterdir()):
            if file.name != MANIFEST:
                run.artifact(file, path.name)
    else:
        run.artifact(path)


def _log_curve(run: Run, path: Path) -> None:
    """A CSV with a ``step`` column: each other column is a curve."""
    last = run.last_steps()
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step = int(row.pop("step"))
            for name, value in row.items():
                if value and step > last.get(name, -1):
                    run.metric(name, float(value), step)


def _log_pictures(run: Run, folder: Path) -> None:
    """``<name>-<step>.png`` files become one picture with a slider over steps in the UI."""
    pictures = sorted(folder.glob("*-[0-9]*.png"))
    if not pictures:
        return
    from PIL import Image

    there = {file.path for file in run.client.list_artifacts(run.run_id, "images")}
    for picture in pictures:
        name, step = picture.stem.rsplit("-", 1)
        key = f"{run.stage}_{name}"
        if not any(
            path.startswith((f"images/{key}%step%{int(step)}%", f"images/{key}+step+{int(step)}+")) for path in there
        ):
            with Image.open(picture) as image:
                run.client.log_image(run.run_id, image.convert("RGB"), key=key, step=int(step))


def _log_inputs(run: Run, root: Path, node: Node, record: Mapping[str, Any]) -> None:
    """Data sets a stage read, as MLflow inputs with our digest: raw data, clean records, arrays, samples."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = []
    for name in node.data:
        digest = record["inputs"][name]
        if not (root / name).is_dir() or name.startswith("reports/") or name.endswith("/model"):
            continue
        profile = _profile(root, name)
        dataset = Dataset(
            name=name.removeprefix("artifacts/").replace("/", " "),
            digest=digest[:36],
            source_type="local",
            source=json.dumps({"path": name, "sha256": digest}),
            profile=json.dumps(profile),
        )
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", node.stage), InputTag("sha256", digest)]))
    if inputs:
        run.client.log_inputs(run.run_id, inputs)


def _profile(root: Path, name: str) -> dict[str, Any]:
    if not (root / name / MANIFEST).is_file():
        return {}
    files = listed(root / name)
    return {"files": len(files), "bytes": sum(entry["bytes"] for entry in files.values())}
