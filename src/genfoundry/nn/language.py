"""Base of language models: embedding, output head and NLL of the next token.

Letters: B batch, T tokens, V vocabulary, D width.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from genfoundry.config.specs import TokenSpec
from genfoundry.core.errors import ConfigError
from genfoundry.nn.contract import Batch, Loss, Model, Step, TokenBatch, nats_of


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Negative log-likelihood of each target in nats, float32 (B, T)."""
    # One row a token: over the middle of three dimensions a CPU takes longer.
    rows = logits_BTV.float().flatten(0, 1)
    return F.cross_entropy(rows, targets_BT.flatten(), reduction="none").view(targets_BT.shape)


class LanguageModel(Model):
    """A model that predicts each token from the tokens before it; its family writes ``nats`` and ``sample``."""

    def __init__(self, spec: TokenSpec, width: int, context: int, tied: bool, conditional: bool = False) -> None:
        """
        Args:
            spec: Of its data.
            width: D.
            context: Most tokens it looks at.
            tied: The head is the embedding's own matrix (Press and Wolf 2017, arXiv:1608.05859).
            conditional: An embedding of the label is added to that of each token.

        Raises:
            ConfigError: Conditional, but there are no labels.
        """
        super().__init__()
        self.spec, self.context = spec, context
        self.embed = nn.Embedding(spec.vocab_size, width)
        self.norm = nn.RMSNorm(width)
        self.head = nn.Linear(width, spec.vocab_size, bias=False)
        if tied:
            nn.init.normal_(self.embed.weight, std=width**-0.5)
            self.head.weight = self.embed.weight
        # Start from the uniform distribution, log V nats a token; a tied head can't be zero, so its gains are.
        nn.init.zeros_(self.norm.weight if tied else self.head.weight)
        self.label: nn.Embedding | None = None
        if conditional:
            self.heeds = ("label",)
            if not spec.labels:
                raise ConfigError(
                    f"model {self._family}: options.conditional is true, but the data set has no labels; set it to "
                    "false, or ingest.label_column"
                )
            # Made last: without it the weights are those that the seed gave before there were labels.
            self.label = nn.Embedding(len(spec.labels), width)
            nn.init.normal_(self.label.weight, std=width**-0.5 if tied else 1.0)

    @property
    def _family(self) -> str:
        return type(self).__module__.rpartition(".")[2]

    def embedded(self, tokens_BT: Tensor, labels_B: Tensor | None) -> Tensor:
        """What the first layer reads: (B, T, D).

        Raises:
            ConfigError: Conditional, but there are no labels.
        """
        hidden_BTD: Tensor = self.embed(tokens_BT)
        if self.label is None:
            return hidden_BTD
        if labels_B is None:
            raise ConfigError(
                f"model {self._family}: conditional, but no labels were given; name a label for each request"
            )
        return hidden_BTD + self.label(labels_B)[:, None]

    def predict(self, hidden_BTD: Tensor) -> Tensor:
        """Logits of each next token, (B, T, V)."""
        logits_BTV: Tensor = self.head(self.norm(hidden_BTD))
        return logits_BTV

    def nats(self, tokens_BT: Tensor, conditions: Mapping[str, Tensor] | None = None) -> Tensor:
        """Negative log-likelihood of ``tokens[:, 1:]`` given all before and the conditions: float32 (B, T-1)."""
        raise NotImplementedError

    def loss(self, name: str, batch: Batch, step: Step) -> Loss:
        """Mean negative log-likelihood of the next token, in nats."""
        assert isinstance(batch, TokenBatch)
        mask_BT = batch.mask[:, 1:]
        # Divide by the real tokens, not by B*T: padding must not dilute the loss.
        nats_BT = nats_of(self, batch.tokens, batch.conditions)
        return Loss((nats_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1), {})
