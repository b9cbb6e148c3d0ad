"""Seconds and peak memory of each stage as a whole process: python benchmarks/stage_seconds.py [project folder].

The project in the folder (default: this one) is run through stage by stage, whether DVC finds a change or not.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(project: Path) -> None:
    sys.path.insert(0, str(ROOT / "src"))
    from genfoundry.dag import nodes

    rows = {}
    for node in nodes(project).values():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, *node.cmd.split()[1:]], cwd=project, check=True, capture_output=True)
        wall_s = time.perf_counter() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rows[node.address] = {"wall_s": round(wall_s, 2), "cpu_s": round(cpu_s, 2)}
        print(f"{node.address:32} {wall_s:7.2f} s wall {cpu_s:7.2f} s cpu", flush=True)
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(
        json.dumps(
            {"total_wall_s": round(sum(row["wall_s"] for row in rows.values()), 1), "peak_gib": round(peak_gib, 2)}
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT).resolve())
