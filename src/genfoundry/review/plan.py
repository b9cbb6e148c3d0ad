"""The plan of a review: pairs of samples, their sides and their order.

Balanced over pairs of models, also in every prefix, so that a rater who stops early is still of use. Samples are
matched by label if all models heed labels, else by seed if all share seeds. Sides are drawn so that each model stands
on each side equally often in every pair of models; a share of the pairs comes again later with sides swapped, as a
check of the rater. The plan is the key that says what is which: raters get the page, never the plan.
"""

import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import FORMAT, digest_of, folder_digest, read_json, read_table, verify_folder
from genfoundry.core.paths import ModelPaths
from genfoundry.modalities.common.lookup import media_of_samples
from genfoundry.modalities.common.media import Media

PLAN, PAGE, ANSWERS = "plan.json", "review.html", "answers.jsonl"
"""Files of a review's folder: the private key, the page for raters, what the server appends to."""

CHECKS = 0.1
"""Share of pairs shown a second time with sides swapped."""

SHOWN_CHARACTERS = 1500
"""Characters of a text that are shown; longer ones are cut, on both sides alike."""


@dataclass(frozen=True)
class Samples:
    """A model's samples, as raters will see them."""

    key: str
    media: Media
    digest: str
    """Of the published folder."""
    model: str
    """Digest of the model's folder; empty if it is not there."""
    ids: Sequence[str]
    seeds: Sequence[int]
    labels: Sequence[str | None]
    contents: Sequence[Any]
    """N samples, as ``media`` reads them."""

    @cached_property
    def kind(self) -> str:
        """What a rater sees or hears: picture, text, sound or film."""
        return self.media.exhibit(self.contents[0]).kind

    def sha256(self, row: int) -> str:
        (content,) = self.media.contents([self.contents[row]])
        return hashlib.sha256(content).hexdigest()


def read_samples(root: Path, key: str) -> Samples:
    """The published samples of a model, every byte checked against the manifest.

    Raises:
        DataError: They are missing, damaged, or not what their model draws.
    """
    paths = ModelPaths(root, key)
    folder = paths.samples
    if not folder.is_dir():
        raise DataError(f"{folder}: no samples of {key}; run `dvc repro sample@{key}`")
    digest = verify_folder(folder)
    index = read_table(folder / "index.parquet", ["id", "seed", "label"])
    media = media_of_samples(folder, paths.model)
    contents = media.read(folder)
    if len(index) != len(contents):
        raise DataError(f"{folder}: {len(contents)} samples, but {len(index)} rows in index.parquet; run dvc repro")
    labels = [label if isinstance(label, str) else None for label in index["label"]]
    model = folder_digest(paths.model) if paths.model.is_dir() else ""
    return Samples(key, media, digest, model, index["id"].tolist(), index["seed"].tolist(), labels, contents)


def comparable(samples: Sequence[Samples]) -> None:
    """Raise ConfigError for samples that can't be compared side by side, or whose size would identify a model."""
    kinds = {one.key: one.kind for one in samples}
    if len(set(kinds.values())) > 1:
        raise ConfigError(f"review: {kinds}; compare pictures with pictures and texts with texts")
    for one in samples[1:]:
        if facts := samples[0].media.unlike(one.media):
            raise ConfigError(f"review: {samples[0].key} and {one.key} have {facts}; a rater would see which is which")


def matching(samples: Sequence[Samples]) -> str:
    """``label``, ``seed`` or ``none``: what the two samples of a pair have in common."""
    if all(None not in one.labels for one in samples):
        return "label"
    shared = set.intersection(*(set(one.seeds) for one in samples))
    return "seed" if len(shared) >= min(len(one.seeds) for one in samples) else "none"


def _matches(
    first: Samples, second: Samples, matched: str, rng: np.random.Generator
) -> Iterator[tuple[int, int, str | None]]:
    """Rows of two models to compare and their common label, in random order; no row comes twice."""
    if matched == "label":
        common = sorted(set(first.labels) & set(second.labels), key=str)
        queues = {label: (_rows(first.labels, label, rng), _rows(second.labels, label, rng)) for label in common}
        while common:
            for place in rng.permutation(len(common)):
                left, right = queues[common[place]]
                if left and right:
                    yield left.pop(), right.pop(), common[place]
            common = [label for label in common if all(queues[label])]
    elif matched == "seed":
        rows = [{seed: row for row, seed in enumerate(one.seeds)} for one in (first, second)]
        shared = sorted(rows[0].keys() & rows[1].keys())
        yield from ((rows[0][shared[n]], rows[1][shared[n]], None) for n in rng.permutation(len(shared)))
    else:
        pairs = zip(rng.permutation(len(first.ids)), rng.permutation(len(second.ids)), strict=False)
        yield from ((int(left), int(right), None) for left, right in pairs)


def _rows(labels: Sequence[str | None], label: str | None, rng: np.random.Generator) -> list[int]:
    return [int(row) for row in rng.permutation([row for row, name in enumerate(labels) if name == label])]


def build_plan(samples: Sequence[Samples], count: int, seed: int, checks: float = CHECKS, question: str = "") -> dict:
    """The plan: ``models``, ``items`` in the order they are shown, and how they were chosen.

    Args:
        samples: Of two or more models.
        count: Different pairs to show; the checks come on top.
        seed: Of everything that is drawn; equal arguments give an equal plan.
        checks: Share of pairs shown again, 0 to 0.33.
        question: What raters are asked; empty for the usual one.

    Raises:
        ConfigError: Fewer than two models, a count too small to be balanced, or samples that differ in kind or shape.
        DataError: Too few samples for so many pairs.
    """
    keys = [one.key for one in samples]
    duels = list(itertools.combinations(range(len(samples)), 2))
    if len(set(keys)) < max(len(keys), 2):
        raise ConfigError(f"review: models {keys}; name two or more different ones")
    if not len(duels) <= count <= 10_000 or not 0 <= checks <= 0.33:
        raise ConfigError(
            f"review: {count} pairs with {checks:.0%} of them repeated; give {len(duels)} (one for each pair of "
            "models) to 10000 pairs and a share of at most 0.33"
        )
    comparable(samples)
    rng = np.random.default_rng(seed)
    matched = matching(samples)
    items = _ordered(_duel_items(samples, duels, count, matched, rng), duels, count, rng)
    for item in items:
        item["id"] = rng.bytes(8).hex()
    return {
        "format": FORMAT,
        "kind": samples[0].kind,
        "question": question.strip() or f"Which {samples[0].kind} is better?",
        "seed": seed,
        "matched": matched,
        "shown_characters": SHOWN_CHARACTERS,
        "models": {one.key: {"samples": one.digest, "model": one.model} for one in samples},
        "items": _with_checks(items, round(checks * count), rng),
    }


def _duel_items(
    samples: Sequence[Samples], duels: Sequence[tuple[int, int]], count: int, matched: str, rng: np.random.Generator
) -> list[list[dict[str, Any]]]:
    """Enough items of each pair of models; each model stands left in half of them."""
    each = -(-count // len(duels))
    drawn = []
    for first, second in duels:
        one, other = samples[first], samples[second]
        rows = list(itertools.islice(_matches(one, other, matched, rng), each))
        if len(rows) < each:
            raise DataError(
                f"review: {each} pairs of {one.key} and {other.key} wanted, their samples give {len(rows)} "
                f"(matched by {matched}); ask for fewer pairs or draw more samples (sampling.n)"
            )
        swap = rng.permutation((np.arange(each) + rng.integers(2)) % 2).astype(bool)
        items = []
        for (a, b, label), swapped in zip(rows, swap, strict=True):
            sides = [_side(one, a), _side(other, b)]
            left, right = reversed(sides) if swapped else sides
            items.append({"left": left, "right": right, "label": label, "repeats": None})
        drawn.append(items)
    return drawn


def _side(samples: Samples, row: int) -> dict[str, Any]:
    return {"model": samples.key, "sample": samples.ids[row], "row": row, "sha256": samples.sha256(row)}


def _ordered(
    drawn: Sequence[list[dict[str, Any]]], duels: Sequence[Any], count: int, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Blocks that hold every pair of models once, in random order inside, so that every prefix is balanced."""
    order = [duel for _ in range(-(-count // len(duels))) for duel in rng.permutation(len(duels))][:count]
    queues = [iter(items) for items in drawn]
    return [next(queues[duel]) for duel in order]


def _with_checks(items: list[dict[str, Any]], wanted: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Repeats of pairs of the first third, sides swapped, at random places of the last half."""
    shown = list(items)
    third = max(len(items) // 3, 1)
    for number in sorted(rng.choice(third, min(wanted, third), replace=False)):
        item = items[number]
        again = {**item, "left": item["right"], "right": item["left"], "repeats": item["id"], "id": rng.bytes(8).hex()}
        shown.insert(int(rng.integers(len(items) // 2, len(shown) + 1)), again)
    return shown


def plan_digest(plan: Mapping[str, Any]) -> str:
    """sha256 of the plan: every page and answer carries it."""
    return digest_of(dict(plan))


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan in a review's folder.

    Raises:
        ConfigError: The folder holds none, or of another format.
    """
    if not (folder / PLAN).is_file():
        raise ConfigError(f"{folder}: no {PLAN}; give the folder that `genfoundry review <models>` wrote")
    plan = read_json(folder / PLAN)
    if not isinstance(plan, dict) or plan.get("format") != FORMAT or not isinstance(plan.get("items"), list):
        raise ConfigError(f"{folder / PLAN}: no plan of format {FORMAT}; write the review again")
    return plan
