"""Diffusion: identities of EDM, samplers against the law whose denoiser is known, guidance and its label dropout."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genfoundry.config import params as settings
from genfoundry.config.params import read_yaml
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError
from genfoundry.models import diffusion
from genfoundry.nn import samplers
from genfoundry.nn.contract import GridBatch, Requests, Step
from genfoundry.nn.noise import normal
from genfoundry.nn.samplers import Sampler, ancestral, ddim, euler, heun, sigma_steps

PRESET = Path(__file__).resolve().parents[3] / "presets/cifar10-diffusion.yaml"
GRID = GridSpec(channels=1, shape=(8, 8), labels=("a", "b", "c"))
MEAN, DEVIATION = 0.3, 0.5
STEP = Step(number=3, total=10, seed=1)


def ideal(x: Tensor, sigma: Tensor) -> Tensor:
    """Mean of x0 given x where x0 is N(MEAN, DEVIATION^2)."""
    return (DEVIATION**2 * x + sigma**2 * MEAN) / (DEVIATION**2 + sigma**2)


def keyed(count: int) -> samplers.Noise:
    index = torch.arange(count)
    return lambda step: normal(index, (7, step), ()).double()


def run(sampler: Sampler, steps: int, count: int) -> tuple[Tensor, Tensor]:
    """What a sampler makes of so many starts, and what the exact flow makes of them."""
    sigmas = sigma_steps(steps, 0.002, 80, 7).double()
    start = MEAN + (sigmas[0] ** 2 + DEVIATION**2).sqrt() * normal(torch.arange(count), (5,), ()).double()
    exact = MEAN + (start - MEAN) * DEVIATION / (sigmas[0] ** 2 + DEVIATION**2).sqrt()
    return sampler(ideal, start, sigmas, keyed(count)), exact


@pytest.mark.parametrize(
    "sampler",
    [heun, euler, ddim, ancestral, partial(heun, churn=40), partial(euler, churn=40), partial(ddim, eta=0.5)],
    ids=["heun", "euler", "ddim", "ancestral", "heun-churn", "euler-churn", "ddim-eta"],
)
def test_a_sampler_with_the_exact_denoiser_draws_the_law(sampler: Sampler) -> None:
    count = 20_000
    found, _ = run(sampler, 400, count)

    assert found.mean().item() == pytest.approx(MEAN, abs=4 * DEVIATION / math.sqrt(count))
    # Four errors of sampling, and 1 % for the 400 steps.
    assert found.std().item() == pytest.approx(DEVIATION, rel=4 / math.sqrt(2 * count) + 0.01)


@pytest.mark.parametrize(("sampler", "gain"), [(heun, 4), (euler, 2), (ddim, 2)])
def test_the_error_falls_with_the_order_of_the_sampler(sampler: Sampler, gain: int) -> None:
    errors = []
    for steps in (64, 128):
        found, exact = run(sampler, steps, 100)
        errors.append((found - exact).abs().max().item())

    assert errors[0] / errors[1] == pytest.approx(gain, rel=0.1)


def test_ddim_without_noise_is_euler_in_sigma() -> None:
    (first, _), (second, _) = run(ddim, 20, 50), run(euler, 20, 50)

    torch.testing.assert_close(first, second)


def test_ancestral_draws_from_the_posterior() -> None:
    """Of one step from sigma to s: q(x_s | x, x0) has variance s^2 (sigma^2 - s^2) / sigma^2 (DDPM, equation 7)."""
    sigma, s, count = 2.0, 0.7, 20_000
    x0, x = torch.full((count,), 0.4), torch.full((count,), 1.5)
    found = ancestral(lambda x, sigma: x0, x, torch.tensor([sigma, s]), lambda step: keyed(count)(step).float())
    mean = 0.4 + (s / sigma) ** 2 * (1.5 - 0.4)
    variance = s**2 * (sigma**2 - s**2) / sigma**2

    assert found.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / count))
    assert found.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / count))


@pytest.mark.parametrize("sampler", [ancestral, partial(heun, churn=10), partial(euler, churn=10)])
def test_each_step_has_noise_of_its_own(sampler: Sampler) -> None:
    asked: list[int] = []

    def noise(step: int) -> Tensor:
        asked.append(step)
        return torch.zeros(2)

    sampler(ideal, torch.ones(2), sigma_steps(5, 0.1, 10, 7), noise)

    assert asked == sorted(set(asked)) and len(asked) >= 4


def test_noise_levels_are_equation_5() -> None:
    sigmas = sigma_steps(18, 0.002, 80, 7)
    third = (80 ** (1 / 7) + 2 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7

    assert len(sigmas) == 19 and sigmas[-1] == 0
    assert [sigmas[0].item(), sigmas[2].item(), sigmas[17].item()] == pytest.approx([80, third, 0.002], rel=1e-6)
    assert sigma_steps(1, 0.002, 80, 7).tolist() == [80, 0]


def test_preconditioning_is_table_1() -> None:
    skip, out, into, noise = diffusion.preconditioning(torch.tensor([0.5, 1.2]), 0.5)

    assert skip.tolist() == pytest.approx([0.5, 0.25 / 1.69])
    assert out.tolist() == pytest.approx([0.5 / math.sqrt(2), 1.2 * 0.5 / 1.3])
    assert into.tolist() == pytest.approx([math.sqrt(2), 1 / 1.3])
    assert noise.tolist() == pytest.approx([math.log(0.5) / 4, math.log(1.2) / 4])


def test_the_loss_weight_undoes_the_scale_of_the_output() -> None:
    sigma = torch.tensor([0.002, 0.5, 80])

    assert diffusion.loss_weight(torch.tensor(1.2), 0.5).item() == pytest.approx(1.69 / 0.36)
    torch.testing.assert_close(
        diffusion.loss_weight(sigma, 0.5) * diffusion.preconditioning(sigma, 0.5).out ** 2, torch.ones(3)
    )


def make(spec: GridSpec = GRID, **options: object) -> diffusion.Diffusion:
    """A small model whose output depends on all that goes in."""
    torch.manual_seed(0)
    model = diffusion.build(diffusion.Config(width=8, **options), spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def batch_of(spec: GridSpec, count: int, deviation: float = 0.5) -> GridBatch:
    index = torch.arange(count)
    grid = deviation * normal(index, (9,), (spec.channels, *spec.shape))
    return GridBatch(grid, index, {"label": index % 3} if spec.labels else {})


def test_a_fresh_model_pays_one_at_every_noise_level() -> None:
    """With F = 0 the denoiser is c_skip x, the best linear one for data of deviation sigma_data: its loss is 1."""
    for mean in (-4.0, 0.0, 3.0):
        config = diffusion.Config(width=8, noise_mean=mean, noise_deviation=1e-3)
        loss = diffusion.build(config, GRID).loss("loss", batch_of(GRID, 500), STEP)

        assert loss.total.item() == pytest.approx(1, abs=4 * math.sqrt(2 / (500 * 64)))


def test_noise_levels_of_training_are_log_normal() -> None:
    model, seen = make(noise_mean=-1.0, noise_deviation=0.7), []
    model.denoise = lambda x, sigma, labels: seen.append(sigma) or x  # type: ignore[method-assign]
    model.loss("loss", batch_of(GRID, 4000), STEP)
    logarithm = seen[0].log()

    assert logarithm.mean().item() == pytest.approx(-1.0, abs=4 * 0.7 / math.sqrt(4000))
    assert logarithm.std().item() == pytest.approx(0.7, rel=4 / math.sqrt(8000))


def test_labels_are_left_out_at_the_named_rate_by_step_and_example() -> None:
    model, seen = make(conditional=True, label_dropout=0.2), []
    model.denoise = lambda x, sigma, labels: seen.append(labels) or x  # type: ignore[method-assign]
    batch, later = batch_of(GRID, 4000), Step(number=4, total=10, seed=1)
    for rows, step in ((slice(None), STEP), (slice(5, 50), STEP), (slice(None), later)):
        model.loss("loss", GridBatch(batch.grid[rows], batch.index[rows], {"label": batch.labels[rows]}), step)
    none = seen[0] == 3

    assert none.float().mean().item() == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 4000))
    assert torch.equal(seen[0][~none], batch.labels[~none])
    assert torch.equal(seen[1], seen[0][5:50])
    assert not torch.equal(seen[2], seen[0])


def test_guidance_goes_from_no_label_through_the_label_and_beyond() -> None:
    model, labels = make(conditional=True), torch.tensor([0, 1, 2, 1])
    x, sigma = torch.randn(4, 1, 8, 8), torch.tensor(0.7)
    with_label = model.denoise(x, sigma.expand(4), labels)
    without = model.denoise(x, sigma.expand(4), torch.full((4,), 3))

    def guided(weight: float) -> Tensor:
        return model._denoiser(labels, weight)(x, sigma)

    assert not torch.allclose(with_label, without, atol=1e-3)
    torch.testing.assert_close(guided(1), with_label)
    torch.testing.assert_close(guided(1 + 1e-7), with_label)
    torch.testing.assert_close(guided(0), without)
    torch.testing.assert_close(guided(3), without + 3 * (with_label - without))


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "heun", "guidance": 2.0},
        {"sampler": "heun", "churn": 4.0},
        {"sampler": "euler"},
        {"sampler": "ddim", "eta": 0.5},
        {"sampler": "ancestral"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_sample_depends_on_its_seed_alone_by_every_sampler(options: dict[str, object]) -> None:
    model, options = make(conditional=True), {"steps": 4, **options}
    with torch.inference_mode():
        whole = model.sample(Requests(torch.arange(5), {"label": torch.arange(5) % 3}, None, options))
        part = model.sample(Requests(torch.tensor([3]), {"label": torch.tensor([0])}, None, options))

    torch.testing.assert_close(part[0], whole[3], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(whole[0], whole[3], atol=1e-2)


def test_fresh_noise_of_a_step_is_not_that_of_the_start() -> None:
    model, seeds = make(), torch.arange(3)
    drawn: list[Tensor] = []
    requests = Requests(seeds, {}, None, {"steps": 4, "sampler": "ancestral"})
    plain: Callable[..., Tensor] = Requests.normal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Requests, "normal", lambda self, *keys: drawn.append(plain(self, *keys)) or drawn[-1])
        model.sample(requests)

    assert len(drawn) == 4
    assert len({tensor.numpy().tobytes() for tensor in drawn}) == 4


@pytest.mark.parametrize(
    "spec",
    [
        GridSpec(channels=1, shape=(28, 28)),
        GridSpec(channels=3, shape=(32, 32), range=(0.0, 1.0)),
        GridSpec(channels=3, shape=(9, 7)),
        GridSpec(channels=1, shape=(4, 20), range=(0.0, 255.0)),
        GridSpec(channels=2, shape=(3, 1)),
    ],
    ids=lambda spec: "x".join(map(str, (spec.channels, *spec.shape))),
)
def test_images_of_any_shape_and_range(spec: GridSpec) -> None:
    model = make(spec, blocks=2, norm="layer", dropout=0.1)
    low, high = spec.range
    middle = GridBatch(torch.full((2, spec.channels, *spec.shape), (low + high) / 2), torch.arange(2))
    seen: list[Tensor] = []
    drawn = model.sample(Requests(torch.arange(2), {}, None, {"steps": 3}))
    model.denoise = lambda x, sigma, labels: seen.append(x / sigma.view(-1, 1, 1, 1)) or x  # type: ignore[method-assign]
    model.loss("loss", middle, STEP)

    assert drawn.shape == (2, spec.channels, *spec.shape)
    assert drawn.min() >= low and drawn.max() <= high and drawn.std() > 0.05 * (high - low)
    # The middle of any range is 0 to the denoiser: what is left is the noise.
    torch.testing.assert_close(seen[0], STEP.normal(middle, drawn.shape[1:], 2), rtol=1e-4, atol=1e-4)


def test_units_are_the_blocks_with_and_without_attention() -> None:
    some = make(GridSpec(channels=1, shape=(16, 16)), attention=8).units()

    assert len(some) == 6  # three levels, one block on each side
    assert sum(isinstance(unit.attention, diffusion.Attention) for unit in some) == 4


def test_what_does_not_fit_together_is_refused() -> None:
    seeds = torch.arange(2)
    with pytest.raises(ConfigError, match=r"sigma_min 2.0 is not below sigma_max 1.0"):
        settings.parse(diffusion.Sampling, {"sigma_min": 2, "sigma_max": 1}, "sampling")
    with pytest.raises(ConfigError, match="no labels; set it to false"):
        diffusion.build(diffusion.Config(conditional=True), GridSpec(channels=1, shape=(8, 8)))
    with pytest.raises(ConfigError, match="no labels were given"):
        make(conditional=True).sample(Requests(seeds))
    for options in ({}, {"conditional": True, "label_dropout": 0.0}):
        with pytest.raises(ConfigError, match=r"sampling.guidance is 2.0"):
            make(**options).sample(Requests(seeds, {"label": seeds}, None, {"guidance": 2.0}))


def test_the_cifar10_preset_is_a_pair_of_blocks_of_the_size_it_says() -> None:
    tree = read_yaml(PRESET)
    options = tree["models"]["cifar10-diffusion"]["options"]
    spec = GridSpec(channels=3, shape=(32, 32), labels=tuple("0123456789"))
    built = diffusion.build(diffusion.Config.model_validate(options), spec)

    assert tree.keys() == {"datasets", "models"}
    assert sum(parameter.numel() for parameter in built.parameters()) == pytest.approx(1.02e6, rel=0.01)
