"""A function on several processes joined by gloo: for tests of what is computed over devices."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def own_address() -> str:
    """This machine's address towards others, which its hostname need not resolve to; loopback without a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # no packet is sent
        except OSError:
            return "127.0.0.1"
        return str(asked.getsockname()[0])


def _work(rank: int, function: Callable[..., Any], world: int, port: int, folder: Path, rest: tuple[Any, ...]) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    torch.save(function(rank, world, *rest), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def run_processes(function: Callable[..., Any], world: int, *rest: Any) -> list[Any]:
    """``function(rank, world, *rest)`` of a module on ``world`` processes; tensors and plain types, by rank."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_work, (function, world, _free_port(), Path(folder), rest), world)
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(world)]
