"""Decoder-only transformer language model: RoPE, RMSNorm before each block, SwiGLU, normalised queries and keys.

Vaswani et al. 2017 (arXiv:1706.03762); Su et al. 2021 (arXiv:2104.09864); Zhang and Sennrich 2019
(arXiv:1910.07467); Shazeer 2020 (arXiv:2002.05202); Henry et al. 2020 (arXiv:2010.04245).
Letters: B batch, T tokens, V vocabulary, D width, N heads, K width of a head.
"""

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.errors import ConfigError
from genfoundry.nn.blocks import rotary, rotate
from genfoundry.nn.contract import Batch, Loss, Model, Requests, Step, TokenBatch
from genfoundry.nn.decoding import TextSampling, generate
from genfoundry.specs import DataSpec, Section, TokenSpec


class Config(Section):
    width: int = Field(default=192, ge=8)
    """Width of the hidden state, D."""
    layers: int = Field(default=4, ge=1)
    heads: int = Field(default=4, ge=1)
    context: int = Field(default=256, ge=2)
    """Most tokens the model looks at, and the length of a training window."""
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self) -> "Config":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads}")
        return self


def build(config: Config, spec: DataSpec) -> "Transformer":
    """Make the model, or refuse data it cannot learn from."""
    if not isinstance(spec, TokenSpec):
        raise ConfigError(f"model transformer: needs tokens, got {spec!r}; choose modality text")
    return Transformer(config, spec)


Sampling = TextSampling


class Cache:
    """Keys and values of the tokens read so far, for one block: (B, N, T, K) each."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], dim=2), torch.cat([self.values, values], dim=2)
        self.keys, self.values = keys, values
        return keys, values


class Block(nn.Module):
    """Attention and a gated feed-forward layer, each added to its normalised input's residual."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width = config.width
        hidden = (8 * width // 3 + 7) // 8 * 8
        self.heads, self.dropout = config.heads, config.dropout
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        # Each block starts as the identity.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, hidden_BTD: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None) -> Tensor:
        B, T, D = hidden_BTD.shape
        qkv = self.qkv(self.norm_1(hidden_BTD)).view(B, T, 3, self.heads, D // self.heads)
        queries, keys, values = qkv.permute(2, 0, 3, 1, 4)
        queries = rotate(F.rms_norm(queries, queries.shape[-1:]), *angles)
        keys = rotate(F.rms_norm(keys, keys.shape[-1:]), *angles)
        if cache is not None:
            keys, values = cache.extend(keys, values)
        dropout = self.dropout if self.training else 0.0
        # With a cache a single new token looks at all before it; a prompt starts from an empty cache.
        mixed = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=T > 1)
        hidden_BTD = hidden_BTD + F.dropout(self.out(mixed.transpose(1, 2).reshape(B, T, D)), dropout)
        gate, up = self.gate_up(self.norm_2(hidden_BTD)).chunk(2, dim=-1)
        return hidden_BTD + F.dropout(self.down(F.silu(gate) * up), dropout)


class Transformer(Model):
    """Predicts each token from the tokens before it."""

    def __init__(self, config: Config, spec: TokenSpec) -> None:
        super().__init__()
        self.config, self.spec, self.context = config, spec, config.context
        self.embed = nn.Embedding(spec.vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, spec.vocab_size, bias=False)
        # The first guess is the uniform law: log V nats a token.
        nn.init.zeros_(self.head.weight)

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The projections of all blocks."""
        return [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]

    def units(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def forward(self, tokens_BT: Tensor, caches: list[Cache] | None = None, start: int = 0) -> Tensor:
        """Logits of each next token: float32 (B, T, V); with caches, ``start`` tokens were read before."""
        positions_T = torch.arange(start, start + tokens_BT.shape[1], device=tokens_BT.device)
        angles = rotary(positions_T, self.config.width // self.config.heads)
        hidden_BTD = self.embed(tokens_BT)
        for number, block in enumerate(self.blocks):
            hidden_BTD = block(hidden_BTD, angles, caches[number] if caches else None)
        return self.head(self.norm(hidden_BTD))

    def nats(self, tokens_BT: Tensor) -> Tensor:
        """Negative log-likelihood of ``tokens[:, 1:]`` given all before: float32 (B, T-1)."""
        logits_BTV = self(tokens_BT[:, :-1]).float()
        return F.cross_entropy(logits_BTV.mT, tokens_BT[:, 1:], reduction="none")

    def loss(self, objective: str, batch: Batch, step: Step) -> Loss:
        """Mean negative log-likelihood of the next token, in nats."""
        assert isinstance(batch, TokenBatch)
        mask_BT = batch.mask[:, 1:]
        # Divide by the real tokens, not by B*T: padding must not dilute the loss.
        return Loss((self.nats(batch.tokens) * mask_BT).sum() / mask_BT.sum().clamp(min=1), {})

    def sample(self, requests: Requests) -> list[list[int]]:
        """One token list a request, without boundary tokens."""
        caches: list[Cache] = []

        def next_logits(tokens_BT: Tensor, start: int) -> Tensor:
            if start == 0:
                caches[:] = [Cache() for _ in self.blocks]
            return self(tokens_BT, caches, start)[:, -1]

        return generate(next_logits, requests, self.spec, self.context)
