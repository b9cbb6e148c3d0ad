"""Spread of the primary score over training seeds, beside the sampling error: python benchmarks/seed_variance.py.

Trains each default model with several seeds in a copy of the workspace that shares its datasets, scores all of them
with the same reference and the same sampling seeds, and prints the standard deviation over seeds beside the standard
error of one score and of a paired difference. The gate's error bars cover the second kind alone. With five seeds the
standard deviation itself is known to about a third (its 95 % interval is 0.6 to 2.9 times the value).

Needs a workspace in which `dvc repro` has made the datasets. About ten minutes on two cores for the default models.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from genfoundry.core import parts

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("pipelines", "presets", "src", "dvc.yaml", "params.yaml", "requirements.lock")
PRIMARY = ("fid_domain", "bits_per_byte")


def lay_out(source: Path, target: Path) -> None:
    """A workspace with its own models and reports, whose datasets are those of the source."""
    target.mkdir(parents=True)
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copyfile(source / name, target / name)
    (target / "artifacts/models").mkdir(parents=True)
    (target / "artifacts/lineage").mkdir()
    (target / "artifacts/datasets").symlink_to(source / "artifacts/datasets")
    for lineage in (source / "artifacts/lineage").glob("*.json"):
        shutil.copyfile(lineage, target / "artifacts/lineage" / lineage.name)
    for place in ("data", "imports"):
        if (source / place).exists():
            (target / place).symlink_to(source / place)


def with_seeds(
    params: dict[str, Any], models: list[str], seeds: int, steps: int, metrics: Sequence[str] = PRIMARY
) -> dict[str, list[str]]:
    """Replace each model by one block a seed, which differ in ``training.seed`` alone; their keys by model.

    Only the metrics named are computed.
    """
    blocks, made = params["models"], {}
    others = [name for name in parts.names("metrics") if name not in metrics]
    for key in models:
        block = json.loads(json.dumps(blocks[key]))
        made[key] = [f"{key}-s{seed}" for seed in range(seeds)]
        for seed, name in enumerate(made[key]):
            training = dict(block["training"], seed=seed, **({"steps": steps} if steps else {}))
            kept = {name: value for name, value in block["evaluation"].items() if name in ("window", "stride", "batch")}
            blocks[name] = dict(block, training=training, evaluation={**kept, "skip": others})
    for key in models:
        del blocks[key]
    return made


def run(stage: str, key: str, workspace: Path, state: Path) -> None:
    environment = {**os.environ, "GENFOUNDRY_STATE": str(state), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", f"pipelines.{stage}", key]
    done = subprocess.run(command, cwd=workspace, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{stage}@{key} ended with {done.returncode}:\n{done.stderr[-3000:]}")


def paired_se(workspace: Path, dataset: str, keys: list[str], primary: str) -> float:
    """Root mean square, over all pairs of seeds, of the standard error of their paired difference."""
    import numpy as np
    import pandas as pd

    from genfoundry.metrics import paired_frechet_difference, paired_ratio_difference

    folders = [workspace / "artifacts/models" / key / "features" for key in keys]
    if primary == "fid_domain":
        real = np.load(workspace / "artifacts/datasets" / dataset / "reference/test_features.npy")
        rows = [np.load(folder / "features.npy") for folder in folders]
        found = [paired_frechet_difference(a, b, real).se for a, b in itertools.combinations(rows, 2)]
    else:
        tables = [pd.read_parquet(folder / "nats.parquet") for folder in folders]
        pairs = itertools.combinations(tables, 2)
        found = [paired_ratio_difference(a["nats"], b["nats"], a["bytes"]).se / math.log(2) for a, b in pairs]
    return math.sqrt(statistics.fmean(se**2 for se in found))


def scores(workspace: Path, keys: list[str]) -> tuple[str, list[dict[str, float]]]:
    """Name and records of the primary score of each seed, which must have been measured alike."""
    tables = [json.loads((workspace / "reports/models" / key / "scores.json").read_text()) for key in keys]
    (name,) = {name for table in tables for name in table if name.split("@")[0] in PRIMARY}
    return name, [table[name] for table in tables]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=0, help="instead of each model's own number, to try this out")
    parser.add_argument("--models", nargs="*", help="default: all of params.yaml that start from a base")
    options = parser.parse_args()
    yaml, started = YAML(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        workspace, state = Path(name) / "workspace", Path(name) / "state"
        lay_out(options.workspace.resolve(), workspace)
        params = yaml.load(workspace / "params.yaml")
        bases = list(params["bases"])
        models = options.models or [key for key, block in params["models"].items() if block["init_from"] in bases]
        made = with_seeds(params, models, options.seeds, options.steps)
        yaml.dump(params, workspace / "params.yaml")
        for base in bases:
            run("base", base, workspace, state)
        heads = ("model", "score", "mean over seeds", "lowest to highest", "sd over seeds", "se of one", "se of a pair")
        print(f"| {' | '.join(heads)} | sd / se |\n|{'---|' * 8}")
        for model, keys in made.items():
            for key in keys:
                for stage in ("train", "sample", "extract", "evaluate"):
                    run(stage, key, workspace, state)
            score, records = scores(workspace, keys)
            values = [record["value"] for record in records]
            se = math.sqrt(statistics.fmean(record["se"] ** 2 for record in records))
            spread = statistics.stdev(values)
            pair = paired_se(workspace, params["models"][keys[0]]["dataset"], keys, score.split("@")[0])
            cells = [model, score, f"{statistics.fmean(values):.4g}", f"{min(values):.4g} to {max(values):.4g}"]
            cells += [f"{spread:.2g}", f"{se:.2g}", f"{pair:.2g}", f"{spread / se:.2g}"]
            print("| " + " | ".join(cells) + " |", flush=True)
    print(f"\n{options.seeds} seeds, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
