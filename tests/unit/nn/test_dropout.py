"""Dropout by key: torch's in distribution, the same mask however the batch is divided."""

import pytest
import torch
from torch import Tensor, nn

from genfoundry.nn.dropout import Dropout, key_dropout

ONES = torch.ones(64, 3, 500)
INDEX = torch.arange(64)


def keyed(p: float = 0.3, index: Tensor = INDEX, seed: int = 0, step: int = 0, layers: int = 1) -> nn.Sequential:
    model = nn.Sequential(*[Dropout(p) for _ in range(layers)])
    key_dropout(model, index, seed, step)
    return model


def test_its_rate_is_p_and_it_keeps_the_mean() -> None:
    out = keyed(0.3)(ONES)

    # 96,000 draws: one standard error of the rate is 0.0015.
    assert (out == 0).float().mean().item() == pytest.approx(0.3, abs=0.006)
    assert out.mean().item() == pytest.approx(1, abs=0.01)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.7])


def test_every_example_and_place_has_the_rate() -> None:
    dropped = (keyed(0.5)(ONES) == 0).float()

    # 1,500 draws an example: five standard errors are 0.065.
    assert (dropped.mean((1, 2)) - 0.5).abs().max() < 0.065


def test_the_mask_does_not_depend_on_the_batch() -> None:
    whole = keyed()(ONES)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

    for part in (order[:5], order[5:]):
        torch.testing.assert_close(keyed(index=INDEX[part])(ONES[part]), whole[part], rtol=0, atol=0)


@pytest.mark.parametrize("other", [{"seed": 1}, {"step": 1}, {"index": INDEX + 64}])
def test_another_seed_step_or_example_has_another_mask(other: dict[str, object]) -> None:
    same = ((keyed(0.5)(ONES) == 0) == (keyed(0.5, **other)(ONES) == 0)).float().mean().item()

    # Independent masks agree in half of the places.
    assert same == pytest.approx(0.5, abs=0.01)


def test_layers_have_masks_of_their_own() -> None:
    first, second = keyed(0.5, layers=2)

    assert ((first(ONES) == 0) == (second(ONES) == 0)).float().mean().item() == pytest.approx(0.5, abs=0.01)


def test_eval_and_p_0_change_nothing() -> None:
    assert keyed().eval()(ONES) is ONES
    assert keyed(0.0)(ONES) is ONES


def test_gradient_reaches_what_was_kept_alone() -> None:
    values = torch.full_like(ONES, 2.0).requires_grad_()
    out = keyed()(values)

    out.sum().backward()

    torch.testing.assert_close(values.grad, out.detach() / 2)


def test_a_dropped_infinity_is_gone() -> None:
    out = keyed()(torch.full_like(ONES, torch.inf))

    assert not out.isnan().any() and (out == 0).any()


def test_bfloat16_keeps_its_dtype_and_the_mean() -> None:
    out = keyed(0.1)(ONES.to(torch.bfloat16))

    assert out.dtype == torch.bfloat16
    assert out.float().mean().item() == pytest.approx(1, abs=0.006)


def test_without_an_index_torchs_generator_draws() -> None:
    model = keyed(0.5)
    key_dropout(model, None, 0, 0)

    masks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        masks.append(model(ONES) == 0)

    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
