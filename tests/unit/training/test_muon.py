"""Muon against torch's own, and against what its name promises."""

import copy

import pytest
import torch
from torch import nn

from genfoundry.training import muon
from genfoundry.training.muon import Muon, orthogonalise

SHAPES = [(8, 8), (24, 8), (8, 24), (24, 8), (5, 7)]


def matrices(seed: int = 0) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def move(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], steps: range) -> None:
    """Steps on gradients that are a function of the step alone."""
    for step in steps:
        for parameter, gradient in zip(parameters, matrices(100 + step), strict=True):
            parameter.grad = gradient.detach() * 10.0 ** (step - 2)
        optimizer.step()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_it_moves_as_torch_s_own_does(weight_decay: float, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "working_type", lambda device: kind)
    mine, theirs = matrices(), matrices()

    move(Muon(mine, lr=2e-3, momentum=0.9, weight_decay=weight_decay), mine, range(4))
    move(torch.optim.Muon(theirs, lr=2e-3, momentum=0.9, weight_decay=weight_decay), theirs, range(4))

    for one, other, start in zip(mine, theirs, matrices(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=0)
        assert (one - start).abs().max() > 1e-3


@pytest.mark.parametrize("steps", [3, 5])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_singular_values_come_near_one_and_vectors_stay(scale: float, steps: int) -> None:
    matrices_NRC = torch.randn((3, 10, 16), generator=torch.Generator().manual_seed(1)) * scale
    left, _, right = torch.linalg.svd(matrices_NRC, full_matrices=False)

    found = left.mT @ orthogonalise(matrices_NRC, steps) @ right.mT

    values = found.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(found - torch.diag_embed(values), torch.zeros(3, 10, 10), atol=1e-4, rtol=0)


def test_a_matrix_moves_as_it_would_alone() -> None:
    together, alone = matrices(), matrices()
    move(Muon(together, lr=0.1), together, range(3))
    for place, parameter in enumerate(alone):
        optimizer = Muon([parameter], lr=0.1)
        for step in range(3):
            parameter.grad = matrices(100 + step)[place].detach() * 10.0 ** (step - 2)
            optimizer.step()

    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=0)  # sums of another order, in bfloat16


def test_equal_runs_are_equal_bytes_also_through_a_saved_state() -> None:
    straight, resumed = matrices(), matrices()
    move(Muon(straight, weight_decay=0.1), straight, range(6))
    first = Muon(resumed, weight_decay=0.1)
    move(first, resumed, range(3))
    second = Muon(resumed)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    move(second, resumed, range(3, 6))

    assert all(torch.equal(one, other) for one, other in zip(straight, resumed, strict=True))


def test_no_gradient_moves_nothing() -> None:
    parameter, idle = matrices()[:2]
    optimizer = Muon([parameter, idle])
    parameter.grad = torch.zeros_like(parameter)
    before = parameter.detach().clone(), idle.detach().clone()
    optimizer.step()

    assert torch.equal(parameter, before[0]) and torch.equal(idle, before[1])


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs matrices, got a parameter of shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])
