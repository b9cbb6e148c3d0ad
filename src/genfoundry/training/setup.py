"""Choose devices, strategy, threads and determinism of a run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from genfoundry.config.sections.execution import Execution
from genfoundry.core import pin
from genfoundry.core.errors import ConfigError
from genfoundry.core.processes import cores
from genfoundry.core.ranks import World, rank_zero, started_world

if TYPE_CHECKING:
    from pytorch_lightning.plugins.environments import ClusterEnvironment
    from pytorch_lightning.strategies import Strategy

    from genfoundry.config.sections.training import Training

__all__ = ["Devices", "choose_devices", "rank_zero", "set_determinism", "strategy"]


@dataclass(frozen=True)
class Devices:
    """Accelerator, devices on each node, processes in all."""

    accelerator: str
    count: int
    world: int


def choose_devices(execution: Execution, environ: Mapping[str, str] = os.environ) -> Devices:
    """Devices from the settings, checked against this machine and against what torchrun or srun has started.

    Raises:
        ConfigError: A GPU that is not there, more of them than there are, or other processes than the settings say.
    """
    there = torch.cuda.device_count()
    accelerator = execution.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if there else "cpu"
    if accelerator == "gpu" and not there:
        raise ConfigError("params.yaml: 'execution.accelerator' is 'gpu', but torch sees no GPU; set it to auto or cpu")
    world = started_world(environ)
    if world:
        _agree(execution, world)
    count = world.local if world else execution.devices or (there if accelerator == "gpu" else 1)
    if accelerator == "gpu" and count > there:
        raise ConfigError(
            f"params.yaml: 'execution.devices' is {count}, but torch sees {there} GPUs; lower it, or set 0 for all"
        )
    processors = os.cpu_count() or 1
    if accelerator == "cpu" and count > processors:
        raise ConfigError(
            f"params.yaml: 'execution.devices' is {count}, but there are {processors} cores; lower it, or set 0 for one"
        )
    return Devices(accelerator, count, world.size if world else count * execution.nodes)


def _agree(execution: Execution, world: World) -> None:
    nodes = world.size // world.local
    for name, asked, found in (("devices", execution.devices, world.local), ("nodes", execution.nodes, nodes)):
        if asked not in (0, found):
            raise ConfigError(
                f"params.yaml: 'execution.{name}' is {asked}, but torchrun or srun started {world.size} processes on "
                f"{nodes} nodes; set it to {found}, or start what the settings say"
            )


def set_determinism(training: "Training", execution: Execution, devices: Devices) -> None:
    """Fix the number of threads (sums depend on it), and torch's algorithms if bytes shall repeat."""
    torch.set_num_threads(pin.threads(execution.threads, devices.count))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(training.determinism == "bitwise")


def go_on_with_threads(saved: int, execution: Execution) -> None:
    """Resume with the number of threads of the checkpoint, unless settings name one or there are fewer cores now.

    Args:
        saved: Of the checkpoint; 0 if it does not say.
        execution: ``threads`` counts.
    """
    if 0 < saved <= cores():
        torch.set_num_threads(pin.threads(execution.threads or saved))


def strategy(training: "Training", execution: Execution, devices: Devices, losses: int) -> "str | Strategy":
    """Lightning's strategy; ``auto``, its trivial one, where a single process computes.

    Raises:
        ConfigError: The strategy does not go with the number of devices, the family or the optimizer.
    """
    # Extraction asks this module for devices too, and needs no Lightning, whose import takes seconds.
    from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

    name = execution.strategy
    if name == "single" and devices.world > 1:
        raise ConfigError(
            f"params.yaml: 'execution.strategy' is 'single', but there are {devices.world} processes; set it to auto, "
            "or devices and nodes to 1"
        )
    if name == "fsdp":
        _shardable(training, losses)
    if devices.world == 1:
        return "auto"
    if name == "fsdp":
        sharded = ModelParallelStrategy(data_parallel_size=devices.world, tensor_parallel_size=1)
        sharded.cluster_environment = _cluster(os.environ)
        return sharded
    # Several losses leave some parameters without gradient in each backward (tried: plain ddp raises). A bucket's
    # view as gradient saves the copy of all gradients.
    return DDPStrategy(
        cluster_environment=_cluster(os.environ),
        find_unused_parameters=losses > 1,
        gradient_as_bucket_view=True,
    )


def _shardable(training: "Training", losses: int) -> None:
    names = {optimizer.name for optimizer in (training.optimizer, *training.optimizers.values())}
    if "muon" in names:
        raise ConfigError(
            "params.yaml: 'execution.strategy' is 'fsdp', but Muon makes whole matrices orthogonal and fsdp leaves "
            "each device a slice of them; use ddp, or optimizer adamw"
        )
    if losses > 1:
        raise ConfigError(
            f"params.yaml: 'execution.strategy' is 'fsdp', but this family has {losses} losses, which switch "
            "gradients off and on between shards; use ddp"
        )
    if training.precision == "16-mixed":
        raise ConfigError(
            "params.yaml: 'execution.strategy' is 'fsdp', but the scaled loss of 16-mixed was never tried over divided "
            "gradients; use precision bf16-mixed, or ddp"
        )


def _cluster(environ: Mapping[str, str]) -> "ClusterEnvironment | None":
    """SLURM's environment if srun started us; Lightning finds torchrun's, and its own, by itself."""
    from pytorch_lightning.plugins.environments import SLURMEnvironment

    # Without requeue: SIGUSR1 would make Lightning save a checkpoint of its own kind and start the job again.
    by_srun = started_world(environ) is not None and "RANK" not in environ
    return SLURMEnvironment(auto_requeue=False) if by_srun else None
