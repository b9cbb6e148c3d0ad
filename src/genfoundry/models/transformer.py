"""Decoder-only transformer language model: RoPE, RMSNorm before each block, SwiGLU, normalised queries and keys.

Vaswani et al. 2017 (arXiv:1706.03762); Su et al. 2021 (arXiv:2104.09864); Zhang and Sennrich 2019
(arXiv:1910.07467); Shazeer 2020 (arXiv:2002.05202); Henry et al. 2020 (arXiv:2010.04245).
Letters: B batch, T tokens, V vocabulary, D width, N heads, M heads of keys and values, K width of a head.
"""

import operator
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.specs import DataSpec, Section, TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.nn.blocks import CausalConvolution, rotary, rotate
from genfoundry.nn.contract import Requests
from genfoundry.nn.decoding import TextSampling, generate
from genfoundry.nn.dropout import Dropout
from genfoundry.nn.language import LanguageModel, cross_entropy

Sampling = TextSampling


class Config(Section):
    width: int = Field(default=192, ge=8)
    """Width of the hidden state, D."""
    layers: int = Field(default=4, ge=1)
    """Blocks of attention and feed-forward layer."""
    heads: int = Field(default=4, ge=1)
    """Attention heads; the width is a multiple of twice their number."""
    kv_heads: int = Field(default=0, ge=0)
    """Heads of keys and values, each shared by a group of query heads (Ainslie et al. 2023, arXiv:2305.13245): a
    smaller cache in generation; 0 takes as many as ``heads``.
    """
    context: int = Field(default=256, ge=2)
    """Most tokens the model looks at, and the length of a training window."""
    activation: Literal["swiglu", "gelu", "relu2"] = "swiglu"
    """Of the feed-forward layer; relu2 is the squared ReLU (So et al. 2021, arXiv:2109.08668). swiglu has 8/3 D hidden
    units with a gate each, the others 4 D: as many weights.
    """
    convolution: int = Field(default=0, ge=0, le=8)
    """Tokens, the newest among them, that a causal depthwise convolution mixes before attention and before the
    feed-forward layer, as in Canon layers (Allen-Zhu 2025, arXiv:2512.17351); 0 is off.
    """
    convolution_layers: int = Field(default=0, ge=0)
    """Layers that have convolutions, counted from the input; 0 is all. The first two have nearly all of the gain."""
    tied: bool = False
    """Predict with the embedding's own matrix."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Behind attention and the feed-forward layer."""
    # Left out of config.json where it is false: a model without labels keeps its digest.
    conditional: bool = Field(default=False, exclude_if=operator.not_)
    """Condition on the label: its embedding is added to that of each token."""

    @model_validator(mode="after")
    def _heads_divide(self) -> "Config":
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of 2 * heads = {2 * self.heads}")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} must be a multiple of kv_heads {self.kv_heads}")
        if self.convolution_layers > self.layers:
            raise ValueError(f"convolution_layers {self.convolution_layers} must be at most layers {self.layers}")
        if self.convolution_layers and not self.convolution:
            raise ValueError(f"convolution_layers {self.convolution_layers} needs convolution, which is 0")
        return self


def build(config: Config, spec: DataSpec) -> "Transformer":
    """Build the model; raise ConfigError for data it cannot learn from."""
    if not isinstance(spec, TokenSpec):
        raise ConfigError(f"model transformer: needs tokens, got {spec!r}; choose modality text or code")
    return Transformer(config, spec)


class Cache:
    """What a block keeps of the tokens read so far: keys and values (B, M, T, K), and the ends of its convolutions."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.keys, self.values = torch.empty(0), torch.empty(0)
        self.ends: dict[nn.Module, Tensor] = {}

    def extend(self, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """All keys and values, with those of the new tokens behind the ``start`` that are here."""
        if start == 0:
            B, M, _, K = keys.shape
            # Room for the whole context at once: growing it token by token would copy all of it each time.
            self.keys, self.values = keys.new_empty(B, M, self.context, K), values.new_empty(B, M, self.context, K)
        end = start + keys.shape[2]
        self.keys[:, :, start:end], self.values[:, :, start:end] = keys, values
        return self.keys[:, :, :end], self.values[:, :, :end]


class Block(nn.Module):
    """Attention and a feed-forward layer, each added to its normalised input's residual."""

    def __init__(self, config: Config, convolution: int) -> None:
        super().__init__()
        width, gated = config.width, config.activation == "swiglu"
        hidden = (8 * width // 3 + 7) // 8 * 8 if gated else 4 * width
        self.heads, self.kv_heads = config.heads, config.kv_heads or config.heads
        self.activation = config.activation
        self.norm_1, self.norm_2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, width // self.heads * (self.heads + 2 * self.kv_heads), bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden if gated else hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)
        self.dropout_1, self.dropout_2 = Dropout(config.dropout), Dropout(config.dropout)
        if convolution:
            self.mix_1, self.mix_2 = (CausalConvolution(width, convolution) for _ in range(2))
        else:
            self.mix_1, self.mix_2 = None, None
        # Each block starts as the identity.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.down.weight)

    def forward(
        self, hidden_BTD: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None = None, start: int = 0
    ) -> Tensor:
        read_BTD = self._mix(self.mix_1, self.norm_1(hidden_BTD), cache, start)
        hidden_BTD = hidden_BTD + self.dropout_1(self._attend(read_BTD, angles, cache, start))
        read_BTD = self._mix(self.mix_2, self.norm_2(hidden_BTD), cache, start)
        return hidden_BTD + self.dropout_2(self._feed_forward(read_BTD))

    def _mix(self, layer: CausalConvolution | None, read_BTD: Tensor, cache: Cache | None, start: int) -> Tensor:
        if layer is None:
            return read_BTD
        if cache is None:
            return layer(read_BTD)
        mixed_BTD, cache.ends[layer] = layer.step(read_BTD, cache.ends[layer] if start else None)
        return mixed_BTD

    def _attend(self, read_BTD: Tensor, angles: tuple[Tensor, Tensor], cache: Cache | None, start: int) -> Tensor:
        B, T, D = read_BTD.shape
        heads = self.qkv(read_BTD).view(B, T, -1, D // self.heads).transpose(1, 2)
        queries, keys, values = heads.split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        # Under autocast normalisation gives float32; attention wants one type.
        queries = rotate(F.rms_norm(queries, queries.shape[-1:]), *angles).to(values.dtype)
        keys = rotate(F.rms_norm(keys, keys.shape[-1:]), *angles).to(values.dtype)
        if cache is not None:
            keys, values = cache.extend(keys, values, start)
        # With a cache a single new token looks at all before it; a prompt starts from an empty cache.
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, is_causal=T > 1, enable_gqa=self.kv_heads < self.heads
        )
        return self.out(mixed.transpose(1, 2).reshape(B, T, D))

    def _feed_forward(self, read_BTD: Tensor) -> Tensor:
        hidden = self.gate_up(read_BTD)
        if self.activation == "swiglu":
            gate, up = hidden.chunk(2, dim=-1)
            return self.down(F.silu(gate) * up)
        return self.down(F.gelu(hidden) if self.activation == "gelu" else F.relu(hidden).square())


class Transformer(LanguageModel):
    """Predicts each token from the tokens before it."""

    def __init__(self, config: Config, spec: TokenSpec) -> None:
        super().__init__(spec, config.width, config.context, config.tied, config.conditional)
        self.config = config
        mixed = config.convolution_layers or config.layers
        self.blocks = nn.ModuleList(
            Block(config, config.convolution if number < mixed else 0) for number in range(config.layers)
        )

    def hidden_matrices(self) -> list[nn.Parameter]:
        """The projections of all blocks."""
        return [layer.weight for layer in self.blocks.modules() if isinstance(layer, nn.Linear)]

    def units(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def forward(
        self,
        tokens_BT: Tensor,
        caches: list[Cache] | None = None,
        start: int = 0,
        labels_B: Tensor | None = None,
    ) -> Tensor:
        """Logits of each next token: float32 (B, T, V); with caches, ``start`` tokens were read before."""
        positions_T = torch.arange(start, start + tokens_BT.shape[1], device=tokens_BT.device)
        angles = rotary(positions_T, self.config.width // self.config.heads)
        hidden_BTD = self.embedded(tokens_BT, labels_B)
        for number, block in enumerate(self.blocks):
            hidden_BTD = block(hidden_BTD, angles, caches[number] if caches else None, start)
        return self.predict(hidden_BTD)

    def nats(self, tokens_BT: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Negative log-likelihood of ``tokens[:, 1:]`` given all before and the label: float32 (B, T-1)."""
        labels_B = (conditions or {}).get("label")
        return cross_entropy(self(tokens_BT[:, :-1], labels_B=labels_B), tokens_BT[:, 1:])

    def sample(self, requests: Requests) -> list[list[int]]:
        """One token list a request, without boundary tokens."""
        caches: list[Cache] = []
        labels_B = requests.labels

        def begin(rows_B: Tensor) -> None:
            nonlocal labels_B
            labels_B = None if requests.labels is None else requests.labels[rows_B]

        def next_logits(tokens_BT: Tensor, start: int) -> Tensor:
            if start == 0:
                caches[:] = [Cache(self.context) for _ in self.blocks]
            return self(tokens_BT, caches, start, labels_B)[:, -1]

        return generate(next_logits, requests, self.spec, self.context, begin=begin)
