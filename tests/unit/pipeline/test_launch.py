"""How a stage becomes several processes: commands, and who writes, by environment alone."""

import subprocess
import sys
from typing import Any

import pytest
from processes import own_address

from genfoundry.config.sections.execution import Execution
from genfoundry.core.errors import ConfigError
from genfoundry.core.ranks import World, rank_zero, started_world
from genfoundry.pipeline import launch as launching
from genfoundry.pipeline.launch import hosts, launch_command

STAGE = ["-m", "pipelines.train", "digits-vae"]
ELASTIC = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
FAR = "203.0.113.7"
"""An address of documentation (RFC 5737), which no machine has."""
SRUN = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_NUM_NODES": "2"}


def command(environ: dict[str, str] | None = None, **execution: Any) -> list[str] | None:
    return launch_command(Execution(**execution), environ or {}, STAGE)


def test_auto_starts_nothing() -> None:
    assert command(devices=8, nodes=2) is None


def test_torchrun_on_one_node_meets_by_itself() -> None:
    expected = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", *STAGE]

    assert command(launcher="torchrun", devices=4) == expected


def test_torchrun_on_several_nodes_meets_at_the_main_address() -> None:
    meeting = [
        "--nnodes",
        "2",
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        f"{FAR}:29400",
        "--rdzv-conf",
        "is_host=False",
    ]
    expected = [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc-per-node=4", *STAGE]

    assert command(launcher="torchrun", devices=4, nodes=2, main_address=f"{FAR}:29400") == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", own_address()])
def test_one_node_at_an_address_of_this_machine_hosts(host: str) -> None:
    """Whatever the hostname resolves to; of two nodes on one machine the second does not while the first lives."""
    ask = f"from genfoundry.pipeline.launch import hosts; print(hosts('{host}:29477'), flush=True); input()"
    started = [
        subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = sorted(process.stdout.readline().strip() for process in started if process.stdout)
    for process in started:
        process.communicate("\n")
    assert answers == (["False", "True"] if sys.platform == "linux" else ["True", "True"])
    assert not hosts(f"{FAR}:29477") and not hosts("no-such-host.invalid:29477")


def test_the_claim_to_host_outlives_exec() -> None:
    ask = (
        "import os, sys; from genfoundry.pipeline.launch import hosts; assert hosts('127.0.0.1:29478'); "
        "os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
    )
    with subprocess.Popen([sys.executable, "-c", ask], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as one:
        assert one.stdout is not None and one.stdout.readline() == "1\n"
        assert sys.platform != "linux" or not hosts("127.0.0.1:29478")
        one.communicate("\n")


def test_slurm_asks_srun_for_one_task_a_device() -> None:
    tasks = ["--nodes=2", "--ntasks-per-node=4", "--gpus-per-node=4", "--kill-on-bad-exit=1"]

    assert command(launcher="slurm", devices=4, nodes=2) == ["srun", *tasks, sys.executable, *STAGE]


def test_slurm_asks_for_no_gpu_where_none_is_used() -> None:
    found = command(launcher="slurm", devices=4, accelerator="cpu")

    assert found is not None and not [word for word in found if "gpus" in word]


@pytest.mark.parametrize("environ", [ELASTIC, SRUN, {"LOCAL_RANK": "1"}], ids=["torchrun", "srun", "lightning"])
@pytest.mark.parametrize("launcher", ["torchrun", "slurm", "ray"])
def test_what_was_launched_does_not_launch_again(environ: dict[str, str], launcher: str) -> None:
    assert command(environ, launcher=launcher, devices=4) is None


def test_ray_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install -e '.\[ray\]'"):
        command(launcher="ray", devices=2)


@pytest.mark.parametrize(
    ("execution", "named"),
    [
        ({"launcher": "slurm"}, "execution.devices"),
        ({"launcher": "torchrun", "devices": 2, "nodes": 2}, "main_address"),
    ],
)
def test_what_a_launcher_must_know_is_asked_for(execution: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        command(**execution)


@pytest.mark.parametrize(
    ("environ", "writes"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0", "WORLD_SIZE": "2"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1", "WORLD_SIZE": "2"}, False),
        (ELASTIC, False),
        # Local rank 0 of the second node: only RANK tells.
        (ELASTIC | {"RANK": "2", "LOCAL_RANK": "0"}, False),
        (ELASTIC | {"RANK": "0", "LOCAL_RANK": "0"}, True),
        (SRUN, False),
        (SRUN | {"SLURM_PROCID": "0"}, True),
        # A shell in an allocation, and Lightning's own second process in it.
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, True),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "LOCAL_RANK": "1"}, False),
    ],
)
def test_one_process_writes(environ: dict[str, str], writes: bool) -> None:
    assert rank_zero(environ) is writes


def test_the_world_is_what_was_started() -> None:
    assert started_world({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}) is None
    assert started_world(ELASTIC) == World(rank=3, size=4, local=2)
    assert started_world(SRUN) == World(rank=5, size=8, local=4)
