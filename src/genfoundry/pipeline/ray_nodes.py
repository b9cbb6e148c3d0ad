"""The training stage on a Ray cluster: Ray gives whole nodes, torchrun starts the processes on each.

Ray Train would run the stage inside a thread of its workers, where no signal arrives: a preempted run would lose what
it has done since its last checkpoint. So Ray places one task a node, and the stage is the process it is everywhere.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from genfoundry.config.sections.execution import Execution
from genfoundry.pipeline.launch import torchrun

GRACE_S = 60
"""Seconds that a stage gets to save and end after SIGTERM."""


def _endpoint() -> str:
    """host:port of a free port of this node, at which the nodes meet."""
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


def _run(command: list[str], folder: str) -> int:
    """Exit code of the processes of one node; they are stopped when the task is cancelled."""
    started = subprocess.Popen(command, cwd=folder)
    try:
        return started.wait()
    except KeyboardInterrupt:
        started.terminate()
        return started.wait(GRACE_S)


def main(execution: Execution, words: list[str]) -> int:
    """Run ``python words`` on ``execution.devices`` processes of each of ``execution.nodes`` nodes; the worst code."""
    ray.init(address=os.environ.get("RAY_ADDRESS"), configure_logging=False, include_dashboard=False)
    devices = {"CPU" if execution.accelerator == "cpu" else "GPU": float(execution.devices)}
    spread = "STRICT_SPREAD" if execution.nodes > 1 else "STRICT_PACK"
    group = placement_group([devices] * execution.nodes, spread)
    ray.get(group.ready())

    def on(node: int) -> dict[str, object]:
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)
        return {
            "num_cpus": devices.get("CPU", 0),
            "num_gpus": devices.get("GPU", 0),
            "max_retries": 0,
            "scheduling_strategy": place,
        }

    endpoint = ray.get(ray.remote(_endpoint).options(**on(0)).remote())
    command = torchrun(execution, endpoint, words)
    tasks = [ray.remote(_run).options(**on(node)).remote(command, str(Path.cwd())) for node in range(execution.nodes)]

    def stop(number: int, frame: FrameType | None) -> None:
        for task in tasks:
            ray.cancel(task)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return max(ray.get(tasks), key=abs)


if __name__ == "__main__":
    sys.exit(main(Execution.model_validate_json(sys.argv[1]), sys.argv[2:]))
