"""Draw samples from a published model: load, encode the prompt, draw, stop, decode; every caller uses this path.

The sample stage, the gate, servability, `mlflow models` and the pictures of a training's progress all draw by it, so
that what is judged is what is served: a request and its seed give the same bytes everywhere.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from genfoundry.config.params import family_section, parse
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import DataSpec, GridSpec, TokenSpec
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.generation.modelfile import LoadedModel, default_device, load_model
from genfoundry.generation.prompts import Ending
from genfoundry.modalities.common.tokens import FILE as TOKENIZER
from genfoundry.nn.contract import Model, Requests
from genfoundry.nn.decoding import TextSampling
from genfoundry.nn.rows import fixed_rows, one_thread

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEED_STRIDE = 2**32
"""Sample i of sampling seed s has seed s * 2**32 + i."""


class Text(NamedTuple):
    """A model's continuation of a prompt, up to the first stop sequence."""

    text: str
    tokens: list[int]
    """Those that lie wholly in the text; no boundary among them."""


@dataclass(frozen=True)
class Generator:
    """A loaded model with its sampling settings and tokenizer."""

    loaded: LoadedModel
    sampling: Sampling
    """The family's section: generator and protocol."""
    tokenizer: "Tokenizer | None" = None
    """Of a model of texts."""

    @classmethod
    def load(cls, folder: Path, settings: Mapping[str, Any], where: str = "params.yaml") -> "Generator":
        """The model of a published folder, every byte checked against its manifest.

        Args:
            folder: ``model/`` of the line, or one that was fetched from the registry.
            settings: Fields of the family's ``sampling`` section; what is missing takes its default.
            where: What the settings were read from, for messages.

        Raises:
            ConfigError: The folder holds no model, or the family does not know a field.
            DataError: The folder is damaged.
        """
        loaded = load_model(folder, default_device())
        sampling = parse(family_section(loaded.family, Sampling), settings, "sampling", where)
        return cls(loaded, sampling, read_tokenizer(folder))

    def limited(self, length: int) -> "Generator":
        """The same generator with at most ``length`` tokens a text."""
        return replace(self, sampling=self.sampling.model_copy(update={"length": length}))

    def draw(
        self,
        seeds_B: Tensor,
        conditions: Mapping[str, Tensor] | None = None,
        prompts: Sequence[str] = (),
        advance: Callable[[int], None] = lambda done: None,
    ) -> Tensor | list[Text]:
        """One sample a seed: levels of the spec's storage (B, C, *shape), or texts without their prompts.

        Args:
            seeds_B: int64 (B,).
            conditions: (B, ...) by name; by default ``conditions_of``.
            prompts: Texts to continue, in turn over the samples; none for new documents.
            advance: Called with the number of new samples.

        Raises:
            ConfigError: A prompt that the model can't read.
            DataError: A sample is not finite.
        """
        loaded, options, batch = self.loaded, self.sampling.model_dump(), self.sampling.batch
        if isinstance(loaded.spec, GridSpec):
            return draw(loaded.model, loaded.spec, seeds_B, options, batch, advance, conditions=conditions)
        assert self.tokenizer is not None
        stop = self.sampling.stop if isinstance(self.sampling, TextSampling) else ()
        ending = Ending(stop, self.tokenizer.decode)
        encoded, stopped = self.encode(prompts), ending.reached if stop else None
        found = draw(loaded.model, loaded.spec, seeds_B, options, batch, advance, encoded, stopped, conditions)
        texts = []
        for drawn in found:
            tokens, text = ending.cut(drawn)
            texts.append(Text(text, tokens))
        return texts

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Prompts as tokens.

        Raises:
            ConfigError: A prompt spells a boundary or a token that the model has not: the model would take it for
                something else than this text.
        """
        spec = self.loaded.spec
        assert isinstance(spec, TokenSpec) and self.tokenizer is not None
        encoded = [found.ids for found in self.tokenizer.encode_batch(list(prompts), add_special_tokens=False)]
        for prompt, tokens in zip(prompts, encoded, strict=True):
            if spec.boundary in tokens:
                raise ConfigError(
                    f"prompt {prompt[:40]!r} holds token {spec.boundary}, which stands between documents; take it out"
                )
            if tokens and max(tokens) >= spec.vocab_size:
                raise ConfigError(
                    f"prompt {prompt[:40]!r} holds token {max(tokens)}, the model knows {spec.vocab_size}; take it out"
                )
        return encoded


def read_tokenizer(folder: Path) -> "Tokenizer | None":
    """The tokenizer of a folder of a model or of arrays; None if it has none."""
    if not (folder / TOKENIZER).is_file():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / TOKENIZER))


def seeds_of(seed: int, count: int) -> Tensor:
    """Seeds of the first samples of a sampling seed: int64 (count,)."""
    return seed * SEED_STRIDE + torch.arange(count, dtype=torch.int64)


def conditions_of(spec: DataSpec, count: int, asked: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Conditions of ``count`` samples, (count, ...) by name: ``asked`` for all, defaults in turn for the others.

    Raises:
        ConfigError: A value is not what its condition takes.
    """
    asked = asked or {}
    return {
        name: torch.from_numpy(one.encode(name, [asked[name]] * count if name in asked else one.in_turn(count)))
        for name, one in spec.asked.items()
    }


def draw(
    model: Model,
    spec: DataSpec,
    seeds_B: Tensor,
    options: dict[str, Any],
    batch: int,
    advance: Callable[[int], None] = lambda done: None,
    prompts: Sequence[Sequence[int]] = (),
    stopped: Callable[[Sequence[int]], bool] | None = None,
    conditions: Mapping[str, Tensor] | None = None,
) -> Tensor | list[list[int]]:
    """One sample a seed: levels of the spec's storage (B, C, *shape), or token lists.

    Args:
        model: In eval mode.
        spec: Of its data.
        seeds_B: int64 (B,).
        options: The family's ``sampling`` section.
        batch: Rows of every matrix, whatever the number of requests: the bytes of a sample depend on it and on no other
            request.
        advance: Called with the number of new samples.
        prompts: Tokens to continue, in turn over the samples; none for new documents.
        stopped: Whether a text needs no more tokens.
        conditions: (B, ...) by name; by default ``conditions_of``.

    Raises:
        DataError: A sample is not finite.
    """
    conditions = conditions_of(spec, len(seeds_B)) if conditions is None else conditions
    device = next(model.parameters()).device
    asked = [prompts[row % len(prompts)] for row in range(len(seeds_B))] if prompts else None
    found: dict[int, Tensor | list[int]] = {}
    with torch.inference_mode(), one_thread():
        # Texts whose prompts are equally long are read together, so that nothing is padded.
        for rows, real in fixed_rows([len(prompt) for prompt in asked] if asked else [0] * len(seeds_B), batch):
            mine = {name: one[rows].to(device) for name, one in conditions.items()}
            given = [asked[row] for row in rows] if asked else None
            drawn = model.sample(Requests(seeds_B[rows].to(device), mine, given, options, stopped))
            if isinstance(spec, GridSpec):
                assert isinstance(drawn, Tensor)
                drawn = to_levels(drawn, spec)
            found.update(zip(rows[:real], drawn[:real], strict=True))
            advance(real)
    ordered = [found[row] for row in range(len(seeds_B))]
    return torch.stack(ordered) if isinstance(spec, GridSpec) else ordered  # type: ignore[arg-type, return-value]


def to_levels(grid: Tensor, spec: GridSpec) -> Tensor:
    """Values in the spec's range as stored levels of the spec's storage; whole levels are rounded to nearest."""
    if not torch.isfinite(grid).all():
        raise DataError(
            "sample: the model drew NaN or infinite values; look at its loss curve, lower training.optimizer.lr"
        )
    (low, high), (bottom, top) = spec.range, spec.levels
    levels = (grid - low) / (high - low) * (top - bottom) + bottom
    levels = levels if spec.dtype.kind == "f" else levels.round()
    return levels.clamp(bottom, top).to(getattr(torch, spec.storage)).cpu()


def to_range(levels: Tensor, spec: GridSpec) -> Tensor:
    """Stored levels as float32 in the spec's range."""
    (low, high), (bottom, top) = spec.range, spec.levels
    scale = (high - low) / (top - bottom)
    return levels.to(torch.float32) * scale + (low - bottom * scale)
