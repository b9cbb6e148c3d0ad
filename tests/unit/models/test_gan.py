"""The adversarial family: penalties in closed form, who is moved by what, what the critic is shown."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genfoundry.config.sections.augment import Augment
from genfoundry.config.specs import GridSpec
from genfoundry.core.errors import ConfigError
from genfoundry.models import gan
from genfoundry.nn.contract import GridBatch, Requests, Step
from genfoundry.nn.normalisation import BatchNorm

SPEC = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"))
STEP = Step(number=3, total=10, seed=1)
NORMS = (nn.GroupNorm, BatchNorm)
AUGMENTED = Step(number=3, total=10, seed=1, augment=Augment(translate=0.4, cutout=0.4))


def make(spec: GridSpec = SPEC, **options: Any) -> gan.GAN:
    torch.manual_seed(0)
    return gan.build(gan.Config(**{"width": 8, "latent": 3, "blocks": 1, **options}), spec)


def batch_of(count: int = 6, first: int = 0, spec: GridSpec = SPEC) -> GridBatch:
    generator = torch.Generator().manual_seed(5)
    grid = torch.rand((first + count, spec.channels, *spec.shape), generator=generator)[first:] * 2 - 1
    index = torch.arange(first, first + count)
    return GridBatch(grid, index, {"label": index % 2})


class Paraboloid(nn.Module):
    """A critic known on paper: scale/2 of the squared norm, whose gradient is scale times the image."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor, labels_B: Tensor | None) -> Tensor:
        self.seen.append(images.detach().clone())
        return 0.5 * self.scale * images.square().flatten(1).sum(1)


def test_players_that_know_nothing_pay_log_2() -> None:
    model = make()
    nn.init.zeros_(model.critic.head.weight)

    for objective in ("critic", "generator"):
        assert model.loss(objective, batch_of(), STEP).total.item() == pytest.approx(math.log(2), abs=1e-6)


def test_the_losses_are_those_of_the_pairing_game() -> None:
    """log(1 + exp(-d)) of the difference d, real less generated, for the critic; of -d for the generator."""
    model = make(gamma=0)
    model.critic = critic = Paraboloid()
    losses = {objective: model.loss(objective, batch_of(), STEP).total.item() for objective in ("critic", "generator")}
    images, real, generated = critic.seen

    sizes = [0.35 * values.square().flatten(1).sum(1).double() for values in (*images.chunk(2), real, generated)]

    assert losses["critic"] == pytest.approx((1 + (sizes[1] - sizes[0]).exp()).log().mean().item(), rel=1e-5)
    assert losses["generator"] == pytest.approx((1 + (sizes[2] - sizes[3]).exp()).log().mean().item(), rel=1e-5)


def test_penalties_are_the_closed_form_and_pull_on_the_critic() -> None:
    """Gradients are scale * x: R1 is scale^2 of the mean squared norm of real images, R2 that of generated ones."""
    plain, penalised = (make(gamma=gamma) for gamma in (0.0, 3.0))
    losses = []
    for model in (plain, penalised):
        model.critic = Paraboloid()
        losses.append(model.loss("critic", batch_of(), STEP))
        losses[-1].total.backward()
    norms = [float(half.square().flatten(1).sum(1).mean()) for half in penalised.critic.seen[0].chunk(2)]

    assert losses[1].parts["r1"].item() == pytest.approx(0.49 * norms[0], rel=1e-5)
    assert losses[1].parts["r2"].item() == pytest.approx(0.49 * norms[1], rel=1e-5)
    more = (losses[1].total - losses[0].total).item()
    assert more == pytest.approx(1.5 * 0.49 * sum(norms), rel=1e-4)
    pull = (penalised.critic.scale.grad - plain.critic.scale.grad).item()
    assert pull == pytest.approx(1.5 * 2 * 0.7 * sum(norms), rel=1e-4)


def test_validation_sees_the_loss_of_training() -> None:
    model = make(gamma=2.0)
    trained = model.loss("critic", batch_of(), STEP)

    with torch.no_grad():
        seen = model.eval().loss("critic", batch_of(), STEP)

    assert not seen.total.requires_grad
    torch.testing.assert_close(seen.total, trained.total)
    assert trained.parts["r1"].item() > 0 and not trained.parts["r1"].requires_grad


def test_the_critic_s_loss_leaves_the_generator_alone() -> None:
    model = make(conditional=True)
    model.loss("critic", batch_of(), STEP).total.backward()

    assert all(parameter.grad is None for parameter in model.generator.parameters())
    assert set(map(id, model.losses()["critic"])).isdisjoint(map(id, model.losses()["generator"]))


def test_the_generator_s_loss_flows_through_a_frozen_critic() -> None:
    model = make(conditional=True)
    model.critic.requires_grad_(False)
    model.loss("generator", batch_of(), AUGMENTED).total.backward()

    assert all(parameter.grad is None for parameter in model.critic.parameters())
    assert model.generator.first.weight.grad.any() and model.generator.embed.weight.grad.any()


@pytest.mark.parametrize("objective", ["critic", "generator"])
def test_augmentation_changes_real_and_generated_images(objective: str) -> None:
    model = make()
    model.critic = critic = Paraboloid()
    for step in (STEP, AUGMENTED):
        model.loss(objective, batch_of(40), step)
    plain, changed = torch.cat(critic.seen).chunk(2)  # real images, then generated ones, of each step

    for before, after in zip(plain.chunk(2), changed.chunk(2), strict=True):
        assert (before != after).flatten(1).any(1).float().mean() > 0.9
    assert torch.equal(plain[:40], batch_of(40).grid)
    holes = [(half == 0).flatten(1) for half in changed.chunk(2)]
    assert not torch.equal(*holes)  # each side by its own draws: a shared hole would tell pairs apart


@pytest.mark.parametrize("objective", ["critic", "generator"])
def test_two_halves_of_an_augmented_batch_make_the_whole(objective: str) -> None:
    model = make(conditional=True)
    whole = model.loss(objective, batch_of(6), AUGMENTED).total
    halves = [model.loss(objective, batch_of(3, first), AUGMENTED).total for first in (0, 3)]

    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole)


def test_the_two_objectives_draw_other_latents() -> None:
    model = make()
    model.critic = critic = Paraboloid()
    for objective in ("critic", "generator"):
        model.loss(objective, batch_of(), STEP)

    assert not torch.equal(critic.seen[0].chunk(2)[1], critic.seen[2])


def test_labels_matter_to_both_players() -> None:
    model = make(conditional=True)
    seeds, images = torch.zeros(2, dtype=torch.int64), batch_of(1).grid.expand(2, -1, -1, -1)

    drawn = model.sample(Requests(seeds, {"label": torch.tensor([0, 1])}))
    logits = model.critic(images, torch.tensor([0, 1]))

    assert not torch.equal(drawn[0], drawn[1])
    assert logits[0] != logits[1]


def test_a_conditional_model_needs_labels() -> None:
    with pytest.raises(ConfigError, match="has no labels; set it to false"):
        make(GridSpec(channels=1, shape=(8, 8)), conditional=True)
    model = make(conditional=True)
    with pytest.raises(ConfigError, match="no labels were given"):
        model.loss("critic", batch_of()._replace(conditions={}), STEP)
    with pytest.raises(ConfigError, match="no labels were given"):
        model.sample(Requests(torch.arange(2)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(8, 8), (5, 5), (7, 12), (9, 16), (16, 40), (28, 28), (32, 32)])
def test_any_shape_is_drawn_and_judged(shape: tuple[int, int], channels: int) -> None:
    spec = GridSpec(channels=channels, shape=shape)
    model = make(spec)

    assert model.sample(Requests(torch.arange(2))).shape == (2, channels, *shape)
    for objective in model.losses():
        assert torch.isfinite(model.loss(objective, batch_of(2, spec=spec), STEP).total)


@pytest.mark.parametrize("normalisation", ["none", "group", "layer", "batch"])
def test_normalisation_is_the_generator_s_alone(normalisation: str) -> None:
    model = make(normalisation=normalisation)
    found = [any(isinstance(layer, NORMS) for layer in part.modules()) for part in (model.generator, model.critic)]

    assert found == [normalisation != "none", False]


def test_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="must be a multiple of 12"):
        gan.Config(width=8, group=12)


def test_truncation_scales_the_latents() -> None:
    model = make()
    seeds = torch.arange(4)
    latent_BZ = Requests(seeds).normal((3,))

    drawn = model.sample(Requests(seeds, options={"truncation": 0.5}))

    torch.testing.assert_close(drawn, model.generator(0.5 * latent_BZ, None).clamp(-1, 1))


def test_the_game_brings_samples_to_the_data() -> None:
    """Two constant images, one a label: after some rounds each label draws its own."""
    model = make(conditional=True, gamma=0.1)
    index = torch.arange(8)
    shades = torch.tensor([-0.8, 0.6])
    batch = GridBatch(shades[index % 2].view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous(), index, {"label": index % 2})
    optimizers = {
        name: torch.optim.Adam(parameters, lr=1e-2, betas=(0.0, 0.9)) for name, parameters in model.losses().items()
    }
    for number in range(100):
        for objective, optimizer in optimizers.items():
            model.zero_grad(set_to_none=True)
            model.loss(objective, batch, Step(number, 100, 0)).total.backward()
            optimizer.step()

    drawn = model.sample(Requests(torch.arange(20), {"label": torch.arange(20) % 2}))

    means = [drawn[label::2].mean().item() for label in (0, 1)]
    assert means == pytest.approx(shades.tolist(), abs=0.25)
