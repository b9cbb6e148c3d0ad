"""Texts of two kinds: a model that heeds the label writes each kind when asked, and scores it by its own label."""

import json

import numpy as np
import pandas as pd
from conftest import Project
from miniature import document

from genfoundry.core.io import read_json, read_table
from genfoundry.evaluation.extraction.documents import read_documents
from genfoundry.evaluation.extraction.likelihood import Plan, document_nats
from genfoundry.generation.modelfile import load_model
from genfoundry.promotion.requests import Sampled

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLOCKS = """
datasets:
  kinds:
    modality: text
    source: data/kinds
    ingest: {label_column: kind}
    validation: {}
    preprocess: {}
    dedup: {}
    split: {val: 0.15, test: 0.25}
    encode: {vocab_size: 300, conditions: {characters: {kind: number}}}
    reference: {}
"""
MODEL = """
models:
  kinds-transformer:
    dataset: kinds
    family: transformer
    init_from: scratch
    components: none
    options: {width: 32, layers: 1, heads: 2, context: 64, conditional: true}
    training: {steps: 150, batch: 16, val_every: 50, optimizer: {lr: 0.01}, schedule: {warmup: 5}}
    sampling: {n: 12, length: 40}
    evaluation: {}
"""


def sums(generator: np.random.Generator) -> str:
    """Sums in words; no word of ``document`` occurs in them."""
    return " ".join(f"{' plus '.join(generator.choice(NUMBERS, 3))} makes much." for _ in range(6))


def is_sum(text: str) -> float:
    """Share of the words that are of sums."""
    words = text.replace(".", " ").split()
    return float(np.mean([word in (*NUMBERS, "plus", "makes", "much") for word in words]))


def test_a_model_writes_and_scores_by_label(project: Project) -> None:
    generator = np.random.Generator(np.random.PCG64(11))
    rows = [{"text": write(generator), "kind": kind} for _ in range(120) for kind, write in KINDS.items()]
    (project.root / "data/kinds").mkdir()
    (project.root / "data/kinds/kinds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    project.edit("datasets:\n", BLOCKS.lstrip())
    project.edit("models:\n", MODEL.lstrip())
    project.dvc("add", "-q", "data")
    project.genfoundry("check")

    project.dvc("repro", "evaluate@kinds-transformer", timeout=600)

    root = project.root
    folder = root / "artifacts/models/kinds-transformer"
    lines = [json.loads(line) for line in (folder / "samples/samples.jsonl").read_text("utf-8").splitlines()]
    assert [line["label"] for line in lines] == ["notes", "sums"] * 6
    assert read_table(folder / "samples/index.parquet")["label"].tolist() == ["notes", "sums"] * 6
    shares = {kind: np.mean([is_sum(line["text"]) for line in lines if line["label"] == kind]) for kind in KINDS}
    assert shares["sums"] > 0.9 and shares["notes"] < 0.1, shares

    # A request is answered as the stage draws: sample 0 has the first label.
    served = Sampled.beside(folder / "model/manifest.json")
    asked = {"seed": 0, "max_tokens": 40}
    assert served.answer([{**asked, "label": "notes"}]) == [{"text": lines[0]["text"]}]
    (other,) = served.answer([{**asked, "label": "sums"}])
    assert is_sum(other["text"]) > 0.9

    # Each held-out document is scored by its own label, which serves it better than the other one.
    arrays, table = root / "artifacts/datasets/kinds/arrays", read_table(folder / "features/nats.parquet")
    documents, labels = read_documents(arrays, "test"), np.load(arrays / "test_labels.npy")
    model = load_model(folder / "model").model
    right, wrong = (
        document_nats(model, documents._replace(conditions={"label": each}), Plan(64, 32), 8)
        for each in (labels, 1 - labels)
    )
    np.testing.assert_allclose(table["nats"], right, rtol=1e-4)
    assert (right < wrong).mean() > 0.9 and set(labels) == {0, 1}
    assert read_json(folder / "features/protocol.json")["likelihood"]["given"] == ["label"]
    lengths = pd.read_parquet(root / "artifacts/datasets/kinds/index/test.parquet")["characters"]
    assert np.load(arrays / "test_condition_characters.npy").tolist() == lengths.tolist()


KINDS = {"notes": document, "sums": sums}
