"""Section `execution`: devices, processes and caches of a stage; not part of a result's identity."""

from typing import Literal

from pydantic import Field

from genfoundry.config.specs import Section


class Execution(Section):
    """Devices, processes and caches: logged, not part of a model's identity, so they may change on resume."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """auto: a GPU where there is one."""
    devices: int = Field(default=0, ge=0)
    """Devices on each node; 0 takes all GPUs, or one CPU process."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train one model."""
    strategy: Literal["auto", "single", "ddp", "fsdp"] = "auto"
    """ddp: each device holds the model; fsdp: weights, gradients and optimizer states are divided over the devices
    (Zhao et al. 2023, arXiv:2304.11277). auto: single on one device, else ddp.
    """
    launcher: Literal["auto", "torchrun", "slurm", "ray"] = "auto"
    """Who starts the processes: auto is the stage itself on this machine (or what started it: torchrun, srun);
    torchrun and slurm make the stage start itself again through torchrun or srun; ray runs it on a Ray cluster.
    """
    main_address: str = Field(default="", pattern=r"^([A-Za-z0-9.-]+:[0-9]{1,5})?$")
    """host:port at which several nodes meet, for launcher torchrun."""
    threads: int = Field(default=0, ge=0)
    """CPU threads of each process where ``numerics.threads`` is 0. 0: at its start a stage measures how many of the
    processors that affinity and cgroup leave it are idle, divides them by the processes, and prints what it takes; a
    resumed training goes on with the number of its checkpoint.
    """
    workers: int = Field(default=0, ge=0)
    """Processes that read batches ahead; 0 reads in the training process (batches come whole from memory maps)."""
    checkpoint_every: float = Field(default=120.0, gt=0)
    """Seconds between checkpoints."""
    data_executor: Literal["auto", "serial", "pool", "ray"] = "auto"
    """Who works on the shards of a data set: this process, a pool of processes, or tasks on a Ray cluster (extra
    ``ray``). The results are the same bytes. auto: a pool where there is enough to do for it.
    """
    data_workers: int = Field(default=0, ge=0)
    """Processes of the pool, or tasks at a time; 0 takes the cores of the affinity and cgroup."""
    data_cache: float = Field(default=0.5, ge=0)
    """Size in gigabytes of the cache of shard results under the state root, by which only new shards are computed; 0:
    no cache.
    """
