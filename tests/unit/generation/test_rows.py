"""The same request gives the same bytes alone, among others, in any place: all families at the sizes of params.yaml."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genfoundry.config import params
from genfoundry.config.params import family_section
from genfoundry.config.sections.sampling import Sampling
from genfoundry.config.specs import DataSpec, GridSpec, TokenSpec
from genfoundry.core import parts
from genfoundry.generation.generator import draw
from genfoundry.nn.contract import Model, Requests
from genfoundry.nn.rows import Chunk, fixed_rows

TREE = params.load(Path(__file__).resolve().parents[3])
GRID = GridSpec(channels=1, shape=(8, 8), labels=tuple("0123456789"))
TOKENS = TokenSpec(vocab_size=1024)
BRIEF: dict[str, Any] = {"steps": 3, "length": 6, "temperature": 1.0}
"""Options that keep a draw short: denoising steps, tokens."""


def test_every_chunk_is_full_and_of_one_kind() -> None:
    chunks = list(fixed_rows("aababca", 2))

    assert chunks == [
        Chunk([0, 1], 2),
        Chunk([3, 6], 2),
        Chunk([2, 4], 2),
        Chunk([5, 5], 1),
    ]
    assert list(fixed_rows([], 2)) == []


@cache
def make(key: str) -> tuple[Model, DataSpec]:
    """A model with the options of its block and weights that no layer begins with: none of them is zero."""
    block = TREE.models[key]
    module, spec = parts.load("models", block.family), GRID if block.dataset == "digits" else TOKENS
    torch.manual_seed(3)
    model: Model = module.build(module.Config(**block.options), spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model, spec


def drawn(key: str, seeds: Sequence[int], rows: int = 32) -> dict[int, bytes]:
    """What came of each seed, to the last bit: the picture as floats; the text and the logits of all its tokens."""
    model, spec = make(key)
    found: dict[int, bytes] = {}
    logits: list[Tensor] = []
    sample = type(model).sample

    def kept(requests: Requests) -> Tensor | list[list[int]]:
        logits.clear()
        result = sample(model, requests)
        for row, seed in enumerate(requests.seeds.tolist()):
            made = result[row]
            if isinstance(made, Tensor):
                found[seed] = made.numpy().tobytes()
            else:
                told = torch.stack([step[row, -1] for step in logits[: max(len(made), 1)]])
                found[seed] = str(made).encode() + told.numpy().tobytes()
        return result

    known = family_section(TREE.models[key].family, Sampling).model_fields
    hook = model.register_forward_hook(lambda module, args, output: logits.append(output))
    model.sample = kept  # type: ignore[method-assign]
    try:
        draw(
            model,
            spec,
            torch.tensor(seeds),
            {name: value for name, value in BRIEF.items() if name in known},
            rows,
            # Of several lengths; and texts end at different times.
            prompts=[[7, 8, 9][: seed % 2 * 3] for seed in seeds] if spec is TOKENS else (),
            stopped=(lambda tokens: tokens[-1] % 16 == 0) if spec is TOKENS else None,
            conditions={"label": torch.tensor(seeds) % 10} if spec is GRID else {},
        )
    finally:
        hook.remove()
        del model.sample
    return found


def different(key: str, seeds: Sequence[int], sizes: Sequence[int], alone: int, rows: int = 32) -> dict[int, int]:
    """How many come out otherwise in requests of each size, their order shuffled, than all at once."""
    whole = drawn(key, seeds, rows)
    mixed = [seeds[place] for place in torch.randperm(len(seeds), generator=torch.Generator().manual_seed(1)).tolist()]
    counts = {}
    for size in sizes:
        asked = mixed[:alone] if size == 1 else mixed
        counts[size] = 0
        for start in range(0, len(asked), size):
            again = drawn(key, asked[start : start + size], rows)
            counts[size] += sum(again[seed] != whole[seed] for seed in again)
    return counts


@pytest.mark.parametrize("key", TREE.models)
def test_a_sample_does_not_depend_on_the_others(key: str) -> None:
    few = 96 if TREE.models[key].dataset == "digits" else 40
    assert different(key, range(few), (1, 3, 16, 64), alone=4) == {1: 0, 3: 0, 16: 0, 64: 0}


@pytest.mark.long
@pytest.mark.parametrize("key", TREE.models)
def test_none_of_ten_thousand_samples_depends_on_the_others(key: str) -> None:
    """Shuffled, in requests of 1 to 64 and of 256 samples, against all in order at once."""
    seeds = range(10_000)
    whole = drawn(key, seeds)
    chance = torch.Generator().manual_seed(1)
    left, differ = torch.randperm(len(seeds), generator=chance).tolist(), 0
    while left:
        size = int(torch.randint(1, 66, (), generator=chance))
        asked, left = left[: 256 if size == 65 else size], left[256 if size == 65 else size :]
        again = drawn(key, asked)
        differ += sum(again[seed] != whole[seed] for seed in asked)
    differ += sum(drawn(key, [seed])[seed] != whole[seed] for seed in seeds[:64])

    assert differ == 0
