"""`dvc repro` with nothing to do, against DVC itself on as many trivial stages.

Run: python benchmarks/noop_repro.py [rounds]

Both are run in turn in one go, so that a busy machine slows both; the ratio of medians counts, of CPU seconds where
others use the machine too.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def dvc(*words: str, cwd: Path) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of a command."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=cwd, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def trivial(folder: Path, stages: int) -> None:
    """A project of as many stages, each with one input, one parameter and one output."""
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    dvc("init", "-q", cwd=folder)
    (folder / "in.txt").write_text("in")
    (folder / "params.yaml").write_text("".join(f"p{n}: {n}\n" for n in range(stages)))
    body = "stages:\n"
    for n in range(stages):
        source = "in.txt" if n == 0 else f"out{n - 1}.txt"
        body += f"  s{n}:\n    cmd: cp {source} out{n}.txt\n    deps: [{source}]\n"
        body += f"    params: [p{n}]\n    outs: [out{n}.txt]\n"
    (folder / "dvc.yaml").write_text(body)
    dvc("repro", "-q", cwd=folder)


def main(rounds: int) -> None:
    from genfoundry.config.dag import nodes

    stages = len(nodes(ROOT))
    dvc("repro", "-q", cwd=ROOT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        trivial(folder, stages)
        times: dict[str, list[tuple[float, float]]] = {"genfoundry": [], "trivial": []}
        for _ in range(rounds):
            times["genfoundry"].append(dvc("repro", cwd=ROOT))
            times["trivial"].append(dvc("repro", cwd=folder))
    medians = [
        {key: statistics.median(value[number] for value in values) for key, values in times.items()}
        for number in range(2)
    ]
    print(
        json.dumps(
            {
                "stages": stages,
                "rounds": rounds,
                "median_s": medians[0],
                "median_cpu_s": medians[1],
                "ratio": medians[0]["genfoundry"] / medians[0]["trivial"],
                "cpu_ratio": medians[1]["genfoundry"] / medians[1]["trivial"],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
