"""The card and what lies beside a registered model, on the miniature project."""

import json
import re
import time

import numpy as np
import pytest
from conftest import Project

from genfoundry.config import params as settings
from genfoundry.config.sections.sampling import release_digest
from genfoundry.core.io import read_json, read_table, write_table
from genfoundry.promotion.card import Card, Subject, make_card
from genfoundry.promotion.reconcile import reconcile
from genfoundry.tracking import tags
from genfoundry.tracking.store import open_store
from genfoundry.tracking.versions import Registered, Version


def version_of(project: Project, key: str) -> tuple[Registered, Version]:
    there = Registered(open_store(project.root, "miniature"), key)
    return there, there.version("1")


def card_of(project: Project, key: str) -> Card:
    there, version = version_of(project, key)
    told = there.store.client.get_run(version.run_id).data.tags
    return make_card(Subject(project.root, settings.load(project.root), key, "1", told))


def test_the_card_is_made_from_the_records_and_says_what_is_not_recorded(finished: Project) -> None:
    card = card_of(finished, "bars-vae")
    scores = read_json(finished.root / "reports/models/bars-vae/scores.json")
    lineage = read_json(finished.root / "artifacts/lineage/train@bars-vae.json")

    for key, score in scores.items():
        assert f"| `{key}` | {score['value']:.4g}" in card.markdown
    for digest in (
        lineage["outputs"]["artifacts/models/bars-vae/model"],
        lineage["inputs"]["artifacts/datasets/bars/arrays"],
        lineage["lock"],
        read_json(finished.root / "artifacts/lineage/ingest@bars.json")["inputs"]["data/bars"],
    ):
        assert digest in card.markdown and digest in card.html
    assert "| readable | 240 | rejected: 1 empty, 1 not_an_image |" in card.markdown
    assert "**Licences: not recorded.**" in card.markdown
    assert re.search(r"git checkout [0-9a-f]{40}\n", card.markdown) and "dvc repro evaluate@bars-vae" in card.markdown
    assert "nothing is known about differences between groups" in card.markdown
    assert "Does it repeat its training data? No more than held-out records do." in card.markdown
    head = card.html.split("<body>")[0]
    assert "http" not in head and "<script" not in card.html and "data:image/png;base64," in card.html


def test_a_weak_model_is_called_weak_and_licences_are_counted(project: Project) -> None:
    index = project.root / "artifacts/datasets/notes/index"
    for split, licence in (("train", "CC-BY-4.0"), ("test", None)):
        table = read_table(index / f"{split}.parquet")
        write_table(index / f"{split}.parquet", table.assign(license=licence))

    card = card_of(project, "notes-transformer")

    assert "**Worse than a trivial model**: `bits_per_byte`" in card.markdown
    assert re.search(r"\| CC-BY-4.0 \| \d+ \|\n\| not stated \| \d+ \|", card.markdown)
    assert "Not measured: copied_ngrams" in card.markdown


def test_a_registered_model_has_card_signature_and_digests_and_is_written_once(project: Project) -> None:
    there, version = version_of(project, "bars-vae")
    client = there.store.client

    told = version.tags
    lineage = read_json(project.root / "artifacts/lineage/train@bars-vae.json")
    assert told[tags.WEIGHTS] == lineage["outputs"]["artifacts/models/bars-vae/model"]
    assert told[tags.DIGEST] == release_digest(told[tags.WEIGHTS], json.loads(told[tags.GENERATOR]))
    assert json.loads(told[tags.GENERATOR]) == {"batch": 32, "draw": "mean", "temperature": 1.0}
    assert told[tags.ARRAYS] == lineage["inputs"]["artifacts/datasets/bars/arrays"]
    assert told[tags.FINGERPRINT] == lineage["fingerprint"] and told[tags.LOCK] == lineage["lock"]
    assert told[tags.DATA] == read_json(project.root / "artifacts/lineage/ingest@bars.json")["inputs"]["data/bars"]
    assert "fid_domain" in version.description and told[tags.WEIGHTS] in version.description
    files = {file.path for file in client.list_logged_model_artifacts(version.model_id)}
    assert {"MLmodel", "input_example.json", "card.md", "card.html", "weights.safetensors", "generator.json"} <= files
    assert {file.path for file in client.list_artifacts(version.run_id, "card")} == {"card/card.html", "card/card.md"}

    home = project.root / "mlruns/artifacts/models" / version.model_id / "artifacts"
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    time.sleep(0.01)
    assert reconcile(project.root).recorded.versions == {"bars-vae": "1", "notes-transformer": "1"}
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
    assert len(there.versions()) == 1


@pytest.mark.parametrize("key", ["bars-vae", "notes-transformer"])
def test_people_who_use_mlflow_get_the_same_samples(
    finished: Project, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    _, version = version_of(finished, key)
    home = finished.root / "mlruns/artifacts/models" / version.model_id / "artifacts"
    model = mlflow.pyfunc.load_model(str(home))
    asked = model.input_example
    if "max_tokens" in asked:
        asked["max_tokens"] = 24
    drawn = model.predict(asked)

    if key == "bars-vae":
        samples = np.load(finished.root / "artifacts/models/bars-vae/samples/samples.npy")
        assert drawn.dtype == np.uint8 and np.array_equal(drawn, samples[:2])
    else:
        lines = (finished.root / "artifacts/models" / key / "samples/samples.jsonl").read_text().splitlines()
        assert drawn == [{"text": json.loads(lines[0])["text"]}]
