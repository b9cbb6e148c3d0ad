"""The page on parts is true for conditions: a family that heeds captions goes through the line and answers requests."""

import io

import miniature
import numpy as np
import pandas as pd
import partpage
import pytest
from conftest import Project
from PIL import Image

from genfoundry.config.conditions import Text
from genfoundry.config.specs import parse_spec
from genfoundry.core.io import read_json, read_table

CAPTIONS = ("a bar that lies", "a bar that stands", "a bar that leans")


def write_captions(project: Project) -> None:
    """``data/captions/bars.parquet``: 240 pictures with their captions."""
    generator = np.random.Generator(np.random.PCG64(3))
    rows = []
    for number in range(240):
        buffer = io.BytesIO()
        Image.fromarray(miniature.picture(number % 3, generator)).save(buffer, "PNG")
        rows.append({"image": buffer.getvalue(), "caption": CAPTIONS[number % 3]})
    folder = project.root / "data/captions"
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "bars.parquet")
    project.dvc("add", "-q", "data")


ANSWER = """
import sys
from pathlib import Path
import numpy as np
from genfoundry.core.errors import ConfigError
from genfoundry.promotion.requests import Sampled
model = Sampled.beside(Path("artifacts/models/captioned-bars/model/manifest.json"))
found = [model.answer([{"n": 30, "caption": caption}]) for caption in sys.argv[1:]]
np.save("answers.npy", np.stack([model.answer([{"n": 30}]), *found]))
for wrong in ({"caption": 3}, {"label": "h"}, {"captoin": "x"}):
    try:
        model.answer([wrong])
    except ConfigError as error:
        print(error)
"""


@pytest.fixture()
def captioned(project: Project) -> Project:
    """A project whose default samples are drawn by caption."""
    write_captions(project)
    partpage.add(project, "A condition")
    project.genfoundry("check")
    project.dvc("repro", "evaluate@captioned-bars", timeout=600)
    return project


def test_a_family_that_heeds_captions_goes_through_the_line(captioned: Project) -> None:
    root = captioned.root
    spec = parse_spec(read_json(root / "artifacts/models/captioned-bars/model/spec.json"))
    assert spec.conditions == {"caption": Text(length=24, examples=tuple(sorted(CAPTIONS)))} and not spec.labels
    arrays = root / "artifacts/datasets/captions/arrays"
    captions = np.load(arrays / "train_condition_caption.npy")
    index = read_table(root / "artifacts/datasets/captions/index/train.parquet")
    assert len(captions) == len(np.load(arrays / "train.npy"))
    for row, caption in zip(captions, index["caption"], strict=True):
        assert bytes(int(one) - 1 for one in row if one) == caption.encode()

    samples = np.load(root / "artifacts/models/captioned-bars/samples/samples.npy").astype(float)
    asked = read_table(root / "artifacts/models/captioned-bars/samples/index.parquet")["caption"]
    assert set(asked) == set(CAPTIONS)
    real = np.load(arrays / "train.npy").astype(float)
    means = {caption: real[(index["caption"] == caption).to_numpy()].mean(0) for caption in CAPTIONS}
    for caption in CAPTIONS:
        mine = samples[(asked == caption).to_numpy()].mean(0)
        distances = {other: float(np.abs(mine - mean).mean()) for other, mean in means.items()}
        assert min(distances, key=lambda name: distances[name]) == caption, distances
    assert any(name.startswith("fid_domain@") for name in read_json(root / "reports/models/captioned-bars/scores.json"))

    (root / "ask.py").write_text(ANSWER)
    said = captioned.run("python", "ask.py", *CAPTIONS, PYTHONPATH="src").stdout
    unasked, *answers = np.load(root / "answers.npy")
    assert np.array_equal(unasked, samples[:30])
    for caption, answer in zip(CAPTIONS, answers, strict=True):
        turn = [number for number, name in enumerate(asked[:30]) if name == caption]
        assert turn and np.array_equal(answer[turn], samples[turn])
    assert "caption is 3; needs a text" in said
    assert "label is 'h': the model knows none" in said and "unknown key 'captoin'" in said
