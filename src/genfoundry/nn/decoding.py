"""Tokens from logits, one at a time: temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2020).

Token t of a request is drawn with the uniform number of (its seed, t), so a sample depends on neither the other
requests of its batch nor its place in it.
"""

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor

from genfoundry.nn.contract import Requests
from genfoundry.nn.noise import uniform
from genfoundry.settings import Sampling
from genfoundry.specs import TokenSpec


class TextSampling(Sampling):
    """How texts are drawn."""

    length: int = Field(default=256, ge=1)
    """Tokens of a text sample at most."""
    temperature: float = Field(default=1.0, ge=0)
    """Logits are divided by it; 0 always takes the likeliest token (greedy)."""
    top_k: int = Field(default=0, ge=0)
    """Draw among the k likeliest tokens; 0 draws among all."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw among the likeliest tokens that hold this share of probability."""


NextLogits = Callable[[Tensor, int], Tensor]
"""Logits (B, V) after new tokens (B, T), of which ``start`` were read before; start 0 begins anew."""


def pick(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """One token a row by inverting the cumulative distribution over tokens, likeliest first: int64 (B,)."""
    ordered, tokens = (logits_BV.double() / temperature).sort(dim=-1, descending=True, stable=True)
    if top_k:
        ordered[:, top_k:] = -torch.inf
    mass = ordered.softmax(dim=-1)
    before = mass.cumsum(dim=-1) - mass
    # A token stays while the mass before it is below top_p, so the likeliest always stays.
    mass = torch.where(before < top_p, mass, 0.0)
    cumulative = mass.cumsum(dim=-1)
    target = uniform_B.double()[:, None] * cumulative[:, -1:]
    place = (cumulative <= target).sum(dim=-1, keepdim=True).clamp(max=tokens.shape[1] - 1)
    return tokens.gather(1, place)[:, 0]


def generate(next_logits: NextLogits, requests: Requests, spec: TokenSpec, context: int) -> list[list[int]]:
    """Continue each request until the boundary token or ``length`` tokens.

    Requests of one call share the length of their prompt (callers group them); the boundary token stands first.
    When the context is full the model re-reads the newer half of it.
    """
    options = requests.options
    length = int(options.get("length", 256))
    device = requests.seeds.device
    prompts = requests.prompts or [[] for _ in range(len(requests.seeds))]
    if len({len(prompt) for prompt in prompts}) > 1:
        raise ValueError("generate: prompts of one call must be equally long; group requests by prompt length")
    read = torch.tensor([[spec.boundary, *prompt] for prompt in prompts], dtype=torch.int64, device=device)[
        :, -context:
    ]
    history, start = read, 0
    alive = torch.ones(len(prompts), dtype=torch.bool, device=device)
    drawn: list[Tensor] = []
    for number in range(length):
        logits_BV = next_logits(read, start)
        tokens_B = pick(
            logits_BV,
            uniform(requests.seeds, (number, 1), ()),
            float(options.get("temperature", 1.0)),
            int(options.get("top_k", 0)),
            float(options.get("top_p", 1.0)),
        )
        tokens_B = torch.where(alive, tokens_B, spec.boundary)
        alive = alive & (tokens_B != spec.boundary)
        drawn.append(tokens_B)
        if not alive.any():
            break
        start, read = start + read.shape[1], tokens_B[:, None]
        history = torch.cat([history, read], dim=1)
        if start + 1 > context:
            start, read = 0, history[:, -(context // 2) :]
    rows = torch.stack(drawn, dim=1).tolist()
    return [row[: row.index(spec.boundary)] if spec.boundary in row else row for row in rows]
