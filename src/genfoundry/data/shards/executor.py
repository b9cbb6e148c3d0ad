"""Run tasks on the shards of a data set: in this process, in a pool of processes, or on a Ray cluster.

Each task is a pure function of its arguments that leaves its result in files of its own, so who runs it, where and in
which order moves no byte. Ray's nodes must see the project's folder under the same path.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from typing import Any, TypeVar

from genfoundry.config.sections.execution import Execution
from genfoundry.core.errors import ConfigError, InfrastructureError
from genfoundry.core.processes import cores, end_with

Task = TypeVar("Task")
Result = TypeVar("Result")

WORTH = 128 * 2**20
"""Bytes of content below which auto starts no pool: a worker takes 1 to 2 seconds to import pandas."""

AHEAD = 2
"""Tasks in flight per worker."""

RETRIES = 3
"""Times that Ray runs a task again whose process or node was lost."""


def workers(execution: Execution) -> int:
    """Tasks that run at a time."""
    return execution.data_workers or cores()


def choose(execution: Execution, tasks: int, size: int) -> str:
    """``serial``, ``pool`` or ``ray``.

    Args:
        execution: What the settings say.
        tasks: Number of shards.
        size: Bytes of content of all of them.
    """
    if execution.data_executor != "auto":
        return execution.data_executor
    return "pool" if min(workers(execution), tasks) > 1 and size >= WORTH else "serial"


def run(
    function: Callable[[Task], Result], tasks: Sequence[Task], execution: Execution, size: int = 0
) -> Iterator[Result]:
    """Results in the order of the tasks; few are held at a time.

    Args:
        function: A function of a module, so that another process finds it.
        tasks: Arguments, small: name files, don't hold them.
        execution: Who runs them.
        size: Bytes of content behind the tasks; decides for ``auto``.
    """
    kind = choose(execution, len(tasks), size)
    if kind == "serial":
        yield from map(function, tasks)
    elif kind == "pool":
        yield from _pool(function, tasks, min(workers(execution), max(len(tasks), 1)))
    else:
        yield from _ray(function, tasks, execution)


def _begin() -> None:
    """Set up a worker: it ends with its parent process, which alone handles signals sent to the group."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # As many processes as cores: threads of the tokenizer on top would only stand in each other's way.
    os.environ.setdefault("RAYON_NUM_THREADS", "1")
    end_with([], signal.SIGKILL)


def _pool(function: Callable[[Task], Result], tasks: Sequence[Task], number: int) -> Iterator[Result]:
    # Spawned, not forked: the threads of Arrow and of the tracking don't live on in a fork, but their locks do.
    pool = ProcessPoolExecutor(number, multiprocessing.get_context("spawn"), initializer=_begin)
    running: deque[Future[Result]] = deque()
    started = list((pool._processes or {}).values())
    try:
        for task in tasks:
            running.append(pool.submit(function, task))
            started = list((pool._processes or {}).values())
            if len(running) >= AHEAD * number:
                yield _result(running.popleft())
        while running:
            yield _result(running.popleft())
    except BaseException:
        for process in started:
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def _result(future: "Future[Result]") -> Result:
    from concurrent.futures.process import BrokenProcessPool

    try:
        return future.result()
    except BrokenProcessPool:
        raise InfrastructureError(
            "a process of the pool died, for want of memory maybe; lower execution.data_workers or ingest.shard"
        ) from None


def _ray(function: Callable[[Task], Result], tasks: Sequence[Task], execution: Execution) -> Iterator[Result]:
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ModuleNotFoundError:
        raise ConfigError(
            "params.yaml: 'execution.data_executor' is 'ray', but ray is not installed; pip install -e .[ray]"
        ) from None
    mine = not ray.is_initialized()
    if mine:
        _join(execution)
    try:
        # Tasks are pure: one whose node is lost runs again elsewhere. An error of its own is raised at once.
        remote = ray.remote(num_cpus=1, max_retries=RETRIES)(function)
        running: deque[Any] = deque()
        left = iter(tasks)
        while True:
            # Asked again for each: nodes join and leave.
            number = execution.data_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            running.extend(remote.remote(task) for task in islice(left, max(0, AHEAD * number - len(running))))
            if not running:
                return
            yield ray.get(running.popleft())
    except RayTaskError as error:
        raise error.as_instanceof_cause() from None
    except RayError as error:
        raise InfrastructureError(
            f"Ray lost a task {RETRIES + 1} times, with its node or for want of memory: {error}; look at `ray status`, "
            "lower ingest.shard"
        ) from None
    finally:
        if mine:
            ray.shutdown()


def _join(execution: Execution) -> None:
    """The cluster that ``RAY_ADDRESS`` names or that runs on this machine, else one of this machine's cores."""
    import ray

    quiet: dict[str, Any] = {"include_dashboard": False, "configure_logging": False, "log_to_driver": False}
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS") or "auto", **quiet)
    except ConnectionError as error:
        if os.environ.get("RAY_ADDRESS"):
            raise InfrastructureError(f"RAY_ADDRESS is {os.environ['RAY_ADDRESS']!r}: {error}") from None
        ray.init(address="local", num_cpus=workers(execution), **quiet)
