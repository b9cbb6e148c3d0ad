"""Seconds of `genfoundry retrain` when there is nothing to do, and of `genfoundry status`, on the default data.

    python benchmarks/noop_retrain.py [repetitions]

A clone of this repository gets the embedded data and an outcome of its present inputs, as a retrain leaves it (training
the default models takes minutes, and a no-op looks at nothing of it). Then each command is started so many times, as a
scheduler starts it, one after the other. Wall time is what a person waits, CPU time what a quiet machine would take.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLOSE = """
import sys
from pathlib import Path
from genfoundry.retraining.journal import Journal, home
from genfoundry.retraining.line import load
from genfoundry.retraining.protocol import SystemClock
root = Path.cwd()
snapshot = load(root, root, SystemClock()).snapshot()
Journal(home(root) / snapshot.key).close(
    {"at": "2026-01-01T00:00:00Z", "outcome": "rejected", "code": 11, "attempt": 1,
     "decisions": [{"model": model, "decision": "rejected"} for model in snapshot.models], "event": {}})
"""


def run(root: Path, *command: str, code: int = 0) -> tuple[float, float]:
    """Wall and CPU seconds of a command that ends with this code."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, *command], cwd=root, env=env, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode != code:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        run(root, "-m", "genfoundry.cli", "bootstrap")
        for data in ("committed", "workspace"):
            if data == "workspace":
                with (root / "params.yaml").open("a") as params:
                    params.write("\nretraining: {data: workspace}\n")
            run(root, "-c", CLOSE)
            told = [run(root, "-m", "genfoundry.cli", "retrain", code=10) for _ in range(count)]
            show(f"no-op retrain, data: {data}", told)
        show("status", [run(root, "-m", "genfoundry.cli", "status") for _ in range(count)])


def show(what: str, told: list[tuple[float, float]]) -> None:
    walls, cpus = [wall for wall, _ in told], [cpu for _, cpu in told]
    print(
        f"{what:32} wall {statistics.median(walls):.2f} s (longest {max(walls):.2f}), "
        f"CPU {statistics.median(cpus):.2f} s (longest {max(cpus):.2f}); {len(told)} times"
    )


if __name__ == "__main__":
    main()
