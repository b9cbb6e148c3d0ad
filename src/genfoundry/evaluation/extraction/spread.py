"""Spread batches over the devices of this machine, in order and without collectives, which could hang.

Every piece is a batch that is fixed before anybody starts, each process takes a contiguous run of them, and results
come back in the order of the pieces: what one process computes, any number computes, byte for byte on equal devices
with equal ``threads``. A process that dies ends the work at once.
"""

import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

import torch
import torch.multiprocessing

from genfoundry.config.sections.execution import Execution
from genfoundry.core import pin
from genfoundry.core.errors import InfrastructureError
from genfoundry.training.setup import choose_devices

Piece = TypeVar("Piece")
Result = TypeVar("Result")

Job = Callable[[str], Callable[[Piece], Result]]
"""Set up on a device, such as ``cuda:1``, and return the function that processes each piece there."""


class Places(NamedTuple):
    """Where work is done."""

    devices: tuple[str, ...]
    """One process each."""
    threads: int
    """CPU threads of each process."""

    @property
    def kind(self) -> str:
        """cpu or cuda."""
        return self.devices[0].partition(":")[0]


def places(execution: Execution) -> Places:
    """Devices and threads of the settings; by default all GPUs, or one process with the cores that are free.

    Raises:
        ConfigError: A GPU that is not there, or more of them than there are.
    """
    chosen = choose_devices(execution)
    devices = tuple(f"cuda:{number}" if chosen.accelerator == "gpu" else "cpu" for number in range(chosen.count))
    return Places(devices, pin.threads(execution.threads, chosen.count))


def spread(
    job: Job[Piece, Result],
    pieces: Sequence[Piece],
    at: Places,
    advance: Callable[[Piece], None] = lambda piece: None,
) -> list[Result]:
    """The job's result for each piece, in the order of the pieces.

    Args:
        job: Called once in each process; for several processes it must pickle, as must pieces and results.
        pieces: What to work on.
        at: Devices and threads. With one device the work is done in this process.
        advance: Called with each finished piece.

    Raises:
        InfrastructureError: A process died; errors that one raised are raised here as they were.
    """
    if min(len(at.devices), len(pieces)) <= 1:
        with _threads(at.threads):
            work, results = job(at.devices[0]), []
            for piece in pieces:
                results.append(work(piece))
                advance(piece)
            return results
    return _over_processes(job, pieces, at, advance)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _over_processes(
    job: Job[Piece, Result], pieces: Sequence[Piece], at: Places, advance: Callable[[Piece], None]
) -> list[Result]:
    context = torch.multiprocessing.get_context("spawn")
    count = min(len(at.devices), len(pieces))
    bounds = [len(pieces) * number // count for number in range(count + 1)]
    found: dict[int, Result] = {}
    processes, open_ends = [], {}
    try:
        for number in range(count):
            mine, theirs = context.Pipe(duplex=False)
            share = range(bounds[number], bounds[number + 1])
            process = context.Process(
                target=_worker,
                args=(theirs, job, [(order, pieces[order]) for order in share], at.devices[number], at.threads),
                daemon=True,
            )
            process.start()
            # Only the worker may hold it: else its death would not end the pipe.
            theirs.close()
            processes.append(process)
            open_ends[mine] = number, len(share)
        while open_ends:
            for end in wait(list(open_ends)):
                number, left = open_ends[end]  # type: ignore[index]
                order, result = _received(end, processes[number], at.devices[number])  # type: ignore[arg-type]
                found[order] = result
                advance(pieces[order])
                open_ends[end] = number, left - 1  # type: ignore[index]
                if left == 1:
                    del open_ends[end]  # type: ignore[arg-type]
        return [found[order] for order in range(len(pieces))]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _received(end: Connection, process: Any, device: str) -> tuple[int, Any]:
    try:
        order, result = end.recv()
    except EOFError:
        process.join()
        how = f"by signal {-process.exitcode}" if process.exitcode < 0 else f"with exit code {process.exitcode}"
        raise InfrastructureError(
            f"the process on {device} ended {how} before its work was done; if it was killed for memory, "
            "lower evaluation.batch or execution.devices"
        ) from None
    if order < 0:
        raise result
    return order, result


def _worker(end: Connection, job: Job[Any, Any], pieces: list[tuple[int, Any]], device: str, threads: int) -> None:
    """Body of a process: sends (order, result) for each piece, or (-1, error)."""
    # Ctrl-C reaches the whole group: the parent handles it and ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    try:
        work = job(device)
        for order, piece in pieces:
            parent = parent_process()
            if parent is None or not parent.is_alive():
                return
            end.send((order, work(piece)))
    except BrokenPipeError:
        return
    except BaseException as error:  # noqa: BLE001 -- every error must reach the parent
        end.send((-1, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """The error itself where it can travel, else its words."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 -- classes with other arguments fail in their own ways
        return RuntimeError("".join(traceback.format_exception(error)))
    return error
