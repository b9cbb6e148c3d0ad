"""Start the training stage as several processes: replace it by torchrun, srun or a Ray job of itself.

``launcher: auto`` needs none of it: Lightning starts the processes of one node. Every launcher runs the same command
that DVC runs, on a file system that all nodes share.
"""

import importlib.util
import os
import socket
import sys
from collections.abc import Mapping, Sequence

from genfoundry.config.sections.execution import Execution
from genfoundry.core import pin
from genfoundry.core.errors import ConfigError
from genfoundry.core.ranks import started_world


def torchrun(execution: Execution, endpoint: str, words: Sequence[str], hosts: bool) -> list[str]:
    """The command that starts ``execution.devices`` processes on this node, which meets the others at ``endpoint``.

    Args:
        endpoint: host:port.
        words: What comes after ``python``.
        hosts: The meeting point is on this node. Left to itself, c10d compares the host with addresses of the hostname;
            where that resolves to loopback, as on Debian and Ubuntu, no node hosts and all wait.
    """
    meeting = (
        ["--nnodes", str(execution.nodes), "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint,
         "--rdzv-conf", f"is_host={hosts}"]
        if execution.nodes > 1
        else ["--standalone"]
    )  # fmt: skip
    # python -m, not the torchrun script: that of this environment, whatever PATH says.
    return [sys.executable, "-m", "torch.distributed.run", *meeting, f"--nproc-per-node={execution.devices}", *words]


def hosts(endpoint: str) -> bool:
    """True if this machine has the address of ``endpoint`` (host:port), and no other process of it asked before.

    The answer stays true until this process and what replaces it have ended.
    """
    host, _, port = endpoint.rpartition(":")
    try:
        with socket.create_server((host, 0)):
            pass
    except OSError:
        return False
    if sys.platform == "linux":
        # Two nodes on one machine: a name in the abstract namespace has one holder, and goes with it (unix(7)).
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0genfoundry-rendezvous-{port}")
        except OSError:
            claim.close()
            return False
        os.set_inheritable(claim.detach(), True)
    return True


def launch_command(execution: Execution, environ: Mapping[str, str], argv: Sequence[str]) -> list[str] | None:
    """What to run in place of ``python argv``, or None if this process is one of those that compute.

    Args:
        argv: ``["-m", "pipelines.train", key]``.

    Raises:
        ConfigError: The launcher needs a setting that is not given, or a package that is not installed.
    """
    launcher = execution.launcher
    if launcher == "auto" or started_world(environ) or "LOCAL_RANK" in environ:
        return None
    if not execution.devices:
        raise ConfigError(
            f"params.yaml: 'execution.devices' is 0, but launcher {launcher} must know how many processes each node "
            "gets; name a number"
        )
    if launcher == "torchrun":
        if execution.nodes > 1 and not execution.main_address:
            raise ConfigError(
                f"params.yaml: 'execution.main_address' is empty, but {execution.nodes} nodes must meet somewhere; "
                "name host:port of one of them, and start the stage on each"
            )
        return torchrun(execution, execution.main_address, argv, execution.nodes > 1 and hosts(execution.main_address))
    if launcher == "slurm":
        if execution.nodes * execution.devices == 1:
            return None
        gpus = [] if execution.accelerator == "cpu" else [f"--gpus-per-node={execution.devices}"]
        tasks = [f"--nodes={execution.nodes}", f"--ntasks-per-node={execution.devices}", *gpus]
        # One rank's failure ends the step; the grace time is what the checkpoint of the others needs.
        return ["srun", *tasks, "--kill-on-bad-exit=1", sys.executable, *argv]
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "params.yaml: 'execution.launcher' is 'ray', but it is not installed; pip install -e '.[ray]'"
        )
    return [sys.executable, "-m", "genfoundry.pipeline.ray_nodes", execution.model_dump_json(), *argv]


def launch(execution: Execution) -> None:
    """Replace this process where the settings name a launcher; returns in every process that computes.

    Raises:
        ConfigError: See ``launch_command``; or the launcher's program is not there.
    """
    command = launch_command(execution, os.environ, ["-m", sys.modules["__main__"].__spec__.name, *sys.argv[1:]])
    if command is None:
        return
    if execution.launcher == "torchrun":
        # The ranks take this number; each would find the others busy with their start.
        pin.threads(execution.threads)
    print(f"genfoundry: {' '.join(command)}", flush=True)
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise ConfigError(
            f"params.yaml: 'execution.launcher' is {execution.launcher!r}, but there is no program {command[0]!r}; "
            "run this on a machine of the cluster, or set it to auto"
        ) from None
