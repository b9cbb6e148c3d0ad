"""The contract test: every file under models/ keeps it, also the ones to come."""

import copy
import math
from pathlib import Path

import pytest
import torch
from trainline import killed_after, outputs, tiny, train

from genfoundry.config.conditions import Text
from genfoundry.config.specs import DataSpec, GridSpec, TokenSpec
from genfoundry.core import parts
from genfoundry.core.errors import ConfigError
from genfoundry.models import transformer
from genfoundry.nn.contract import Batch, GridBatch, Latent, Likelihood, Model, Requests, Step, TokenBatch
from genfoundry.training.steps import Averager

GRID = GridSpec(channels=1, shape=(8, 8), labels=("a", "b"), conditions={"caption": Text(length=8)})
CAPTIONS = GRID.conditions["caption"]
TOKENS = TokenSpec(vocab_size=11)
LABELLED = TokenSpec(vocab_size=11, labels=("a", "b"))
FAMILIES = parts.names("models")
SMALL = {
    "diffusion": {"width": 8},
    "gan": {"width": 8, "latent": 3},
    "vae": {"width": 8, "latent": 3},
    "transformer": {"width": 16, "layers": 2, "heads": 2, "context": 12},
    "rnn": {"width": 16, "layers": 2, "context": 12},
}
"""Options that make a family small; a family without an entry is tested with its defaults."""


def spec_of(family: str) -> DataSpec:
    module = parts.load("models", family)
    for spec in (GRID, TOKENS):
        try:
            module.build(module.Config(**SMALL.get(family, {})), spec)
        except ConfigError:
            continue
        return spec
    raise AssertionError(f"{family} builds from neither spec")


def make(family: str) -> tuple[Model, DataSpec]:
    module, spec = parts.load("models", family), spec_of(family)
    torch.manual_seed(3)
    return module.build(module.Config(**SMALL.get(family, {})), spec), spec


def conditions_of(labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Labels, and captions that say the same."""
    captions = ["bright" if label else "dark" for label in labels.tolist()]
    return {"label": labels, "caption": torch.from_numpy(CAPTIONS.encode("caption", captions))}


def batch_of(spec: DataSpec, count: int = 6, first: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(5)
    index = torch.arange(first, first + count)
    if isinstance(spec, GridSpec):
        rows = torch.rand((first + count, 1, 8, 1), generator=generator)[first:] * 2 - 1
        grid = rows.expand(-1, 1, 8, 8).contiguous()
        return GridBatch(grid, index, conditions_of(index % 2))
    tokens = torch.randint(1, 11, (first + count, 9), generator=generator)[first:]
    return TokenBatch(tokens, torch.ones(tokens.shape), index)


STEP = Step(number=3, total=10, seed=1)
CONDITIONAL = [name for name in FAMILIES if "conditional" in parts.load("models", name).Config.model_fields]


def shaken(model: Model) -> Model:
    """The model with noise on its weights: many start at zero, where neither seeds nor labels show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_the_other_spec_is_refused_by_name(family: str) -> None:
    module = parts.load("models", family)
    other = TOKENS if spec_of(family) is GRID else GRID

    with pytest.raises(ConfigError, match=f"model {family}: needs"):
        module.build(module.Config(), other)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_reaches_every_parameter(family: str) -> None:
    model, spec = make(family)
    seen: set[int] = set()
    for _ in range(4):  # zeros at the start (identity blocks, uniform first guess) let gradient through step by step
        for objective, parameters in model.losses().items():
            model.zero_grad(set_to_none=True)
            model.loss(objective, batch_of(spec), STEP).total.backward()
            seen |= {id(p) for p in parameters if p.grad is not None and torch.isfinite(p.grad).all() and p.grad.any()}
            with torch.no_grad():
                for parameter in parameters:
                    if parameter.grad is not None:
                        parameter -= 0.1 * parameter.grad
    idle = [name for name, parameter in model.named_parameters() if id(parameter) not in seen]

    assert idle == []


@pytest.mark.parametrize("family", FAMILIES)
def test_objectives_cover_the_parameters(family: str) -> None:
    model, _ = make(family)
    moved = {id(parameter) for group in model.losses().values() for parameter in group}

    assert moved == {id(parameter) for parameter in model.parameters()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_is_a_function_of_batch_and_step(family: str) -> None:
    model, spec = make(family)
    objective = next(iter(model.losses()))
    first = model.loss(objective, batch_of(spec), STEP).total
    torch.rand(17)  # what the global generator does must not matter

    torch.testing.assert_close(model.loss(objective, batch_of(spec), STEP).total, first, rtol=0, atol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_two_halves_of_a_batch_make_the_loss_of_the_whole(family: str) -> None:
    model, spec = make(family)
    objective = next(iter(model.losses()))
    whole = model.loss(objective, batch_of(spec, 6), STEP).total
    halves = [model.loss(objective, batch_of(spec, 3, first), STEP).total for first in (0, 3)]

    torch.testing.assert_close((halves[0] + halves[1]) / 2, whole)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_batch_can_be_learnt(family: str) -> None:
    """By every objective alone, the others' parameters left as they are: a generator against a critic that waits."""
    for objective in make(family)[0].losses():
        model, spec = make(family)
        optimizer = torch.optim.AdamW(model.losses()[objective], lr=1e-2)
        losses = []
        for _ in range(120):
            loss = model.loss(objective, batch_of(spec), STEP).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

        assert losses[-1] < 0.7 * losses[0], objective


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_make_equal_weights_and_equal_samples(family: str) -> None:
    (one, _), (other, _) = make(family), make(family)

    assert one.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())
    options = {"length": 20} if spec_of(family) is TOKENS else {}
    asked = [Requests(torch.arange(4), conditions_of(torch.arange(4) % 2), None, options) for _ in range(2)]
    with torch.inference_mode():
        first, second = (
            shaken(model).eval().sample(requests) for model, requests in zip((one, other), asked, strict=True)
        )
    assert torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_training_goes_on_to_the_same_bytes(family: str, tmp_path: Path) -> None:
    """Also with averaged weights, a batch in two parts, and the kill in the middle of a burst."""
    kind, options = tiny(family)
    training = {"steps": 7, "val_every": 3, "log_every": 4, "sample_every": 5, "ema": 0.9, "accumulate": 2}
    train(tmp_path / "calm", family, kind, options, training)
    with killed_after(5):
        train(tmp_path / "killed", family, kind, options, training, {"checkpoint_every": 1e-9})
    torch.manual_seed(999)
    train(tmp_path / "killed", family, kind, options, training)

    assert outputs(tmp_path / "killed") == outputs(tmp_path / "calm")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_depends_on_its_seed_alone(family: str) -> None:
    model, spec = make(family)
    shaken(model).eval()
    options = {"length": 20} if spec_of(family) is TOKENS else {}
    with torch.inference_mode():
        whole = model.sample(Requests(torch.arange(5), conditions_of(torch.arange(5) % 2), None, options))
        part = model.sample(Requests(torch.tensor([3]), conditions_of(torch.tensor([1])), None, options))

    if isinstance(spec, GridSpec):
        assert whole.shape == (5, 1, 8, 8)
        assert whole.min() >= spec.range[0] and whole.max() <= spec.range[1]
        torch.testing.assert_close(part[0], whole[3], rtol=1e-5, atol=1e-5)
        assert not torch.equal(whole[0], whole[1])
    else:
        assert len(whole) == 5 and part[0] == whole[3]
        assert any(row != whole[0] for row in whole[1:])
        assert all(0 < token < 11 for row in whole for token in row)


@pytest.mark.parametrize("family", CONDITIONAL)
def test_a_label_that_is_asked_for_is_heeded(family: str) -> None:
    module, spec = parts.load("models", family), spec_of(family)
    options = module.Config(**SMALL.get(family, {}), conditional=True)
    torch.manual_seed(3)
    model = shaken(module.build(options, GRID if spec is GRID else LABELLED)).eval()
    seeds = torch.arange(4)
    with torch.inference_mode():
        ones, others = (model.sample(Requests(seeds, conditions_of(torch.full((4,), label)))) for label in (0, 1))

    assert list(model.heeds) == ["label"]
    if isinstance(ones, torch.Tensor):
        assert ((ones - others).abs().amax(dim=(1, 2, 3)) > 1e-4).all()
    else:
        assert all(one != other for one, other in zip(ones, others, strict=True))
    with pytest.raises(ConfigError, match=f"model {family}: .*no labels"):
        module.build(options, TOKENS if spec is TOKENS else GridSpec(channels=1, shape=(8, 8)))
    with pytest.raises(ConfigError, match=f"model {family}: conditional, but no labels were given"):
        model.sample(Requests(seeds))


def conditional(family: str, **more: object) -> Model:
    """A token family that heeds labels, far from where it starts."""
    module = parts.load("models", family)
    torch.manual_seed(3)
    return shaken(module.build(module.Config(**SMALL[family], conditional=True, **more), LABELLED)).eval()


TOKEN_FAMILIES = [family for family in CONDITIONAL if spec_of(family) is TOKENS]


@pytest.mark.parametrize("family", TOKEN_FAMILIES)
def test_every_row_has_its_own_label_whatever_its_batch(family: str) -> None:
    model, options = conditional(family), {"length": 20}
    labels, prompts = torch.tensor([0, 1, 1, 0, 1]), [[1, 2], [], [3], [4, 5], []]
    tokens = batch_of(LABELLED).tokens[:5]
    with torch.inference_mode():
        whole = model.sample(Requests(torch.arange(5), conditions_of(labels), prompts, options))
        alone = [
            model.sample(Requests(torch.tensor([row]), conditions_of(labels[row : row + 1]), [prompts[row]], options))
            for row in range(5)
        ]
        nats = model.nats(tokens, {"label": labels})
        rows = [model.nats(tokens[row : row + 1], {"label": labels[row : row + 1]}) for row in range(5)]
        other = model.nats(tokens, {"label": 1 - labels})

    assert whole == [row for (row,) in alone]
    torch.testing.assert_close(nats, torch.cat(rows), rtol=1e-4, atol=1e-5)
    assert not torch.isclose(nats, other).all(dim=1).any()


@pytest.mark.parametrize("family", TOKEN_FAMILIES)
def test_the_label_holds_beyond_the_context(family: str) -> None:
    """A model that is asked for texts longer than its window reads again, by the same label."""
    model, options = conditional(family), {"length": 40, "temperature": 0}
    with torch.no_grad():
        model.label.weight[1] = 50 * model.embed.weight[7]  # hears nothing but its label
    with torch.inference_mode():
        texts = model.sample(Requests(torch.arange(2), {"label": torch.tensor([1, 1])}, [[1], [2]], options))
        (read,) = model(torch.tensor([[0, 1, 2]]), labels_B=torch.tensor([1])).argmax(-1).tolist()

    assert set(texts[0]) == set(texts[1]) == set(read) and len(texts[0]) == 40 > model.context


@pytest.mark.parametrize("family", TOKEN_FAMILIES)
@pytest.mark.parametrize("tied", [False, True])
def test_a_model_without_labels_is_what_it_was(family: str, tied: bool) -> None:
    """Its weights at the start, and config.json, which is part of its digest, know nothing of the option."""
    module = parts.load("models", family)
    plain = module.Config(**SMALL[family], tied=tied)
    states = []
    for options in (plain, plain.model_copy(update={"conditional": True})):
        torch.manual_seed(3)
        states.append(module.build(options, LABELLED).state_dict())

    assert "conditional" not in plain.model_dump(mode="json")
    assert module.Config(**SMALL[family], conditional=True).model_dump(mode="json")["conditional"] is True
    assert states[1].keys() - states[0].keys() == {"label.weight"}
    for name in ("embed.weight", "norm.weight", "head.weight"):
        assert torch.equal(states[0][name], states[1][name]), name


@pytest.mark.parametrize("family", TOKEN_FAMILIES)
def test_a_killed_training_by_label_goes_on_to_the_same_bytes(family: str, tmp_path: Path) -> None:
    _, options = tiny(family)
    options = options.model_copy(update={"conditional": True})
    training = {"steps": 7, "val_every": 3, "log_every": 4, "sample_every": 5, "accumulate": 2}
    train(tmp_path / "calm", family, "labelled", options, training)
    with killed_after(5):
        train(tmp_path / "killed", family, "labelled", options, training, {"checkpoint_every": 1e-9})
    train(tmp_path / "killed", family, "labelled", options, training)

    assert outputs(tmp_path / "killed") == outputs(tmp_path / "calm")


@pytest.mark.parametrize("family", FAMILIES)
def test_averaged_weights_stand_in_and_step_back(family: str) -> None:
    model, _ = make(family)
    before = copy.deepcopy(model.state_dict())
    averager = Averager(model, decay=0.9)
    after = copy.deepcopy(shaken(model).state_dict())
    averager.update(step=1_000)

    averager.swap()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, 0.9 * before[name] + 0.1 * after[name])
    averager.swap()
    assert all(torch.equal(tensor, after[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_copy_of_the_state_is_the_model(family: str) -> None:
    model, spec = make(family)
    other, _ = make(family)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    objective = next(iter(model.losses()))

    torch.testing.assert_close(
        other.loss(objective, batch_of(spec), STEP).total, model.loss(objective, batch_of(spec), STEP).total
    )


def test_optional_protocols_are_seen() -> None:
    assert isinstance(make("transformer")[0], Likelihood)
    assert isinstance(make("vae")[0], Latent)


def test_a_fresh_transformer_pays_log_v_nats_a_token() -> None:
    model, spec = make("transformer")

    assert model.loss("loss", batch_of(spec), STEP).total.item() == pytest.approx(math.log(11), abs=1e-6)


def test_padding_does_not_move_the_transformer_s_loss() -> None:
    model, spec = make("transformer")
    torch.nn.init.normal_(model.head.weight)
    plain = batch_of(spec)
    padded = TokenBatch(
        torch.nn.functional.pad(plain.tokens, (0, 3)), torch.nn.functional.pad(plain.mask, (0, 3)), plain.index
    )

    torch.testing.assert_close(model.loss("loss", padded, STEP).total, model.loss("loss", plain, STEP).total)


def test_the_future_does_not_move_the_past() -> None:
    model, spec = make("transformer")
    torch.nn.init.normal_(model.head.weight)
    tokens = batch_of(spec).tokens
    changed = tokens.clone()
    changed[:, 6:] = 1

    torch.testing.assert_close(model.nats(changed)[:, :5], model.nats(tokens)[:, :5])


def test_cached_generation_reads_as_the_whole_does() -> None:
    model, _ = make("transformer")
    torch.nn.init.normal_(model.head.weight)
    model.eval()
    tokens = torch.randint(1, 11, (2, 9))
    caches = [transformer.Cache(model.context) for _ in model.blocks]
    with torch.inference_mode():
        whole = model(tokens)
        first = model(tokens[:, :4], caches, 0)
        steps = [model(tokens[:, place : place + 1], caches, place) for place in range(4, 9)]

    torch.testing.assert_close(torch.cat([first, *steps], dim=1), whole, rtol=1e-4, atol=1e-5)
