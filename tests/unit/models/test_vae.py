"""The variational autoencoder and the laws of its pixels."""

import math
from pathlib import Path

import pytest
import torch
from test_models import STEP, batch_of
from torch import Tensor, nn

from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError
from genfoundry.generation.sampling import protocol
from genfoundry.models import vae
from genfoundry.nn import pixels
from genfoundry.nn.blocks import ResidualBlock
from genfoundry.nn.contract import GridBatch, Requests
from genfoundry.nn.dropout import key_dropout

GRID = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))
LEVELS = torch.linspace(-1, 1, 256)
KINDS = ("logistic", "gaussian", "mixture")


def make(**options: object) -> vae.VAE:
    torch.manual_seed(3)
    return vae.build(vae.Config.model_validate({"width": 8, "latent": 3, **options}), GRID)


def numbers(law: nn.Module, height: int, width: int, spread: float = 0.7) -> Tensor:
    """What a decoder might say, equal for all pixels: float32 (1, R, H, W)."""
    one = spread * torch.randn(1, law.inputs, 1, 1, generator=torch.Generator().manual_seed(2))
    return one.expand(1, law.inputs, height, width)


@pytest.mark.parametrize("kind", KINDS)
def test_the_masses_of_all_levels_sum_to_one(kind: pixels.Kind) -> None:
    law = pixels.law(kind, 1, components=3)

    mass = (-law.nats(LEVELS.view(1, 1, 1, 256), numbers(law, 1, 256))).exp()

    assert mass.sum().item() == pytest.approx(1, abs=1e-4)


def test_the_masses_of_all_colours_sum_to_one_though_channels_depend_on_each_other() -> None:
    law = pixels.law("mixture", 2, components=3)
    every_pair = torch.stack([LEVELS[:, None].expand(256, 256), LEVELS[None].expand(256, 256)])[None]

    mass = (-law.nats(every_pair, numbers(law, 256, 256))).exp()[0]

    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    apart = mass.sum(1, keepdim=True) * mass.sum(0, keepdim=True)
    assert (mass - apart).abs().sum() > 0.05, "the channels are independent"


@pytest.mark.parametrize("kind", KINDS)
def test_draws_follow_the_masses(kind: pixels.Kind) -> None:
    law = pixels.law(kind, 1, components=3)
    side = 200
    uniforms = torch.rand(1, law.uniforms, side, side, generator=torch.Generator().manual_seed(4))

    drawn = law.draw(numbers(law, side, side), uniforms)
    found = torch.histc((drawn + 1) * 127.5, bins=16, min=-0.5, max=255.5) / side**2
    mass = (-law.nats(LEVELS.view(1, 1, 1, 256), numbers(law, 1, 256))).exp().view(16, 16).sum(1)

    assert (found - mass).abs().sum() / 2 < 0.02


def test_the_mean_of_a_mixture_is_that_of_its_draws() -> None:
    law = pixels.law("mixture", 3, components=4)
    side = 300
    raw = numbers(law, side, side, spread=0.3).clone().unflatten(1, (4, -1))
    raw[:, :, 4:7] -= 3  # small scales: nothing is cut off at the ends of the range
    raw = raw.flatten(1, 2)
    uniforms = torch.rand(1, law.uniforms, side, side, generator=torch.Generator().manual_seed(4))

    drawn = law.draw(raw, uniforms).mean((0, 2, 3))

    torch.testing.assert_close(drawn, law.mean(raw)[0, :, 0, 0], rtol=0, atol=5e-3)


@pytest.mark.parametrize("kind", ["logistic", "gaussian"])
def test_a_hopeless_guess_has_a_finite_price_and_a_gradient(kind: pixels.Kind) -> None:
    law = pixels.law(kind, 1, components=1)
    torch.nn.init.constant_(law.log_scale, -6.0)
    raw = torch.full((1, 1, 1, 3), 4.0, requires_grad=True)

    nats = law.nats(torch.tensor([-1.0, -0.9, 0.1]).view(1, 1, 1, 3), raw)
    nats.sum().backward()

    assert torch.isfinite(nats).all() and nats.min() > 100
    assert torch.isfinite(raw.grad).all() and (raw.grad > 1).all()


@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (7, 33), (15, 15), (3, 5)])
@pytest.mark.parametrize("likelihood", ["logistic", "mixture"])
def test_any_shape_and_colour(shape: tuple[int, int], likelihood: str) -> None:
    spec = GridSpec(channels=3, shape=shape)
    model = vae.build(vae.Config.model_validate({"width": 8, "likelihood": likelihood}), spec)
    grid = torch.rand(2, 3, *shape) * 2 - 1

    model.loss("loss", GridBatch(grid, torch.arange(2)), STEP).total.backward()

    assert model.sample(Requests(torch.arange(2), options={"draw": "sample"})).shape == grid.shape
    assert max(model.small[1:]) <= vae.SMALLEST_SIDE


def test_kl_is_the_closed_form() -> None:
    model = make()
    torch.nn.init.zeros_(model.to_latent.weight)
    with torch.no_grad():
        model.to_latent.bias.copy_(torch.tensor([0.5, 0.0, -1.0, math.log(4), 0.0, 0.0]))
    expected = 0.5 * ((0.25 + 4 - 1 - math.log(4)) + (0 + 1 - 1 - 0) + (1 + 1 - 1 - 0))

    assert model.loss("loss", batch_of(GRID), STEP).parts["kl"].item() == pytest.approx(expected, rel=1e-5)


def test_a_conditional_vae_draws_by_label() -> None:
    model = make(conditional=True)
    drawn = model.sample(Requests(torch.zeros(2, dtype=torch.int64), {"label": torch.tensor([0, 1])}))

    assert not torch.equal(drawn[0], drawn[1])
    with pytest.raises(ConfigError, match="no labels"):
        vae.build(vae.Config(conditional=True), GridSpec(channels=1, shape=(8, 8)))


def test_temperature_and_draw_are_heeded_and_part_of_the_generator() -> None:
    model = make().eval()
    seeds = torch.arange(4)
    with torch.inference_mode():
        cold = model.sample(Requests(seeds, options={"temperature": 1e-6}))
        mean, noisy, again = (
            model.sample(Requests(seeds, options={"draw": how})) for how in ("mean", "sample", "sample")
        )

    torch.testing.assert_close(cold[0], cold[1], rtol=0, atol=1e-4)
    assert (mean[0] - mean[1]).abs().max() > 1e-3
    assert (noisy - mean).abs().mean() > 0.1 and torch.equal(noisy, again)
    assert protocol(vae.Sampling(draw="sample", temperature=0.5), 8, Path()) == protocol(vae.Sampling(), 8, Path())


@pytest.mark.parametrize("norm", ["group", "batch", "layer"])
def test_the_normalisation_is_the_one_named(norm: str) -> None:
    names = {type(module).__name__ for module in make(norm=norm).modules() if "Norm" in type(module).__name__}

    assert names == {"BatchNorm" if norm == "batch" else "GroupNorm"}
    groups = {module.num_groups for module in make(norm=norm).modules() if isinstance(module, nn.GroupNorm)}
    assert groups == {"group": {8}, "batch": set(), "layer": {1}}[norm]


def test_dropout_acts_in_training_alone_and_is_keyed_by_example() -> None:
    model = make(dropout=0.5)
    for block in model.units():
        torch.nn.init.ones_(block.conv_2.weight)
    batch = batch_of(GRID)

    def loss(number: int) -> float:
        key_dropout(model, batch.index, 1, number)
        return model.loss("loss", batch, STEP).total.item()

    assert loss(0) != loss(1) and loss(1) == loss(1)
    model.eval()
    assert loss(0) == loss(1)


def test_units_are_the_residual_blocks() -> None:
    model = make(blocks=2)

    assert len(model.units()) == 2 * (2 * 2) and all(isinstance(unit, ResidualBlock) for unit in model.units())
