"""Rank and world size of this process, from the launcher's environment; importing torch would cost a second."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """Processes that somebody else started: torchrun, srun, or Ray through torchrun."""

    rank: int
    size: int
    local: int
    """Processes on this node."""


def started_world(environ: Mapping[str, str] = os.environ) -> World | None:
    """The processes of torchrun or of a step of srun; None for a process that was started alone."""
    if "RANK" in environ and "LOCAL_WORLD_SIZE" in environ:
        return World(int(environ["RANK"]), int(environ["WORLD_SIZE"]), int(environ["LOCAL_WORLD_SIZE"]))
    tasks = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    # A step of one task is a shell in an allocation (srun --pty bash), where the stage starts its processes itself.
    if tasks == 1 or "LOCAL_RANK" in environ:
        return None
    return World(int(environ["SLURM_PROCID"]), tasks, tasks // int(environ.get("SLURM_STEP_NUM_NODES", "1")))


def rank_zero(environ: Mapping[str, str] = os.environ) -> bool:
    """True in the one process that writes; under Lightning's own relaunch by LOCAL_RANK and NODE_RANK."""
    world = started_world(environ)
    if world:
        return world.rank == 0
    return environ.get("LOCAL_RANK", "0") == "0" and environ.get("NODE_RANK", "0") == "0"
