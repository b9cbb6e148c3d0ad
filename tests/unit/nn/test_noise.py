import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from genfoundry.nn.noise import normal, uniform


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.lists(st.integers(0, 2**50), min_size=1, max_size=40))
def test_noise_depends_on_the_example_and_not_on_its_batch(seed: int, step: int, examples: list[int]) -> None:
    index = torch.tensor(examples)
    whole = normal(index, (seed, step, 0), (3, 5))

    for place, example in enumerate(examples):
        assert torch.equal(normal(torch.tensor([example]), (seed, step, 0), (3, 5))[0], whole[place])


def test_normals_have_the_moments_of_the_normal_law() -> None:
    draws = normal(torch.arange(4000), (1, 2, 3), (250,)).double()

    # A million draws: five standard errors of each moment.
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((draws**power).mean().item() - moment) < 5 * (variance / 1e6) ** 0.5


def test_uniforms_fill_their_cells_evenly() -> None:
    draws = uniform(torch.arange(1000), (5,), (1000,)).numpy().ravel()
    counts = np.bincount((draws * 100).astype(int), minlength=100)

    assert draws.min() >= 0 and draws.max() < 1
    # Chi-square with 99 degrees of freedom: mean 99, deviation 14.
    assert ((counts - 1e4) ** 2 / 1e4).sum() < 99 + 6 * 14


def test_neighbouring_keys_and_examples_are_uncorrelated() -> None:
    index = torch.arange(1000)
    one, other = normal(index, (1, 7, 0), (1000,)), normal(index, (1, 8, 0), (1000,))

    for product in (one * other, one[:, 1:] * one[:, :-1], one[1:] * one[:-1]):
        assert abs(product.mean().item()) < 5e-3
