"""The transformer's options: what the contract test of all families does not know of them."""

import math

import pytest
import torch
from torch.nn import functional as F

from genfoundry.config.specs import TokenSpec
from genfoundry.models import transformer
from genfoundry.nn.blocks import CausalConvolution
from genfoundry.nn.contract import Requests, Step, TokenBatch
from genfoundry.nn.dropout import key_dropout

SPEC = TokenSpec(vocab_size=11)
STEP = Step(number=3, total=10, seed=1)
TOKENS = torch.randint(1, 11, (3, 10), generator=torch.Generator().manual_seed(5))
BATCH = TokenBatch(TOKENS, torch.ones(TOKENS.shape), torch.arange(3))
OPTIONS = {
    "plain": {},
    "grouped": {"kv_heads": 2},
    "one key": {"kv_heads": 1},
    "gelu": {"activation": "gelu"},
    "relu2": {"activation": "relu2"},
    "tied": {"tied": True},
    "convolution": {"convolution": 3},
    "convolution below": {"convolution": 3, "convolution_layers": 1},
}


def make(trained: bool = True, **options: object) -> transformer.Transformer:
    """A small model, its weights far from the identity that blocks start as."""
    torch.manual_seed(0)
    values = {"width": 16, "layers": 2, "heads": 4, "context": 12, **options}
    model = transformer.build(transformer.Config.model_validate(values), SPEC)
    with torch.no_grad():
        for parameter in model.parameters() if trained else ():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_starts_uniform_and_keeps_the_future_out(options: dict[str, object]) -> None:
    fresh, model = make(trained=False, **options), make(**options)
    changed = TOKENS.clone()
    changed[:, 6:] = 1

    assert fresh.loss("loss", BATCH, STEP).total.item() == pytest.approx(math.log(11), abs=1e-6)
    torch.testing.assert_close(model.nats(changed)[:, :5], model.nats(TOKENS)[:, :5])
    assert not torch.allclose(model.nats(changed)[:, 7:], model.nats(TOKENS)[:, 7:])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("prompt", [1, 4])
def test_reading_step_by_step_is_reading_the_whole(options: dict[str, object], prompt: int) -> None:
    model = make(**options).eval()
    caches = [transformer.Cache(model.context) for _ in model.blocks]
    with torch.inference_mode():
        whole = model(TOKENS)
        first = model(TOKENS[:, :prompt], caches, 0)
        steps = [model(TOKENS[:, place : place + 1], caches, place) for place in range(prompt, 10)]

    torch.testing.assert_close(torch.cat([first, *steps], dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_low_precision_is_near_full_precision(options: dict[str, object]) -> None:
    model = make(**options)
    with torch.autocast("cpu", torch.bfloat16):
        low = model.loss("loss", BATCH, STEP).total

    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(model.loss("loss", BATCH, STEP).total.item(), rel=0.05)


def test_grouped_heads_are_heads_whose_keys_and_values_are_copies() -> None:
    grouped, full = make(kv_heads=2), make()
    full.load_state_dict(grouped.state_dict() | {k: v for k, v in full.state_dict().items() if "qkv" in k})
    with torch.no_grad():
        for mine, theirs in zip(full.blocks, grouped.blocks, strict=True):
            queries, keys, values = theirs.qkv.weight.view(-1, 4, 16).split([4, 2, 2])
            copies = [part.repeat_interleave(2, dim=0) for part in (keys, values)]
            mine.qkv.weight.copy_(torch.cat([queries, *copies]).reshape(48, 16))

    torch.testing.assert_close(grouped(TOKENS), full(TOKENS))
    assert grouped.blocks[0].qkv.weight.shape == (32, 16)


def test_tied_weights_are_one_tensor() -> None:
    model = make(tied=True)

    assert model.head.weight is model.embed.weight
    assert sum(p.numel() for p in make().parameters()) - sum(p.numel() for p in model.parameters()) == 11 * 16


def test_a_convolution_is_the_sum_over_the_tokens_before() -> None:
    layer, hidden = CausalConvolution(5, 3), torch.randn(2, 7, 5)
    torch.testing.assert_close(layer(hidden), hidden, rtol=0, atol=0)
    torch.nn.init.normal_(layer.weight)

    kernel = layer.weight.flip(0).T[:, None, :]
    expected = hidden + F.conv1d(F.pad(hidden.mT, (2, 0)), kernel, groups=5).mT
    torch.testing.assert_close(layer(hidden), expected)
    short = hidden[:, :2]
    torch.testing.assert_close(layer(short), expected[:, :2])


def test_a_convolution_has_the_gradient_of_its_sum() -> None:
    layer, hidden = CausalConvolution(3, 4).double(), torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    torch.nn.init.normal_(layer.weight)

    assert torch.autograd.gradcheck(lambda values, _: layer(values), (hidden, layer.weight))


def test_only_projections_go_to_muon() -> None:
    model = make(convolution=3)
    named = {id(parameter): name for name, parameter in model.named_parameters()}

    found = {named[id(parameter)].split(".", 2)[2] for parameter in model.hidden_matrices()}
    assert found == {"qkv.weight", "out.weight", "gate_up.weight", "down.weight"}


def test_only_the_first_layers_have_convolutions() -> None:
    blocks = make(convolution=3, layers=3, convolution_layers=2).blocks

    assert [block.mix_1 is not None and block.mix_2 is not None for block in blocks] == [True, True, False]
    assert [block.mix_1 is None and block.mix_2 is None for block in blocks] == [False, False, True]
    assert all(block.mix_1 is not None for block in make(convolution=3, layers=3).blocks)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"convolution": 3, "layers": 2, "convolution_layers": 3}, "must be at most layers 2"),
        ({"convolution_layers": 1}, "needs convolution"),
    ],
)
def test_layers_of_convolutions_that_are_not_there_are_refused(options: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        transformer.Config.model_validate(options)


def test_dropout_is_a_function_of_seed_step_and_example() -> None:
    model = make(dropout=0.4)
    losses = []
    for step in (7, 7, 8):
        key_dropout(model, BATCH.index, 1, step)
        losses.append(model.loss("loss", BATCH, STEP).total.item())

    assert losses[0] == losses[1] != losses[2]


def test_prompts_of_different_lengths_continue_as_each_would_alone() -> None:
    model = make(convolution=3).eval()
    prompts, options = [[3, 4, 5], [], [6], [7, 8, 9]], {"length": 20}
    with torch.inference_mode():
        together = model.sample(Requests(torch.arange(4), {}, prompts, options))
        alone = [
            model.sample(Requests(torch.tensor([seed]), {}, [prompt], options))[0]
            for seed, prompt in enumerate(prompts)
        ]

    assert together == alone


@pytest.mark.parametrize("options", [{"heads": 4, "kv_heads": 3}, {"width": 20, "heads": 4}])
def test_heads_that_do_not_divide_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be a multiple"):
        transformer.Config.model_validate(options)
