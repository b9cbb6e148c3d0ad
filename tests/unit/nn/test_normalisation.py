"""Batch statistics: torch's own on one process, those of the global batch on two."""

import pytest
import torch
from processes import run_processes
from torch import Tensor, distributed, nn

from genfoundry.nn.normalisation import BatchNorm, norm

GRID = torch.randn(6, 5, 4, 3, generator=torch.Generator().manual_seed(3)) * 2 + 7
"""A mean far from zero: where the squares are subtracted carelessly, digits go."""


def shaken(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)
    return layer


def trace(layer: nn.Module, grid: Tensor) -> dict[str, Tensor]:
    """Output, gradients and running statistics after two steps, and the output in eval mode."""
    grid = grid.clone().requires_grad_()
    layer(grid)
    out = layer(grid)
    # An uneven loss: the gradient of a plain sum through a normalisation is zero.
    (out * torch.linspace(-1, 1, out[0].numel()).view(out[0].shape)).square().mean().backward()
    state = {name: layer.get_buffer(name).clone() for name in ("running_mean", "running_var")}
    gradients = {"weight_grad": layer.weight.grad, "bias_grad": layer.bias.grad, "grid_grad": grid.grad}
    return {"out": out.detach(), **gradients, **state, "eval": layer.eval()(grid).detach()}


def test_on_one_process_it_is_torchs_own() -> None:
    mine, theirs = trace(shaken(BatchNorm(5)), GRID), trace(shaken(nn.BatchNorm2d(5)), GRID)

    for name, value in theirs.items():
        torch.testing.assert_close(mine[name], value, rtol=1e-5, atol=1e-6, msg=name)


def _share(rank: int, world: int) -> dict[str, Tensor]:
    """What a rank sees of the batch, its gradients averaged over ranks as data parallel training does."""
    found = trace(shaken(BatchNorm(5)), GRID[rank::world])
    for name in ("weight_grad", "bias_grad"):
        distributed.all_reduce(found[name])
        found[name] /= world
    return found


def test_two_processes_have_the_statistics_of_one() -> None:
    alone = trace(shaken(BatchNorm(5)), GRID)

    for rank, found in enumerate(run_processes(_share, 2)):
        # The mean over half the batch weighs each example's gradient twice.
        expected = alone | {name: alone[name][rank::2] for name in ("out", "eval")}
        expected["grid_grad"] = alone["grid_grad"][rank::2] * 2
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=f"{name} of rank {rank}")


def test_autocast_keeps_the_grids_dtype_and_float32_statistics() -> None:
    layer = shaken(BatchNorm(5))
    trace(layer, GRID)
    exact = layer.eval()(GRID)

    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(GRID.to(torch.bfloat16))

    assert layer.running_var.dtype == torch.float32
    # bfloat16 has 8 bits: the grid itself is off by up to 2**-9 of 16.
    torch.testing.assert_close(rounded.float(), exact, rtol=2**-7, atol=0.1)


@pytest.mark.parametrize(("kind", "axes"), [("layer", (1, 2, 3)), ("batch", (0, 2, 3))])
def test_each_kind_has_mean_0_and_variance_1_over_its_axes(kind: str, axes: tuple[int, ...]) -> None:
    out = norm(kind, 5)(GRID)

    torch.testing.assert_close(out.mean(axes), torch.zeros_like(out.mean(axes)), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(axes, correction=0), torch.ones_like(out.mean(axes)), atol=1e-3, rtol=0)


@pytest.mark.parametrize(("width", "groups"), [(16, 8), (12, 4), (6, 2), (5, 1)])
def test_group_takes_at_most_8_groups_that_divide(width: int, groups: int) -> None:
    assert norm("group", width).num_groups == groups
