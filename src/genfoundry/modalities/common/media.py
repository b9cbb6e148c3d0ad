"""Interface of a modality's ``media.Media``: how samples are shown, stored and requested.

What comes after ``encode`` shows, stores, logs and offers samples through it, and knows no kind of data. A modality
whose models see grids takes ``GridMedia``, and overrides ``exhibit`` where a picture is not enough; one of texts takes
``TextMedia``.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from genfoundry.config.specs import DataSpec, GridSpec, Section, TokenSpec
from genfoundry.core.errors import DataError
from genfoundry.core.io import canonical_json
from genfoundry.modalities.common.exhibits import SHEET, SHOWN_TEXTS, Exhibit

GRIDS, TEXTS = "samples.npy", "samples.jsonl"
"""Samples as the sample stage keeps them."""

CELL = 48
"""Least pixels of a picture's side in a sheet: small pictures are enlarged by whole factors."""


MOST = 1024
"""Samples of one request."""


class GridRequest(Section):
    """A request for grids; beside these fields it may name conditions of the spec, which otherwise come in turn."""

    n: int = Field(default=1, ge=1, le=MOST)
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Sample i is that of the sample stage with the same ``sampling.seed``."""


class TextRequest(Section):
    """A request for one text; it may name conditions as well."""

    prompt: str = ""
    """Text to continue; empty begins a new document."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens at most; without it 256, as in ``sampling.length``."""
    seed: int = Field(default=0, ge=0, lt=2**31)


class Media:
    """Samples of one spec."""

    at_once: ClassVar[int] = 36
    """Samples in a picture of training's progress."""
    shown: ClassVar[int] = 100
    """Samples in the report of the sample stage."""
    usual: ClassVar[int] = 0
    """Samples that are drawn where the settings name no number; 0: as many as there are test records."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    # ---------------------------------------------------------------------------------------------- to give
    def exhibit(self, sample: Any) -> Exhibit:
        """One sample, whole: what a rater compares, what a player plays."""
        raise NotImplementedError

    def sheet(self, samples: Sequence[Any], columns: int = 0) -> Exhibit:
        """Many samples at a glance; ``columns`` of them in a row, where there are rows."""
        raise NotImplementedError

    def words(self) -> str:
        """What a model of this spec does, as a sentence without a full stop."""
        raise NotImplementedError

    def request(self, labelled: bool) -> dict[str, Any]:
        """A request as an example: its fields, and by their values their types.

        Args:
            labelled: Whether the model heeds labels.
        """
        raise NotImplementedError

    def conditions(self, labelled: bool) -> dict[str, Any]:
        """Those that a request may name, as an example: the label only where the model heeds it."""
        label = {"label": self.spec.labels[0]} if labelled and self.spec.labels else {}
        return label | {name: one.in_turn(1)[0] for name, one in self.spec.conditions.items()}

    def answers(self) -> dict[str, Any]:
        """Form of an answer: ``dtype`` and ``shape`` of an array whose rows are -1, or an example of a row's fields."""
        raise NotImplementedError

    # ---------------------------------------------------------------------------------------------- samples
    def decoded(self, drawn: Any) -> Sequence[Any]:
        """What a generator drew, as the samples that the other functions take."""
        raise NotImplementedError

    def contents(self, samples: Sequence[Any]) -> list[bytes]:
        """Bytes of each sample: two samples are the same if these are."""
        raise NotImplementedError

    def write(self, folder: Path, samples: Sequence[Any], facts: Sequence[Mapping[str, Any]]) -> None:
        """Write the samples of the sample stage.

        Args:
            folder: Where to.
            samples: N of them.
            facts: Of each: id, seed, and what else its drawing gave (prompt, tokens); grids have no room for them.
        """
        raise NotImplementedError

    def read(self, folder: Path) -> Sequence[Any]:
        """The samples that ``write`` left.

        Raises:
            DataError: They are missing, or not of this spec.
        """
        raise NotImplementedError

    def report(self, folder: Path, samples: Sequence[Any]) -> None:
        """Write what the report shows of the samples: files that ``exhibits`` reads."""
        self.sheet(samples[: self.shown]).save(folder / SHEET)

    def unlike(self, other: "Media") -> str:
        """Why samples of both can't stand side by side before a rater, or nothing."""
        return ""


class GridMedia(Media):
    """Samples that are levels of a grid: arrays (N, C, *shape) of the spec's storage."""

    spec: GridSpec
    played: ClassVar[int] = 0
    """Samples that the report also holds one by one, where a picture is not enough (sound, film)."""

    def picture(self, levels: np.ndarray) -> np.ndarray:
        """One sample as a picture: uint8 (H, W) or (H, W, 3) of stored levels (C, *shape).

        One axis is drawn as a line over it; two are shown as they are, 3 channels in colour, others as their mean; of
        more axes the first of each further one is taken, as the first frame of a film.
        """
        bottom, top = self.spec.levels
        if levels.ndim == 2:
            return curve((levels.astype(np.float64) - bottom) / (top - bottom))
        while levels.ndim > 3:
            levels = levels[:, 0]
        shades = levels.transpose(1, 2, 0) if len(levels) == 3 else levels.mean(axis=0)
        if self.spec.storage != "uint8":
            shades = np.clip((shades.astype(np.float64) - bottom) * (255 / (top - bottom)) + 0.5, 0, 255)
        return shades.astype(np.uint8)

    def exhibit(self, sample: np.ndarray) -> Exhibit:
        """Its picture."""
        return Exhibit("image/png", png(self.picture(sample)))

    def sheet(self, samples: Sequence[np.ndarray], columns: int = 0) -> Exhibit:
        """Pictures side by side with a thin gap."""
        return Exhibit("image/png", png(side_by_side([self.picture(np.asarray(one)) for one in samples], columns)))

    def words(self) -> str:
        shape = " x ".join(str(size) for size in (self.spec.channels, *self.spec.shape))
        kind = {"uint8": "8 bits", "int16": "16 bits", "float16": "16 bits, floating"}[self.spec.storage]
        labels = f", of {len(self.spec.labels)} classes: {', '.join(self.spec.labels)}" if self.spec.labels else ""
        return f"It draws grids of {shape} (channels first, {kind}){labels}"

    def request(self, labelled: bool) -> dict[str, Any]:
        """How many samples, a seed and conditions."""
        return GridRequest(n=2).model_dump() | self.conditions(labelled)

    def answers(self) -> dict[str, Any]:
        return {"dtype": self.spec.storage, "shape": (-1, self.spec.channels, *self.spec.shape)}

    def decoded(self, drawn: Any) -> np.ndarray:
        return np.asarray(drawn)

    def contents(self, samples: Sequence[Any]) -> list[bytes]:
        return [np.ascontiguousarray(sample).tobytes() for sample in samples]

    def write(self, folder: Path, samples: Sequence[Any], facts: Sequence[Mapping[str, Any]]) -> None:
        np.save(folder / GRIDS, np.asarray(samples), allow_pickle=False)

    def read(self, folder: Path) -> np.ndarray:
        file = folder / GRIDS
        if not file.is_file():
            raise DataError(f"{file}: no such file; run dvc repro")
        levels = np.load(file, allow_pickle=False)
        if levels.dtype != self.spec.dtype or levels.shape[1:] != (self.spec.channels, *self.spec.shape):
            raise DataError(
                f"{file}: samples are {levels.dtype} {levels.shape}, the spec says {self.spec.storage} "
                f"(N, {self.spec.channels}, {', '.join(map(str, self.spec.shape))}); run dvc repro"
            )
        return levels

    def report(self, folder: Path, samples: Sequence[Any]) -> None:
        super().report(folder, samples)
        for number, sample in enumerate(samples[: self.played]):
            self.exhibit(sample).save(folder / f"sample-{number:03d}")

    def unlike(self, other: Media) -> str:
        mine, theirs = ((one.spec.channels, *one.spec.shape) for one in (self, other))  # type: ignore[union-attr]
        return f"shapes {mine} and {theirs}" if mine != theirs else ""


class TextMedia(Media):
    """Samples that are texts; what a generator drew has a ``text`` and ``tokens``."""

    spec: TokenSpec
    at_once, shown, usual = 4, 8, 64

    def exhibit(self, sample: str) -> Exhibit:
        """The text."""
        return Exhibit("text/plain", sample.encode())

    def sheet(self, samples: Sequence[str], columns: int = 0) -> Exhibit:
        """One after the other, with a line between."""
        return Exhibit("text/plain", ("\n\n--------\n\n".join(samples) + "\n").encode())

    def words(self) -> str:
        return f"It continues texts, with a vocabulary of {self.spec.vocab_size:,} tokens"

    def request(self, labelled: bool) -> dict[str, Any]:
        """A prompt, a length, a seed and conditions."""
        return TextRequest(max_tokens=64).model_dump() | self.conditions(labelled)

    def answers(self) -> dict[str, Any]:
        return {"text": ""}

    def decoded(self, drawn: Sequence[Any]) -> list[str]:
        return [str(one.text) for one in drawn]

    def contents(self, samples: Sequence[str]) -> list[bytes]:
        return [text.encode() for text in samples]

    def write(self, folder: Path, samples: Sequence[str], facts: Sequence[Mapping[str, Any]]) -> None:
        """One line a sample: its facts, its text, its tokens."""
        lines = ""
        for told, text in zip(facts, samples, strict=True):
            row = {**{name: value for name, value in told.items() if name != "tokens"}, "text": text}
            lines += json.dumps({**row, "tokens": told["tokens"]}, ensure_ascii=False) + "\n"
        (folder / TEXTS).write_text(lines, encoding="utf-8", newline="\n")

    def read(self, folder: Path) -> list[str]:
        file = folder / TEXTS
        if not file.is_file():
            raise DataError(f"{file}: no such file; run dvc repro")
        with file.open(encoding="utf-8") as lines:
            return [str(json.loads(line)["text"]) for line in lines]

    def report(self, folder: Path, samples: Sequence[str]) -> None:
        (folder / SHOWN_TEXTS).write_bytes(canonical_json({"texts": list(samples[: self.shown])}))


def png(levels: np.ndarray) -> bytes:
    """PNG of uint8 (H, W) or (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(levels)).save(buffer, "PNG")
    return buffer.getvalue()


def curve(heights_CT: np.ndarray) -> np.ndarray:
    """A line over one axis, all channels in one: uint8 (CELL, at most 2 CELL), dark on white, of heights in [0, 1]."""
    length = heights_CT.shape[1]
    starts = np.unique(np.linspace(0, length, 2 * CELL, endpoint=False).astype(np.int64))
    rows = np.clip(np.round((1 - heights_CT) * (CELL - 1)), 0, CELL - 1)
    first, last = np.minimum.reduceat(rows.min(axis=0), starts), np.maximum.reduceat(rows.max(axis=0), starts)
    # Each column reaches to where the one before it ends, so that the line has no gaps.
    first[1:], last[1:] = np.minimum(first[1:], last[:-1]), np.maximum(last[1:], first[:-1])
    places = np.arange(CELL)[:, None]
    return np.where((places >= first) & (places <= last), 40, 255).astype(np.uint8)


def side_by_side(pictures: Sequence[np.ndarray], columns: int = 0) -> np.ndarray:
    """A sheet of pictures of one size with a thin white gap, small ones enlarged: uint8 (H, W) or (H, W, 3)."""
    count, (height, width, *colours) = len(pictures), pictures[0].shape
    columns = columns or math.ceil(math.sqrt(count))
    scale = max(math.ceil(CELL / max(height, width)), 1)
    rows, gap = math.ceil(count / columns), 2
    cell_h, cell_w = height * scale + gap, width * scale + gap
    sheet = np.full((rows * cell_h + gap, columns * cell_w + gap, *colours), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * cell_h + gap, number % columns * cell_w + gap
        sheet[top : top + height * scale, left : left + width * scale] = picture.repeat(scale, 0).repeat(scale, 1)
    return sheet
