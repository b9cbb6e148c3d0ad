"""Commands of the tests start from a Python that has the large libraries imported already.

Most of a small stage's time goes into importing mlflow (2 s of processor time), great_expectations (3 s), torch (2 s)
and Lightning (3 s). One process does so once and forks for each command. The product itself is never preloaded: each
command imports genfoundry and pipelines anew, from the sources of its own project.

`Preloaded.python` stands in for the interpreter in `-m dvc`, `-m genfoundry.cli` and `-m pipelines.*`, and hands all
else to the real one. A command has the caller's words, folder, environment and standard streams; the caller gets its
exit code or deadly signal, passes signals on, and takes it along when killed. What differs from a fresh process: its
parent, its process group, /proc/<pid>/cmdline, modules that are there without having been asked for, one hash seed for
all, and what libraries read while they are loaded: the product refuses to pin instructions there (core/pin.py). So
tests of kills, of process trees, of imports and of pins start the real one, and one stage of each kind runs cold.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path

LIBRARIES = (
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.system_metrics.system_metrics_monitor", "mlflow.pyfunc",
    "great_expectations", "altair", "pandas", "pyarrow.parquet", "scipy.stats", "scipy.sparse", "scipy.optimize",
    "numba", "PIL.Image", "tokenizers", "matplotlib.figure", "matplotlib.backends.backend_agg", "ruamel.yaml",
    "torch.utils.flop_counter", "torch.distributed.fsdp", "pytorch_lightning", "safetensors.torch",
    "dvc.cli", "dvc.commands.repro", "dvc.repo.reproduce", "networkx",
)  # fmt: skip
"""What takes time to import; a name that does not exist is an error of the first command."""

CLIENT = """#!{python} -IS
import os, sys
words = sys.argv[1:]
if words[:1] != ["-m"] or not (words[1:2] in (["dvc"], ["genfoundry.cli"]) or words[1].startswith("pipelines.")):
    os.execv({python!r}, [{python!r}, *words])
import json, signal, socket
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
order = json.dumps([words[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(order).to_bytes(4, "big")], [0, 1, 2])
server.sendall(order)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, lambda number, frame: server.send(bytes([number])))
code = int(server.recv(8) or 1)  # nothing: the server is dead and has said why
if code < 0:
    if code != -signal.SIGKILL:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Preloaded:
    """The process that forks, until `stop`; it imports nothing before the first command comes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """``environment``: variables that must be set before a library is imported."""
        self.folder = tempfile.TemporaryDirectory(prefix="preload-")
        self.python = Path(self.folder.name, "python")
        address = f"{self.folder.name}/socket"
        self.python.write_text(CLIENT.format(python=sys.executable, address=address))
        self.python.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(address)
            listening.listen(64)
            self.process = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno()), str(self.python)],
                pass_fds=[listening.fileno()],
                stdin=subprocess.PIPE,
                start_new_session=True,
                env={name: value for name, value in {**os.environ, **environment}.items() if name != "PYTHONPATH"},
            )

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.folder.cleanup()


def serve(listening: socket.socket, python: str) -> list[str]:
    """Fork for each command until standard input closes; returns in the child of each, with the command's words."""
    kept, loaded = list(sys.path), False
    while True:
        ready, _, _ = select.select([listening, 0], [], [])
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            os._exit(0)
        if not loaded:
            for name in LIBRARIES:
                importlib.import_module(name)
            gc.freeze()  # else the first collection in each child would copy all of the memory
            loaded = True
        caller, _ = listening.accept()
        if os.fork():  # a process of its own for each command watches it: this one has no threads
            caller.close()
            continue
        head, streams, _, _ = socket.recv_fds(caller, 4, 3)
        words, folder, environment = json.loads(caller.recv(int.from_bytes(head, "big"), socket.MSG_WAITALL))
        child = os.fork()
        if child:
            for stream in streams:
                os.close(stream)  # else who reads to the end would wait for this process as well
            watch(caller, child)
            os._exit(0)
        os.setpgid(0, 0)
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        for number in (*streams, caller.detach(), listening.detach()):
            os.close(number)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        paths = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:] = [folder, *map(os.path.abspath, paths), *kept]
        sys.modules["numpy"].random.seed()  # a fresh process draws its own; Python's own generator does so by itself
        sys.executable = python  # what a command starts in its turn is as quick
        return list(words)


def watch(caller: socket.socket, child: int) -> None:
    """Pass signals on, kill the child and its group if the caller dies, tell the caller how the child ended."""
    with contextlib.suppress(PermissionError):  # the child may have done so first, and be about to end
        os.setpgid(child, child)
    ended = os.pidfd_open(child)
    while ended not in select.select([caller, ended], [], [])[0]:
        number = caller.recv(1)
        if not number:
            os.killpg(child, signal.SIGKILL)
            break
        os.kill(child, number[0])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        caller.sendall(str(code).encode())


class Ending:
    """Ends a child before Python takes apart all the modules that were preloaded, which takes 2 s."""

    def __init__(self) -> None:
        self.code: int | None = None
        atexit.register(self)  # before any library: what those register runs first

    def __call__(self) -> None:
        if self.code is None:  # not a child, or a way to end that is not foreseen
            return
        sys.stdout.flush()
        sys.stderr.flush()
        if self.code < 0:
            signal.signal(-self.code, signal.SIG_DFL)
            os.kill(os.getpid(), -self.code)
        os._exit(self.code)

    def run(self, words: list[str]) -> None:
        """As ``python -m`` does."""
        sys.argv = ["-m", *words[1:]]  # until the module is found, as pipelines/__init__.py looks at it
        sys.modules["__main__"] = types.ModuleType("__main__")
        try:
            runpy._run_module_as_main(words[0])
            self.code = 0
        except SystemExit as end:
            self.code = (end.code or 0) & 255 if isinstance(end.code, int | None) else 1
            raise
        except BaseException as error:
            self.code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
            raise


if __name__ == "__main__":
    sys.path.pop(0)
    ending = Ending()
    ending.run(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2]))
