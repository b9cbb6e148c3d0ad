"""Each family on the digits, over training seeds: python benchmarks/digits_families.py.

Trains every model of params.yaml on the data set with its own block and several seeds in a copy of the workspace that
shares its datasets, scores them with one reference and the same sampling seeds, and prints for each score the mean over
seeds with its error (standard deviation over seeds by the root of their number, and beside it the sampling error of one
score), the floor (real training records in place of samples), copies of training records, and seconds of training.

Needs a workspace in which `dvc repro` has made the data set. With three seeds the standard deviation over seeds is
known to about half; seconds are those of the train stage, seed by seed in turns over the models, and mean little on a
busy machine.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from seed_variance import ROOT, lay_out, run, with_seeds

SCORES = (
    "fid_inf_domain",
    "fid_domain",
    "kid_domain",
    "precision_domain",
    "recall_domain",
    "authenticity",
    "exact_copies",
    "near_copies",
)


def read_scores(workspace: Path, key: str) -> dict[str, dict[str, float]]:
    """Records by name of the metric."""
    table = json.loads((workspace / "reports/models" / key / "scores.json").read_text())
    return {name.split("@")[0]: record for name, record in table.items()}


def cells(records: list[dict[str, float]]) -> list[str]:
    """Mean and error over seeds, sampling error of one, lowest to highest, floor."""
    values = [record["value"] for record in records]
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    errors = [record["se"] for record in records if "se" in record]
    sampling = math.sqrt(statistics.fmean(se**2 for se in errors)) if errors else math.nan
    floors = [record["floor"] for record in records if "floor" in record]
    shown = [f"{statistics.fmean(values):.4g} ± {spread:.2g}", f"{sampling:.2g}"]
    return [*shown, f"{min(values):.4g} to {max(values):.4g}", f"{statistics.fmean(floors):.4g}" if floors else ""]


def train_and_score(made: dict[str, list[str]], workspace: Path, state: Path) -> dict[str, list[float]]:
    """Run the stages of all models, one seed of each after the other; seconds of training by model."""
    seconds: dict[str, list[float]] = {model: [] for model in made}
    for seed in range(len(next(iter(made.values())))):
        for model, keys in made.items():
            started = time.monotonic()
            run("train", keys[seed], workspace, state)
            seconds[model].append(time.monotonic() - started)
            for stage in ("sample", "extract", "evaluate"):
                run(stage, keys[seed], workspace, state)
    return seconds


def chosen(params: dict[str, Any], dataset: str, models: list[str]) -> list[str]:
    """Models of the data set that start from a base, or those named."""
    blocks = params["models"]
    unknown = [key for key in models if key not in blocks]
    if unknown:
        sys.exit(f"--models: no model {unknown[0]!r} in params.yaml; there are: {', '.join(blocks)}")
    found = models or [k for k, b in blocks.items() if b["dataset"] == dataset and b["init_from"] in params["bases"]]
    return found or sys.exit(f"--dataset: params.yaml has no model of {dataset!r} that starts from a base")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workspace", type=Path, default=ROOT)
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=0, help="instead of each model's own number, to try this out")
    parser.add_argument("--models", nargs="*", default=[], help="default: all of the data set that start from a base")
    options = parser.parse_args()
    yaml = YAML()
    with tempfile.TemporaryDirectory() as name:
        workspace, state = Path(name) / "workspace", Path(name) / "state"
        lay_out(options.workspace.resolve(), workspace)
        params = yaml.load(workspace / "params.yaml")
        models = chosen(params, options.dataset, options.models)
        made = with_seeds(params, models, options.seeds, options.steps, SCORES)
        yaml.dump(params, workspace / "params.yaml")
        for base in params["bases"]:
            run("base", base, workspace, state)
        seconds = train_and_score(made, workspace, state)
        heads = ("model", "score", "mean ± error over seeds", "sampling error of one", "lowest to highest", "floor")
        print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
        for model, keys in made.items():
            tables = [read_scores(workspace, key) for key in keys]
            for score in (score for score in SCORES if all(score in table for table in tables)):
                print(f"| {model} | {score} | {' | '.join(cells([table[score] for table in tables]))} |")
            print(f"| {model} | seconds of training | {' | '.join(cells([{'value': s} for s in seconds[model]]))} |")


if __name__ == "__main__":
    main()
