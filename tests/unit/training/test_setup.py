"""Devices and strategies: what is asked for, checked against what there is."""

from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.environments import SLURMEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy

from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.training import Training
from genfoundry.core.errors import ConfigError
from genfoundry.training.setup import Devices, choose_devices, strategy

ELASTIC = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}
PAIR = Devices("cpu", 2, 2)


@pytest.fixture()
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    def pretend(count: int) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr("os.cpu_count", lambda: 4)

    return pretend


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (0, {}, Devices("cpu", 1, 1)),
        (0, {"devices": 2}, Devices("cpu", 2, 2)),
        (8, {}, Devices("gpu", 8, 8)),
        (8, {"devices": 2, "nodes": 3}, Devices("gpu", 2, 6)),
        (8, {"accelerator": "cpu"}, Devices("cpu", 1, 1)),
    ],
)
def test_devices_are_those_asked_for_or_all(gpus: Any, there: int, asked: dict[str, Any], found: Devices) -> None:
    gpus(there)

    assert choose_devices(Execution(**asked), {}) == found


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        (0, {"accelerator": "gpu"}, "sees no GPU"),
        (2, {"devices": 3}, "is 3, but torch sees 2 GPUs"),
        (0, {"devices": 5}, "is 5, but there are 4 cores"),
    ],
)
def test_more_devices_than_there_are_is_refused(gpus: Any, there: int, asked: dict[str, Any], said: str) -> None:
    gpus(there)

    with pytest.raises(ConfigError, match=said):
        choose_devices(Execution(**asked), {})


def test_what_torchrun_started_counts(gpus: Any) -> None:
    gpus(2)

    assert choose_devices(Execution(nodes=2), ELASTIC) == Devices("gpu", 2, 4)


@pytest.mark.parametrize(("asked", "named"), [({"nodes": 2, "devices": 4}, "devices"), ({"nodes": 1}, "nodes")])
def test_other_processes_than_the_settings_say_are_refused(gpus: Any, asked: dict[str, Any], named: str) -> None:
    gpus(8)

    with pytest.raises(ConfigError, match=f"execution.{named}.*set it to 2"):
        choose_devices(Execution(**asked), ELASTIC)


def test_one_process_takes_lightnings_trivial_strategy() -> None:
    for name in ("auto", "single", "ddp", "fsdp"):
        assert strategy(Training(), Execution(strategy=name), Devices("cpu", 1, 1), 1) == "auto"


@pytest.mark.parametrize(("objectives", "unused"), [(1, False), (2, True)])
def test_only_several_objectives_search_for_unused_parameters(objectives: int, unused: bool) -> None:
    found = strategy(Training(), Execution(), PAIR, objectives)

    assert isinstance(found, DDPStrategy)
    assert found._ddp_kwargs["find_unused_parameters"] is unused


def test_fsdp_divides_over_all_processes() -> None:
    found = strategy(Training(), Execution(strategy="fsdp"), Devices("cpu", 2, 6), 1)

    assert isinstance(found, ModelParallelStrategy)
    assert (found._data_parallel_size, found._tensor_parallel_size) == (6, 1)


def test_a_step_of_srun_is_told_to_lightning(monkeypatch: pytest.MonkeyPatch) -> None:
    step = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    for name, value in step.items():
        monkeypatch.setenv(name, value)

    found = strategy(Training(), Execution(), PAIR, 1)

    assert isinstance(found, DDPStrategy) and isinstance(found.cluster_environment, SLURMEnvironment)
    assert not found.cluster_environment.auto_requeue


@pytest.mark.parametrize(
    ("training", "execution", "objectives", "said"),
    [
        ({}, {"strategy": "single"}, 1, "there are 2 processes"),
        ({"optimizer": {"name": "muon"}}, {"strategy": "fsdp"}, 1, "Muon"),
        ({"optimizers": {"loss": {"name": "muon"}}}, {"strategy": "fsdp"}, 1, "Muon"),
        ({}, {"strategy": "fsdp"}, 2, "2 losses"),
        ({"precision": "16-mixed"}, {"strategy": "fsdp"}, 1, "16-mixed"),
    ],
)
def test_what_does_not_go_together_is_refused(
    training: dict[str, Any], execution: dict[str, Any], objectives: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        strategy(Training(**training), Execution(**execution), PAIR, objectives)
