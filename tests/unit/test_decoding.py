import math

import pytest
import torch
from torch import Tensor

from genfoundry.nn.contract import Requests
from genfoundry.nn.decoding import generate, pick
from genfoundry.specs import TokenSpec

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 0.0]])


def shares(draws: int = 4000, **options: float) -> Tensor:
    """Frequency of each token over evenly spaced uniforms."""
    spread = (torch.arange(draws) + 0.5) / draws
    settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, **options}
    tokens = pick(LOGITS.expand(draws, -1), spread, settings["temperature"], int(settings["top_k"]), settings["top_p"])
    return torch.bincount(tokens, minlength=4) / draws


def test_tokens_come_with_their_softmax_share() -> None:
    torch.testing.assert_close(shares(), LOGITS[0].softmax(0), atol=1e-3, rtol=0)


def test_temperature_divides_the_logits() -> None:
    torch.testing.assert_close(shares(temperature=2.0), (LOGITS[0] / 2).softmax(0), atol=1e-3, rtol=0)


def test_top_k_keeps_the_likeliest() -> None:
    expected = torch.tensor([-math.inf, 3, 2, -math.inf]).softmax(0)
    torch.testing.assert_close(shares(top_k=2), expected, atol=1e-3, rtol=0)


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    # softmax of (3, 2, 1, 0) is (.644, .237, .087, .032): 0.7 needs two tokens.
    expected = torch.tensor([-math.inf, 3, 2, -math.inf]).softmax(0)
    torch.testing.assert_close(shares(top_p=0.7), expected, atol=1e-3, rtol=0)
    assert shares(top_p=1e-9)[1] == 1


def test_generation_stops_at_the_boundary_and_at_length() -> None:
    script = [3, 2, 0, 1]

    def next_logits(tokens: Tensor, start: int) -> Tensor:
        logits = torch.full((tokens.shape[0], 4), -1e9)
        logits[:, script[start + tokens.shape[1] - 1]] = 0
        return logits

    spec = TokenSpec(vocab_size=4)
    assert generate(next_logits, Requests(torch.arange(2)), spec, 16) == [[3, 2], [3, 2]]
    assert generate(next_logits, Requests(torch.arange(1), options={"length": 1}), spec, 16) == [[3]]


def test_the_context_is_never_exceeded() -> None:
    lengths = []

    def next_logits(tokens: Tensor, start: int) -> Tensor:
        lengths.append(start + tokens.shape[1])
        logits = torch.zeros(tokens.shape[0], 5)
        logits[:, 0] = -1e9
        return logits

    (row,) = generate(next_logits, Requests(torch.arange(1), options={"length": 50}), TokenSpec(vocab_size=5), 8)
    assert len(row) == 50
    assert max(lengths) <= 8


def test_prompts_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="equally long"):
        generate(
            lambda t, s: torch.zeros(2, 4), Requests(torch.arange(2), prompts=[[1], [1, 2]]), TokenSpec(vocab_size=4), 8
        )
