"""Small real-looking data for the miniature project: bars at several places as digits, sentences of a small grammar."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

WORDS = (
    ("the array", "a matrix", "each row", "the index", "this vector", "a column", "the kernel", "every token"),
    ("returns", "holds", "computes", "ignores", "copies", "splits", "orders", "merges"),
    ("the values", "its labels", "all copies", "the mean", "no duplicates", "a slice", "the weights", "the counts"),
    (
        "in place",
        "by default",
        "without a copy",
        "along the axis",
        "if asked",
        "for each group",
        "in float64",
        "at once",
    ),
)


def sentence(generator: np.random.Generator) -> str:
    return " ".join(str(generator.choice(choices)) for choices in WORDS) + "."


def document(generator: np.random.Generator) -> str:
    return " ".join(sentence(generator) for _ in range(int(generator.integers(3, 7))))


def picture(label: int, generator: np.random.Generator) -> np.ndarray:
    """uint8 (8, 8): a bright bar whose direction is the label, at a random place, with noise."""
    grid = np.zeros((8, 8))
    place = int(generator.integers(1, 7))
    if label == 0:
        grid[place, 1:7] = 1
    elif label == 1:
        grid[1:7, place] = 1
    else:
        rows = np.arange(1, 7)
        grid[rows, np.clip(rows + place - 4, 0, 7)] = 1
    return np.clip(grid * generator.uniform(180, 255) + generator.normal(0, 25, (8, 8)), 0, 255).astype(np.uint8)


def write(data: Path) -> None:
    """``bars/<label>/<n>.png`` (240 pictures and two that are none), ``notes/notes.jsonl`` (300 texts, 6 copies)."""
    generator = np.random.Generator(np.random.PCG64(7))
    for number in range(240):
        label = number % 3
        folder = data / "bars" / "hvd"[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(label, generator)).save(folder / f"{number:03d}.png")
    (data / "bars/h/broken.png").write_bytes(b"no picture at all")
    (data / "bars/v/empty.png").write_bytes(b"")
    texts = [document(generator) for _ in range(300)]
    texts += texts[:6]
    (data / "notes").mkdir()
    lines = [json.dumps({"id": f"n{number}", "text": text}) + "\n" for number, text in enumerate(texts)]
    (data / "notes/notes.jsonl").write_text("".join(lines))
