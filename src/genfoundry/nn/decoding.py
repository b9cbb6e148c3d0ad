"""Tokens from logits, one at a time: greedy, temperature, top-k, top-p, min-p, repetition penalty, stop sequences.

Top-k: Fan et al. 2018 (arXiv:1805.04833); top-p: Holtzman et al. 2020 (arXiv:1904.09751); min-p: Nguyen et al. 2024
(arXiv:2407.01082); repetition penalty: Keskar et al. 2019 (arXiv:1909.05858). Token t of a request is drawn with the
uniform number of (its seed, t), so a sample depends on neither the other requests of its batch nor its place in it.
Letters in tensor names: B requests, T tokens, V vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.nn.contract import Requests
from genfoundry.nn.noise import uniform


class TextSampling(Sampling):
    """How texts are drawn. Filters act in this order: repetition penalty, temperature, top-k, top-p, min-p."""

    generator: ClassVar[frozenset[str]] = frozenset(
        {"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "stop"}
    )

    length: int = Field(default=256, ge=1)
    """Tokens of a text sample at most, its prompt not counted."""
    temperature: float = Field(default=1.0, ge=0)
    """Logits are divided by it; 0 always takes the likeliest token (greedy)."""
    top_k: int = Field(default=0, ge=0)
    """Draw among the k likeliest tokens; 0 draws among all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw among the likeliest tokens that hold this share of probability."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Draw among tokens at least this many times as likely as the likeliest; 0 draws among all."""
    repetition_penalty: float = Field(default=1.0, ge=1)
    """Logits of tokens in the prompt or drawn before are divided by it where positive, else multiplied; 1 is off."""
    stop: tuple[str, ...] = ()
    """A text ends before the first of these strings; they are looked for in the decoded text, so a string may span
    tokens. Tokens that reach into it are left out.
    """
    prompts: tuple[str, ...] = ()
    """Texts to continue, in turn over the samples; empty begins new documents."""
    prompt_file: str = ""
    """File below presets/prompts/ with one prompt a line, or one JSON object a line (.jsonl), behind ``prompts``."""
    template: str = "{}"
    """What a prompt is put into: ``{}`` stands for the prompt or the line, ``{name}`` for a field of a JSON line."""


NextLogits = Callable[[Tensor, int], Tensor]
"""Logits (B, V) after new tokens (B, T), of which ``start`` were read before; start 0 begins anew."""


def penalise(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Logits with those of seen tokens (bool) divided by the penalty where positive, else multiplied."""
    weaker = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, weaker, logits_BV)


def pick(logits_BV: Tensor, uniform_B: Tensor, sampling: TextSampling) -> Tensor:
    """One token a row by inverting the cumulative distribution over tokens, likeliest first: int64 (B,)."""
    if sampling.temperature == 0:
        return logits_BV.argmax(dim=-1)
    ordered, tokens = (logits_BV.double() / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        ordered[:, sampling.top_k :] = -torch.inf
    mass = ordered.softmax(dim=-1)
    before = mass.cumsum(dim=-1) - mass
    # A token stays while the mass before it is below top_p, so the likeliest always stays; of what then is left, min-p
    # asks for a share of the likeliest token, which no rescaling moves.
    kept = (before < sampling.top_p) & (mass >= sampling.min_p * mass[:, :1])
    cumulative = torch.where(kept, mass, 0.0).cumsum(dim=-1)
    target = uniform_B.double()[:, None] * cumulative[:, -1:]
    place = (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=tokens.shape[1] - 1)
    return tokens.gather(1, place)[:, 0]


def generate(
    next_logits: NextLogits,
    requests: Requests,
    spec: TokenSpec,
    context: int,
    recurrent: bool = False,
    begin: Callable[[Tensor], None] = lambda rows_B: None,
) -> list[list[int]]:
    """Continue each request until the boundary token, ``requests.stopped`` or ``length`` tokens: without the prompt.

    Requests whose prompts are equally long are read together, behind the boundary token; so nothing is padded.

    Args:
        next_logits: The model.
        requests: Seeds, prompts and options of ``TextSampling``.
        spec: Of the tokens.
        context: Most tokens the model looks at. When it is full the model reads the newer half of them again.
        recurrent: The model carries a state without end, so that it never has to read again.
        begin: Called with the places of the requests that ``next_logits`` gets from now on, int64 (B,): by them a model
            finds their conditions.

    Raises:
        ConfigError: A prompt does not fit into the context.
    """
    prompts = requests.prompts if requests.prompts is not None else [()] * len(requests.seeds)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        groups[len(prompt)].append(row)
    if groups and max(groups) >= context:
        raise ConfigError(
            f"a prompt has {max(groups)} tokens, but the model looks at {context} tokens, the boundary among them; "
            "shorten it"
        )
    found: list[list[int]] = [[] for _ in prompts]
    for rows in groups.values():
        read = torch.tensor([[spec.boundary, *prompts[row]] for row in rows], device=requests.seeds.device)
        begin(torch.tensor(rows, device=requests.seeds.device))
        texts = _continue(next_logits, read, requests, rows, spec.boundary, 0 if recurrent else context)
        for row, text in zip(rows, texts, strict=True):
            found[row] = text
    return found


def _continue(
    next_logits: NextLogits, read: Tensor, requests: Requests, rows: list[int], boundary: int, context: int
) -> list[list[int]]:
    """Texts behind prompts of one length, int64 (B, T); ``context`` 0 is without end."""
    sampling = requests.section(TextSampling)
    seeds = requests.seeds[rows]
    history, start = read, 0
    alive = torch.ones(len(rows), dtype=torch.bool, device=read.device)
    drawn: list[Tensor] = []
    for number in range(sampling.length):
        logits_BV = next_logits(read, start).float()
        if sampling.repetition_penalty > 1:
            seen_BV = torch.zeros(logits_BV.shape, dtype=torch.bool, device=read.device).scatter(1, history, True)
            # No penalty on the boundary token: it would only make texts longer.
            seen_BV[:, boundary] = False
            logits_BV = penalise(logits_BV, seen_BV, sampling.repetition_penalty)
        tokens_B = torch.where(alive, pick(logits_BV, uniform(seeds, (number, 1), ()), sampling), boundary)
        drawn.append(tokens_B)
        alive = alive & (tokens_B != boundary)
        if requests.stopped is not None:
            alive = alive & ~_stopped(requests.stopped, torch.stack(drawn, dim=1), alive)
        if not alive.any():
            break
        start, read = start + read.shape[1], tokens_B[:, None]
        history = torch.cat([history, read], dim=1)
        if context and start + 1 > context:
            start, read = 0, history[:, -(context // 2) :]
    found = torch.stack(drawn, dim=1).tolist()
    return [row[: row.index(boundary)] if boundary in row else row for row in found]


def _stopped(stopped: Callable[[Sequence[int]], bool], drawn_BT: Tensor, alive_B: Tensor) -> Tensor:
    """Which texts have come to their end: bool (B,)."""
    ended = [going and stopped(row) for row, going in zip(drawn_BT.tolist(), alive_B.tolist(), strict=True)]
    return torch.tensor(ended, dtype=torch.bool, device=drawn_BT.device)
