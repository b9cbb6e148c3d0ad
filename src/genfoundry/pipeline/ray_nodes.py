"""The training stage on a Ray cluster: Ray gives whole nodes, torchrun starts the processes on each.

Ray Train would run the stage inside a thread of its workers, where no signal arrives: a preempted run would lose what
it has done since its last checkpoint. So Ray places one actor a node, and the stage is the process it is everywhere.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import FrameType

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from genfoundry.config.sections.execution import Execution
from genfoundry.core.errors import Exit
from genfoundry.core.processes import callers, end_with
from genfoundry.pipeline.launch import torchrun

POLL_S = 1.0
"""How often the nodes and the signals that came are looked at."""

PDEATHSIG = 1
"""Option of prctl(2): the signal that a process gets when its parent ends."""


def _with_parent() -> None:
    """Let the started process end, after its checkpoint, with the actor: Ray kills that when the driver is gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PDEATHSIG, signal.SIGTERM)


@ray.remote
class Node:
    """The processes of one node."""

    def __init__(self) -> None:
        self.started: subprocess.Popen[bytes] | None = None
        self.stopped = False

    def endpoint(self) -> str:
        """host:port of a free port, at which the nodes meet."""
        with socket.socket() as free:
            free.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"

    def run(self, command: list[str], folder: str) -> int:
        """Exit code of the command."""
        if self.stopped:
            return int(Exit.PREEMPTED)
        self.started = subprocess.Popen(command, cwd=folder, preexec_fn=_with_parent)
        if self.stopped:
            self.started.terminate()
        return self.started.wait()

    def stop(self) -> None:
        """Hand SIGTERM on: the stage saves a checkpoint and ends."""
        self.stopped = True
        if self.started:
            self.started.terminate()


def main(execution: Execution, words: list[str]) -> int:
    """Run ``python words`` on ``execution.devices`` processes of each of ``execution.nodes`` nodes; the worst code."""
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    ray.init(address=os.environ.get("RAY_ADDRESS"), configure_logging=False, include_dashboard=False)
    # After Ray has set its own, which exit at once.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    end_with(callers(), signal.SIGTERM)
    devices = {"CPU" if execution.accelerator == "cpu" else "GPU": float(execution.devices)}
    group = placement_group([devices] * execution.nodes, "STRICT_SPREAD" if execution.nodes > 1 else "STRICT_PACK")
    ready = group.ready()
    while not ray.wait([ready], timeout=POLL_S)[0]:
        if asked:
            return int(Exit.PREEMPTED)

    nodes = [
        Node.options(
            num_cpus=devices.get("CPU", 0),
            num_gpus=devices.get("GPU", 0),
            max_concurrency=2,  # run, and stop beside it
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
        ).remote()
        for number in range(execution.nodes)
    ]
    endpoint = ray.get(nodes[0].endpoint.remote())
    running = [
        node.run.remote(torchrun(execution, endpoint, words, number == 0), str(Path.cwd()))
        for number, node in enumerate(nodes)
    ]
    codes, told = [], False
    while running:
        done, running = ray.wait(running, timeout=POLL_S)
        for each in done:
            try:
                codes.append(ray.get(each))
            except RayActorError as error:
                print(f"genfoundry: Ray lost a node: {error}", file=sys.stderr, flush=True)
                codes.append(int(Exit.INFRASTRUCTURE))
        # One node's failure ends the others: they would wait for it until torch gives up.
        if (asked or any(codes)) and not told:
            told = True
            for node in nodes:
                node.stop.remote()
    return int(Exit.PREEMPTED) if asked else max(codes, key=abs)


if __name__ == "__main__":
    sys.exit(main(Execution.model_validate_json(sys.argv[1]), sys.argv[2:]))
