"""The user's own data, as the README shows it: a folder of images, a text file, JSONL, CSV, Parquet."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Project
from miniature import document

from genfoundry.core.io import read_all_records, read_json

BLOCK = """
  mine:
    modality: {modality}
    source: data/{source}
    ingest: {ingest}
    validation: {{}}
    preprocess: {preprocess}
    dedup: {{}}
    split: {{val: 0.2, test: 0.2}}
    encode: {encode}
    reference: {{features: 4, steps: 30}}
"""


def texts() -> list[str]:
    generator = np.random.Generator(np.random.PCG64(3))
    return [document(generator) for _ in range(60)]


def write_text(data: Path) -> str:
    (data / "mine.txt").write_text("\n\n".join(texts()))
    return "mine.txt"


def write_csv(data: Path) -> str:
    pd.DataFrame({"body": texts(), "lang": "en"}).to_csv(data / "mine.csv", index=False)
    return "mine.csv"


def write_parquet(data: Path) -> str:
    pd.DataFrame({"body": texts()}).to_parquet(data / "mine.parquet")
    return "mine.parquet"


def write_jsonl(data: Path) -> str:
    (data / "mine.jsonl").write_text("".join(json.dumps({"body": text}) + "\n" for text in texts()))
    return "mine.jsonl"


def write_images(data: Path) -> str:
    from PIL import Image

    generator = np.random.Generator(np.random.PCG64(3))
    for number in range(80):
        folder = data / "mine" / ("left", "right")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        colours = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        colours[:, : 8 if number % 2 else 16] //= 4
        Image.fromarray(colours).save(folder / f"{number}.{('png', 'jpg', 'bmp')[number % 3]}")
    return "mine"


CASES = {
    "text": (write_text, "text", "{chunk: 300}", "{}", "{vocab_size: 300}"),
    "csv": (write_csv, "text", "{text_column: body}", "{}", "{vocab_size: 300}"),
    "parquet": (write_parquet, "text", "{text_column: body}", "{}", "{vocab_size: 300}"),
    "jsonl": (write_jsonl, "text", "{text_column: body}", "{}", "{tokenizer: characters}"),
    "images": (write_images, "image", "{}", "{height: 8, width: 8, mode: RGB}", "{}"),
}


@pytest.mark.parametrize(
    "case", ["text", "images", *(pytest.param(case, marks=pytest.mark.long) for case in ("csv", "parquet", "jsonl"))]
)
def test_own_data_become_arrays(project: Project, case: str) -> None:
    write, modality, ingest, preprocess, encode = CASES[case]
    source = write(project.root / "data")
    block = BLOCK.format(modality=modality, source=source, ingest=ingest, preprocess=preprocess, encode=encode)
    project.edit("datasets:\n", "datasets:" + block)
    project.dvc("add", "-q", "data")

    project.genfoundry("check")
    project.dvc("repro", "encode@mine")

    records = read_all_records(project.root / "artifacts/datasets/mine/records", ["id", "label"])
    told = read_json(project.root / "reports/datasets/mine/encode.json")
    assert len(records) >= (60 if case != "text" else 10)
    assert told["train"]["records"] > told["test"]["records"] > 0
    if case == "images":
        assert set(records["label"]) == {"left", "right"}
        spec = read_json(project.root / "artifacts/datasets/mine/arrays/spec.json")
        assert spec["channels"] == 3 and spec["shape"] == [8, 8] and spec["labels"] == ["left", "right"]


@pytest.mark.long
def test_own_images_become_a_model(project: Project) -> None:
    write_images(project.root / "data")
    project.edit(
        "datasets:\n",
        "datasets:"
        + BLOCK.format(
            modality="image", source="mine", ingest="{}", preprocess="{height: 8, width: 8, mode: RGB}", encode="{}"
        ),
    )
    project.edit(
        "models:\n",
        "models:\n  mine-vae: {dataset: mine, family: vae, init_from: scratch, components: none, options: {width: 8}, "
        "training: {steps: 20, batch: 8}, sampling: {}, evaluation: {}}\n",
    )
    project.dvc("add", "-q", "data")

    project.dvc("repro")
    told = project.genfoundry("record").stdout

    assert "mine-vae" in told and "fid_domain@" in told
