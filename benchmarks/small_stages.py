"""Seconds of each data stage as a whole process on 100 records: python benchmarks/small_stages.py [rounds].

The floor beside it is the same process that only imports what every stage needs and opens the store.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

STAGES = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode")
FLOOR = (
    "import pandas; from mlflow import MlflowClient; MlflowClient('sqlite:///mlruns/mlflow.db').search_experiments()"
)


def cut_to(data: Path, records: int) -> None:
    """Leave so many records of each data set of the miniature project."""
    for path in sorted((data / "bars").rglob("*.png"))[records:]:
        path.unlink()
    lines = (data / "notes/notes.jsonl").read_text().splitlines(keepends=True)
    (data / "notes/notes.jsonl").write_text("".join(lines[:records]))


def seconds(command: list[str], cwd: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
    return time.perf_counter() - start


def main(rounds: int) -> None:
    from conftest import lay_out

    with tempfile.TemporaryDirectory() as name:
        project = lay_out(Path(name) / "project")
        cut_to(project.root / "data", 100)
        times: dict[str, list[float]] = {"floor": []}
        for _ in range(rounds + 1):
            for stage in STAGES:
                for key in ("bars", "notes"):
                    command = [sys.executable, "-m", f"pipelines.{stage}", key]
                    times.setdefault(f"{stage}@{key}", []).append(seconds(command, project.root))
            times["floor"].append(seconds([sys.executable, "-c", FLOOR], project.root))
    # The first round makes the store and fills the file cache.
    print(json.dumps({key: round(statistics.median(values[1:]), 2) for key, values in times.items()}, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
