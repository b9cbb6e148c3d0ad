"""Recurrent language model: residual GRU or LSTM layers over tokens, with normalised inputs.

Cho et al. 2014 (arXiv:1406.1078); Hochreiter and Schmidhuber 1997 (doi:10.1162/neco.1997.9.8.1735); truncated
backpropagation through time: Williams and Peng 1990 (doi:10.1162/neco.1990.2.4.490). The state starts anew at each
window of ``context`` tokens, so that a step of training stays a pure function of its number; within the window it goes
on from piece to piece of ``truncate`` tokens. Letters: B batch, T tokens, V vocabulary, D width.
"""

import operator
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from genfoundry.config.specs import DataSpec, Section, TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.nn.contract import Requests
from genfoundry.nn.decoding import TextSampling, generate
from genfoundry.nn.dropout import Dropout
from genfoundry.nn.language import LanguageModel, cross_entropy

Sampling = TextSampling

State = Tensor | tuple[Tensor, Tensor]
"""Hidden state (1, B, D) of a GRU; hidden state and cell of an LSTM."""


class Config(Section):
    cell: Literal["gru", "lstm"] = "gru"
    """Recurrent cell."""
    width: int = Field(default=256, ge=1)
    """Width of the embedding and of the hidden state, D."""
    layers: int = Field(default=2, ge=1)
    """Recurrent layers."""
    context: int = Field(default=256, ge=2)
    """Tokens of a window: as far as training and scoring look back."""
    truncate: int = Field(default=0, ge=0)
    """Tokens through which the gradient goes back; 0 takes the whole window."""
    tied: bool = False
    """Predict with the embedding's own matrix."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Behind the embedding and behind each layer."""
    # Left out of config.json where it is false: a model without labels keeps its digest.
    conditional: bool = Field(default=False, exclude_if=operator.not_)
    """Condition on the label: its embedding is added to that of each token."""


def build(config: Config, spec: DataSpec) -> "RNN":
    """Build the model; raise ConfigError for data it cannot learn from."""
    if not isinstance(spec, TokenSpec):
        raise ConfigError(f"model rnn: needs tokens, got {spec!r}; choose modality text or code")
    return RNN(config, spec)


class Layer(nn.Module):
    """One recurrent layer on normalised inputs, added to them."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        kind = nn.GRU if config.cell == "gru" else nn.LSTM
        self.norm = nn.RMSNorm(config.width)
        self.cell = kind(config.width, config.width, batch_first=True)
        self.dropout = Dropout(config.dropout)
        if config.cell == "lstm":
            # Forget nothing at first (Jozefowicz et al. 2015); the gates stand as input, forget, cell, output.
            with torch.no_grad():
                self.cell.bias_ih_l0[config.width : 2 * config.width] = 1.0

    def forward(self, hidden_BTD: Tensor, state: State | None) -> tuple[Tensor, State]:
        read_BTD, state = self.cell(self.norm(hidden_BTD), state)
        return hidden_BTD + self.dropout(read_BTD), state


class RNN(LanguageModel):
    """Predicts each token from the tokens before it."""

    def __init__(self, config: Config, spec: TokenSpec) -> None:
        super().__init__(spec, config.width, config.context, config.tied, config.conditional)
        self.config = config
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))

    def hidden_matrices(self) -> list[nn.Parameter]:
        """What maps hidden states to gates, in all layers."""
        return [parameter for parameter in self.layers.parameters() if parameter.ndim == 2]

    def units(self) -> list[nn.Module]:
        """The layers."""
        return list(self.layers)

    def forward(
        self, tokens_BT: Tensor, states: list[State | None] | None = None, labels_B: Tensor | None = None
    ) -> Tensor:
        """Logits of each next token: (B, T, V); ``states``, one a layer, are where to go on, then where it ended."""
        states = states if states is not None else [None] * len(self.layers)
        hidden_BTD = self.dropout(self.embedded(tokens_BT, labels_B))
        for number, layer in enumerate(self.layers):
            hidden_BTD, states[number] = layer(hidden_BTD, states[number])
        return self.predict(hidden_BTD)

    def nats(self, tokens_BT: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Negative log-likelihood of ``tokens[:, 1:]`` given the window before and the label: float32 (B, T-1)."""
        labels_B = (conditions or {}).get("label")
        states: list[State | None] = [None] * len(self.layers)
        pieces = []
        for piece_BT in tokens_BT[:, :-1].split(self.config.truncate or self.context, dim=1):
            pieces.append(self(piece_BT, states, labels_B))
            states = [_detached(state) for state in states]
        return cross_entropy(torch.cat(pieces, dim=1), tokens_BT[:, 1:])

    def sample(self, requests: Requests) -> list[list[int]]:
        """One token list a request, without boundary tokens; the state goes on for as long as the text does."""
        states: list[State | None] = []
        labels_B = requests.labels

        def begin(rows_B: Tensor) -> None:
            nonlocal labels_B
            labels_B = None if requests.labels is None else requests.labels[rows_B]

        def next_logits(tokens_BT: Tensor, start: int) -> Tensor:
            if start == 0:
                states[:] = [None] * len(self.layers)
            return self(tokens_BT, states, labels_B)[:, -1]

        return generate(next_logits, requests, self.spec, self.context, recurrent=True, begin=begin)


def _detached(state: State | None) -> State | None:
    """The state without its history."""
    return tuple(part.detach() for part in state) if isinstance(state, tuple) else state.detach()
