"""Divided weights: the numbers of one process, and a state that any number of processes takes up."""

import copy
from typing import Any

import pytest
import torch
from processes import run_processes
from torch import Tensor, nn

from genfoundry.nn.contract import Model
from genfoundry.training.distributed import clip, divided_as, full_state, load_state, reshard, shard, whole

INPUT = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))


class Small(Model):
    """Two units, and weights of the root that its loss uses after its forward pass; 7 rows don't divide by 2."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6)])
        self.head, self.scale = nn.Linear(6, 7), nn.Parameter(torch.ones(1))

    def units(self) -> list[nn.Module]:
        return list(self.blocks)

    def forward(self, values: Tensor) -> Tensor:
        for block in self.blocks:
            values = torch.tanh(block(values))
        return self.head(values)

    def loss(self, objective: str, batch: Any, step: Any) -> Tensor:
        return (self(batch) * self.scale).square().mean()


def fresh() -> tuple[Small, torch.optim.AdamW]:
    torch.manual_seed(0)
    model = Small()
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def optimise(model: Small, optimizer: torch.optim.Optimizer, batch: Tensor, limit: float) -> Tensor:
    optimizer.zero_grad()
    model.loss("loss", batch, None).backward()
    norm = clip(model.parameters(), limit)
    optimizer.step()
    return norm.detach()


def _divided(rank: int, world: int, state: dict[str, Any]) -> dict[str, Any]:
    """Go on from a state with divided weights, averaging as the loop does; validate in between."""
    # What spawn hands over lies in memory that both processes write to; a checkpoint is read by each one.
    state = copy.deepcopy(state)
    model, _ = fresh()
    shard(model, torch.distributed.init_device_mesh("cpu", (world,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    load_state(model, [optimizer], state["model"], state["optimizers"])
    average = divided_as(state["model"], model)
    with torch.no_grad():
        validation = model.loss("loss", INPUT, None)
    reshard(model)
    norms = [optimise(model, optimizer, INPUT[rank::world], limit) for limit in (0.01, 0)]
    for name, tensor in model.state_dict().items():
        average[name].lerp_(tensor, 0.1)
    held = sum(parameter.to_local().numel() for parameter in model.parameters())
    found = {"norms": norms, "average": whole(average), "validation": validation, "held": held}
    return found | full_state(model, [optimizer])


def test_divided_weights_go_on_as_one_process_would() -> None:
    model, optimizer = fresh()
    optimise(model, optimizer, INPUT, 1)
    state = copy.deepcopy(full_state(model, [optimizer]))
    pair = run_processes(_divided, 2, state)

    norms = [optimise(model, optimizer, INPUT, limit) for limit in (0.01, 0)]
    expected = full_state(model, [optimizer])
    average = {name: state["model"][name].lerp(tensor, 0.1) for name, tensor in expected["model"].items()}

    for found in pair:
        torch.testing.assert_close(found["norms"], norms, rtol=1e-5, atol=0)
        torch.testing.assert_close(found["model"], expected["model"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found["average"], average, rtol=1e-5, atol=1e-6)
        assert found["optimizers"][0]["param_groups"] == expected["optimizers"][0]["param_groups"]
        torch.testing.assert_close(
            found["optimizers"][0]["state"], expected["optimizers"][0]["state"], rtol=1e-4, atol=1e-7
        )
    size = sum(parameter.numel() for parameter in model.parameters())
    assert sum(found["held"] for found in pair) == size, "each weight has one place"
    restored, other = fresh()
    load_state(restored, [other], pair[0]["model"], pair[0]["optimizers"])
    torch.testing.assert_close(
        optimise(restored, other, INPUT, 0), optimise(model, optimizer, INPUT, 0), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("limit", [0.0, 0.5, 1e6])
def test_clip_is_torchs_own_on_one_process(limit: float) -> None:
    models = [fresh()[0] for _ in range(2)]
    for model in models:
        model.loss("loss", INPUT, None).backward()
    mine = clip(models[0].parameters(), limit)
    theirs = nn.utils.clip_grad_norm_(models[1].parameters(), limit or float("inf"))

    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    for first, second in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=0, atol=0)


def test_clip_passes_over_parameters_without_gradient() -> None:
    model, _ = fresh()
    model.head(INPUT).sum().backward()

    assert clip(model.parameters(), 1) > 0
    assert model.blocks[0].weight.grad is None
