"""`genfoundry compare` on the miniature project: better, equal, worse, copied, unequal and untrusted models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Project

from genfoundry.core.io import publish_folder, read_json, write_json
from genfoundry.tracking.store import open_store

STEPS = {"bars-better": ("bars-vae", 900), "notes-better": ("notes-transformer", 400)}


@pytest.fixture(scope="module")
def trained(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature project with two more models, the same ones trained longer."""
    project = finished.copy(tmp_path_factory.mktemp("compare") / "project")
    params = project.root / "params.yaml"
    text = params.read_text()
    for key, (like, steps) in STEPS.items():
        start = text.index(f"  {like}:\n")
        end = text.find("\n  ", text.index("evaluation: {}", start)) + 1 or len(text)
        block = text[start:end].replace(like, key).replace("steps: 40", f"steps: {steps}")
        params.write_text(params.read_text().rstrip("\n") + "\n" + block)
    project.code()
    for key in STEPS:
        project.stage("train", key)
    # The miniature's own model is too weak to be promoted; here it is champion by a word.
    store = open_store(project.root, "miniature")
    store.client.set_registered_model_alias("bars-vae", "champion", "1")
    return project


@pytest.fixture()
def mine(trained: Project, tmp_path: Path) -> Project:
    return trained.copy(tmp_path / "project")


def compared(project: Project, *words: str) -> tuple[int, dict, str]:
    """Exit code, decision.json and what was printed."""
    done = project.genfoundry("compare", *words, "--json", "decision.json", check=False)
    assert done.returncode in (0, 11), done.stdout + done.stderr
    return done.returncode, read_json(project.root / "decision.json"), done.stdout


def failed(decision: dict) -> set[str]:
    return {rule["name"] for rule in decision["rules"] if not rule["passed"]}


def test_a_better_model_is_blessed_against_the_registered_champion(mine: Project) -> None:
    code, decision, said = compared(mine, "bars-better", "bars-vae@champion")

    assert code == 0 and decision["verdict"] == "BLESSED" and not failed(decision)
    assert decision["models"]["champion"]["version"] == "bars-vae/1"
    score = decision["scores"]["fid_domain"]
    without_bias = [score[who]["value"] - score[who]["bias"] for who in ("challenger", "champion")]
    assert score["high"] < 0 and score["difference"] == pytest.approx(without_bias[0] - without_bias[1])
    assert "challenger better" in said and "real data" in said and "look 1" in said

    # The same question again is the same look, from what was kept; the other way round it is another one.
    assert compared(mine, "bars-better", "bars-vae@champion")[1] == decision
    code, worse, _ = compared(mine, "bars-vae", "bars-better")
    assert code == 11 and worse["look"]["number"] == 2
    assert {"superior:fid_domain:champion", "better_than_nothing"} <= failed(worse)


def test_a_model_against_itself_is_never_better_and_no_look(mine: Project) -> None:
    code, decision, _ = compared(mine, "bars-better", "bars-better")

    assert code == 11 and failed(decision) == {"superior:fid_domain:champion"}
    assert decision["scores"]["fid_domain"]["se"] == 0
    assert read_json(mine.root / "mlruns/gate/bars.json")["looks"] == []


def test_no_worse_within_a_margin_for_a_reason(mine: Project) -> None:
    rule = ("--rule", "non_inferior", "--margin", "0.05", "--reason", "fresher data")
    assert compared(mine, "bars-better", "bars-better", *rule)[0] == 0
    done = mine.genfoundry("compare", "bars-better", "bars-vae", *rule[:4], check=False)
    assert done.returncode == 2 and "a margin above 0 and a reason" in done.stderr


def test_texts_are_compared_document_by_document_also_across_tokenizers(mine: Project) -> None:
    code, decision, _ = compared(mine, "notes-better", "notes-transformer")
    assert code == 0 and decision["scores"]["bits_per_byte"]["method"] == "ratio over paired documents"

    old = decision["scores"]["bits_per_byte"]["challenger"]["value"]
    mine.edit("vocab_size: 300", "vocab_size: 280")
    mine.code()
    for stage in ("encode", "reference"):
        mine.stage(stage, "notes")
    mine.stage("train", "notes-transformer")
    code, decision, said = compared(mine, "notes-transformer", "notes-better")

    # The model reads the same documents through its own tokenizer: what it pays for a byte has not moved.
    assert code == 11
    assert decision["scores"]["bits_per_byte"]["champion"]["value"] == pytest.approx(old, rel=1e-9)
    assert "not comparable: tokenizer" in said
    assert "difference" not in decision["scores"]["perplexity"]


def test_models_measured_in_other_windows_are_not_compared(mine: Project) -> None:
    # Another context is another default window.
    text = (mine.root / "params.yaml").read_text()
    start = text.index("  notes-better:\n")
    (mine.root / "params.yaml").write_text(text[:start] + text[start:].replace("context: 32", "context: 16", 1))
    mine.code()
    mine.stage("train", "notes-better")

    done = mine.genfoundry("compare", "notes-better", "notes-transformer", check=False)

    assert done.returncode == 13 and "likelihood.window: 16 against 32" in done.stderr
    assert read_json(mine.root / "mlruns/gate/notes.json")["looks"] == []


def rewrite(model: Path, target: Path, seen: np.ndarray | None) -> None:
    """A copy of a model folder that says another thing about what it has seen."""
    with publish_folder(target) as folder:
        for file in model.iterdir():
            if file.name not in ("manifest.json", "seen.npy"):
                shutil.copyfile(file, folder / file.name)
        if seen is not None:
            np.save(folder / "seen.npy", seen)


def test_records_that_a_model_has_seen_are_left_out_and_unknown_ones_refused(mine: Project) -> None:
    model = mine.root / "artifacts/models/bars-vae/model"
    test = np.load(mine.root / "artifacts/datasets/bars/arrays/test_records.npy")
    rewrite(model, mine.root / "leaky", np.unique(test[:10]))
    rewrite(model, mine.root / "silent", None)

    _, decision, said = compared(mine, "bars-better", "leaky")
    assert (decision["gate_set"]["used"], decision["gate_set"]["seen"]) == (len(test) - 10, 10)
    assert "10 seen by a model" in said

    done = mine.genfoundry("compare", "bars-better", "silent", check=False)
    assert done.returncode == 13 and "no seen.npy" in done.stderr and "--trust-split" in done.stderr
    assert compared(mine, "bars-better", "silent", "--trust-split")[0] == 0


def test_the_gate_set_stays_until_it_is_rotated(mine: Project) -> None:
    compared(mine, "bars-better", "bars-vae@champion")
    state = mine.root / "mlruns/gate/bars.json"
    tree = read_json(state)
    # As if ten of the records had come with new data, after the set was frozen.
    write_json(state, {**tree, "records": tree["records"][160:]})

    _, decision, _ = compared(mine, "bars-better", "bars-vae@champion")
    assert decision["gate_set"]["new"] == 10 and decision["look"]["number"] == 2
    _, decision, _ = compared(mine, "bars-better", "bars-vae@champion", "--rotate", "new data are in")
    assert decision["gate_set"]["new"] == 0 and decision["look"]["number"] == 1
    history = json.loads(state.read_text())["history"]
    assert [(entry["number"], len(entry["looks"])) for entry in history] == [(1, 2)]


def test_the_first_champion_is_held_against_refusals_alone(mine: Project) -> None:
    code, decision, said = compared(mine, "bars-better")
    assert code == 0 and "first champion" in said and "look" not in decision
    assert decision["scores"]["fid_domain"]["challenger"]["value"] > 0
    assert compared(mine, "bars-vae")[0] == 11


def test_a_word_that_means_nothing_is_refused(finished: Project) -> None:
    done = finished.genfoundry("compare", "bars-vea", "bars-vae", check=False)
    assert done.returncode == 2 and "did you mean 'bars-vae'" in done.stderr
