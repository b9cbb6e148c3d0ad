"""Frechet distance against torchmetrics 1.9, its error bar against the bootstrap, and the memory of statistics.

Run: python benchmarks/metrics.py [rounds]

Both sides get the same float32 features at hand and pay for all from there: torchmetrics an update of each set in one
call and compute, with a network that passes its input through; ours one call. They take turns in one process with
the same number of threads (OMP_NUM_THREADS, 1 if not set), so that a busy machine slows both; ratios of medians count.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(THREADS)

import numpy as np  # noqa: E402

from genfoundry.metrics import (  # noqa: E402
    Moments,
    frechet,
    frechet_distance,
    frechet_distance_from_statistics,
    kernel_distance,
    precision_recall_density_coverage,
)

SIZES = ((5_000, 512), (10_000, 2_048), (100, 512), (100, 2_048), (1_000, 2_048))
DRAWS = 5
"""Bootstrap draws that are timed; the cost of 1,000 is scaled from them."""

STATISTICS = (50_000, 2_048, 1_000)
"""Rows, features, and rows of one update."""


def features(n: int, d: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """float32 (N, D), spectrum falling as 1 / sqrt(j), as features of networks do."""
    generator = np.random.default_rng(seed)
    return (scale * generator.standard_normal((n, d), dtype=np.float32) / np.sqrt(np.arange(1, d + 1))).astype("f4")


def seconds(work: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = work()
    return time.perf_counter() - start, value


def torchmetrics_distance(x: np.ndarray, y: np.ndarray) -> float:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Through(torch.nn.Module):
        num_features = x.shape[1]

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows

    metric = FrechetInceptionDistance(Through(), normalize=True)
    metric.update(torch.from_numpy(y), real=True)
    metric.update(torch.from_numpy(x), real=False)
    return float(metric.compute())


def streamed_distance(x: np.ndarray, y: np.ndarray) -> float:
    return frechet_distance_from_statistics(*(Moments(x.shape[1]).update(rows) for rows in (x, y)))


def distances(rounds: int) -> list[str]:
    """Rows of the table, one for each size."""
    lines = ["| n x d | torchmetrics s | ours s | ratio | from statistics s | ratio |", "|---|---|---|---|---|---|"]
    for n, d in SIZES:
        x, y = features(n, d, 0, 1.05), features(n, d, 1)
        rivals = {"torchmetrics": torchmetrics_distance, "ours": frechet_distance, "statistics": streamed_distance}
        times: dict[str, list[float]] = {name: [] for name in rivals}
        values = {}
        for _ in range(rounds):
            for name, work in rivals.items():
                taken, values[name] = seconds(lambda work=work, x=x, y=y: work(x, y))
                times[name].append(taken)
        assert abs(values["ours"] / values["torchmetrics"] - 1) < 1e-3, values
        theirs, ours, ours_streamed = (statistics.median(times[name]) for name in rivals)
        lines.append(
            f"| {n} x {d} | {theirs:.3f} | {ours:.3f} | {theirs / ours:.1f} | {ours_streamed:.3f} | "
            f"{theirs / ours_streamed:.1f} |"
        )
        print(lines[-1], file=sys.stderr, flush=True)
    return lines


def error_bar(rounds: int) -> dict[str, float]:
    """Influence of all rows against draws of the bootstrap with our own distance, which is the quick one."""
    x, y = features(5_000, 512, 0, 1.05), features(5_000, 512, 1)
    generator = np.random.default_rng(2)

    def draw() -> float:
        return frechet_distance(*(rows[generator.integers(0, len(rows), len(rows))] for rows in (x, y)))

    influence, draws = [], []
    for _ in range(max(rounds, DRAWS)):
        influence.append(seconds(lambda: frechet(x, y).se)[0])
        draws.append(seconds(draw)[0])
    own, thousand = statistics.median(influence), 1_000 * statistics.median(draws)
    return {"error_bar_s": own, "bootstrap_1000_scaled_s": thousand, "ratio": thousand / own}


def other_times() -> dict[str, float]:
    x, y = features(5_000, 512, 0, 1.05), features(5_000, 512, 1)
    return {
        "kernel_distance_5000x512_s": seconds(lambda: kernel_distance(x, y).value)[0],
        "precision_and_kin_5000x512_s": seconds(lambda: precision_recall_density_coverage(x, y).precision)[0],
    }


def peak_gb() -> float:
    """Largest resident size of this process; getrusage would carry over that of the process that started it."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def collect() -> dict[str, float]:
    """In a process of its own: what statistics of many rows cost beyond one block of them."""
    rows, d, block = STATISTICS
    generator, moments = np.random.default_rng(0), Moments(d)
    before, start = peak_gb(), time.perf_counter()
    for _ in range(rows // block):
        moments.update(generator.standard_normal((block, d), dtype=np.float32))
    assert moments.count == rows
    taken = time.perf_counter() - start
    return {"seconds": taken, "peak_gb": peak_gb(), "peak_gb_before": before, "rows_gb_as_float64": rows * d * 8e-9}


def main(rounds: int) -> None:
    lines = distances(rounds)
    done = subprocess.run([sys.executable, __file__, "collect"], check=True, capture_output=True, text=True)
    found = {
        "threads": THREADS,
        "rounds": rounds,
        "error_bar_5000x512": error_bar(rounds),
        "statistics_50000x2048": json.loads(done.stdout),
        **other_times(),
    }
    print("\n".join(lines), "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    if sys.argv[1:] == ["collect"]:
        print(json.dumps(collect()))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
