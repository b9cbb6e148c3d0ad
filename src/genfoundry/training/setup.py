"""On what and how a run is computed: devices, strategy, threads, determinism."""

import os
from dataclasses import dataclass

import torch

from genfoundry.errors import ConfigError
from genfoundry.settings import Execution, Training


@dataclass(frozen=True)
class Devices:
    """Accelerator, devices on each node, processes in all."""

    accelerator: str
    count: int
    world: int


def rank_zero() -> bool:
    """True in the process that writes."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"


def choose_devices(execution: Execution) -> Devices:
    """What the settings ask for, checked against what there is.

    Raises:
        ConfigError: A GPU that is not there, or more of them than there are.
    """
    there = torch.cuda.device_count()
    accelerator = execution.accelerator
    if accelerator == "auto":
        accelerator = "gpu" if there else "cpu"
    if accelerator == "gpu" and not there:
        raise ConfigError("params.yaml: 'execution.accelerator' is 'gpu', but torch sees no GPU; set it to auto or cpu")
    count = execution.devices or (there if accelerator == "gpu" else 1)
    if accelerator == "gpu" and count > there:
        raise ConfigError(
            f"params.yaml: 'execution.devices' is {count}, but torch sees {there} GPUs; lower it, or set 0 for all"
        )
    return Devices(accelerator, count, count * execution.nodes)


def set_determinism(training: Training, execution: Execution, devices: Devices) -> None:
    """Fix the number of threads (sums depend on it), and torch's algorithms if bytes shall repeat."""
    torch.set_num_threads(execution.threads or max((os.cpu_count() or 1) // devices.count, 1))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(training.determinism == "bitwise")


def strategy(execution: Execution, devices: Devices, objectives: int) -> str:
    """Lightning's name of the strategy."""
    if devices.world == 1 and execution.strategy == "auto":
        return "auto"
    # Several objectives leave some parameters without gradient in each backward (tried: plain ddp raises).
    return "ddp" if objectives == 1 else "ddp_find_unused_parameters_true"
