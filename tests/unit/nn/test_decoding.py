import math

import pytest
import torch
from torch import Tensor

from genfoundry.config.specs import TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.nn.contract import Requests
from genfoundry.nn.decoding import TextSampling, generate, penalise, pick

LOGITS = torch.tensor([[1.0, 3.0, 2.0, 0.0]])
# softmax of LOGITS, likeliest first: .644, .237, .087, .032.


def shares(draws: int = 4000, **options: object) -> Tensor:
    """Frequency of each token over evenly spaced uniforms."""
    spread = (torch.arange(draws) + 0.5) / draws
    tokens = pick(LOGITS.expand(draws, -1), spread, TextSampling.model_validate(options))
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


def flat(tokens: Tensor, start: int) -> Tensor:
    """Logits of a model that knows nothing but dislikes the boundary."""
    logits = LOGITS.expand(tokens.shape[0], -1).clone()
    logits[:, 0] = -torch.inf
    return logits


SPEC = TokenSpec(vocab_size=4)


def test_greedy_takes_the_likeliest_whatever_the_uniform() -> None:
    assert shares(temperature=0.0).tolist() == [0, 1, 0, 0]
    assert generate(flat, Requests(torch.arange(3), options={"temperature": 0, "length": 5}), SPEC, 8) == [[1] * 5] * 3


def test_min_p_keeps_tokens_by_their_share_of_the_likeliest() -> None:
    # e^-1 = .368 and e^-2 = .135 of the likeliest: .2 keeps two tokens, .1 three.
    for min_p, kept in ((0.2, [-math.inf, 3, 2, -math.inf]), (0.1, [1, 3, 2, -math.inf])):
        expected = torch.tensor(kept, dtype=torch.float32).softmax(0)
        torch.testing.assert_close(shares(min_p=min_p), expected, atol=1e-3, rtol=0)
    assert shares(min_p=1.0)[1] == 1


def test_filters_act_one_after_the_other() -> None:
    # At temperature 2 the shares are .455, .276, .167, .102; of the first three top-p .8 keeps all (.506, .307, .186:
    # .814 stands before none of them but the next), min-p .5 the first two (.607 and .368 of the likeliest).
    expected = torch.tensor([-math.inf, 1.5, 1.0, -math.inf]).softmax(0)
    torch.testing.assert_close(shares(temperature=2.0, top_k=3, top_p=0.9, min_p=0.5), expected, atol=1e-3, rtol=0)


def test_the_penalty_weakens_what_was_seen_on_both_sides_of_zero() -> None:
    logits, seen = torch.tensor([[2.0, -2.0, 2.0, -2.0]]), torch.tensor([[True, True, False, False]])

    assert penalise(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]


def test_the_penalty_looks_at_prompt_and_text_and_spares_the_boundary() -> None:
    heard: list[Tensor] = []

    def next_logits(tokens: Tensor, start: int) -> Tensor:
        heard.append(tokens)
        return torch.tensor([[0.0, 3.0, 2.9, 2.8]])

    requests = Requests(torch.arange(1), {}, [[1]], {"repetition_penalty": 1.5, "temperature": 0, "length": 4})
    # 1 stands in the prompt (3 -> 2), so 2 comes first, then 3; all seen, 1 is the likeliest again.
    assert generate(next_logits, requests, SPEC, 16) == [[2, 3, 1, 1]]


def test_frequencies_over_many_seeds_are_those_of_the_law() -> None:
    count, options = 6000, {"length": 1, "temperature": 1.5, "min_p": 0.2, "repetition_penalty": 1.2}
    rows = generate(flat, Requests(torch.arange(count), {}, [[1]] * count, options), SPEC, 8)
    found = torch.bincount(torch.tensor(rows).flatten(), minlength=4).double()
    # Token 1 is in the prompt: 3 / 1.2; then min-p .2 at temperature 1.5 keeps all that is at most 2.41 below.
    law = torch.tensor([-math.inf, 2.5 / 1.5, 2 / 1.5, -math.inf], dtype=torch.float64).softmax(0)

    assert found[3] == 0 and found[0] == 0
    chi2 = ((found - count * law)[1:3] ** 2 / (count * law)[1:3]).sum().item()
    assert chi2 < 10.8  # 0.999 quantile at one degree of freedom; the seeds are fixed


def test_a_text_that_has_come_to_its_end_is_drawn_no_further() -> None:
    asked: list[list[int]] = []

    def stopped(tokens: list[int]) -> bool:
        asked.append(tokens)
        return len(tokens) == 3

    requests = Requests(torch.arange(2), {}, None, {"length": 50}, stopped)
    rows = generate(flat, requests, SPEC, 64)

    assert [len(row) for row in rows] == [3, 3] and max(map(len, asked)) == 3


def test_prompts_of_any_length_are_read_without_padding() -> None:
    read: list[list[list[int]]] = []

    def next_logits(tokens: Tensor, start: int) -> Tensor:
        if start == 0:
            read.append(tokens.tolist())
        return flat(tokens, start)

    requests = Requests(torch.arange(3), {}, [[1, 2], [3], [2, 2]], {"length": 3})
    rows = generate(next_logits, requests, SPEC, 8)

    assert read == [[[0, 1, 2], [0, 2, 2]], [[0, 3]]]
    alone = generate(next_logits, Requests(torch.tensor([1]), {}, [[3]], {"length": 3}), SPEC, 8)
    assert rows[1] == alone[0] and [len(row) for row in rows] == [3, 3, 3]


def test_a_prompt_beyond_the_context_is_refused() -> None:
    with pytest.raises(ConfigError, match="a prompt has 8 tokens, but the model looks at 8"):
        generate(flat, Requests(torch.arange(1), prompts=[[1] * 8]), SPEC, 8)
    assert generate(flat, Requests(torch.arange(1), {}, [[1] * 7], {"length": 1}), SPEC, 8)[0]
