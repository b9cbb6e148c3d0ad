"""Examples of docs/adding-a-part.md, all in one project, through the pipeline, gate, review page, card and answers.

A modality that is neither image nor text, a family, one conditioned on captions, an objective with a frozen component,
a network and a metric: each is one new file or folder and a block of params.yaml, and nothing else is touched.
"""

import csv
import io
import re
import shutil
import sys
import wave
from pathlib import Path

import miniature
import numpy as np
import pandas as pd
import partpage
import pytest
from conftest import ROOT, Project
from PIL import Image
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from safetensors.torch import load_file
from test_line import executed

from genfoundry.config.conditions import Text
from genfoundry.config.specs import parse_spec
from genfoundry.core.io import file_digest, folder_digest, read_json, read_table

RATE, LENGTH = 8000, 64
WAVES = {
    "dataset": "waves",
    "family": "ppca",
    "init_from": "scratch",
    "components": "none",
    "options": {"latent": 4},
    "training": {"steps": 60, "batch": 16, "val_every": 20, "optimizer": {"lr": 0.02}},
    "sampling": {},
    "evaluation": {},
}
CAPTIONS = ("a bar that lies", "a bar that stands", "a bar that leans")
FILES = {
    "A family": ["models/ppca.py"],
    "An objective": ["objectives/anchor.py"],
    "A condition": ["models/captioned.py"],
    "A modality": ["modalities/wave/__init__.py", "modalities/wave/media.py"],
    "A network": ["evaluation/networks/filters.py"],
    "A metric": ["metrics/contrast_gap.py"],
}
DATA = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode", "reference")
LEARNT = ("train", "sample", "extract", "evaluate")
MADE = ("waves-ppca", "waves-small", "bars-ppca", "bars-anchored", "captioned-bars")


def write_sound(file: Path, levels: np.ndarray, channels: int = 1) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(file), "wb") as sound:
        sound.setnchannels(channels)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes(levels.astype("<i2").tobytes())


def write_sounds(data: Path) -> None:
    """200 sounds, low and high; a copy at half of the volume, one too short, one of two channels, one that is none."""
    generator = np.random.Generator(np.random.PCG64(5))
    for number in range(200):
        pitch = generator.uniform(2, 4) + 8 * (number % 2)
        turns = pitch * np.arange(LENGTH + 6) / LENGTH + generator.uniform()
        levels = 20000 * np.sin(2 * np.pi * turns) + generator.normal(0, 3000, len(turns))
        write_sound(data / ("low", "high")[number % 2] / f"{number:03d}.wav", levels)
    write_sound(data / "high/copy.wav", levels / 2)
    write_sound(data / "low/short.wav", levels[:20])
    write_sound(data / "low/stereo.wav", levels, channels=2)
    (data / "low/none.wav").write_bytes(b"no sound at all")


def write_captions(folder: Path) -> None:
    """``bars.parquet``: 240 pictures with their captions."""
    generator = np.random.Generator(np.random.PCG64(3))
    rows = []
    for number in range(240):
        buffer = io.BytesIO()
        Image.fromarray(miniature.picture(number % 3, generator)).save(buffer, "PNG")
        rows.append({"image": buffer.getvalue(), "caption": CAPTIONS[number % 3]})
    folder.mkdir()
    pd.DataFrame(rows).to_parquet(folder / "bars.parquet")


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


def distance(project: Project) -> float:
    """Largest difference of a weight between the anchored model and its reference."""
    one, other = (
        load_file(project.root / f"artifacts/models/{key}/model/weights.safetensors")
        for key in ("bars-anchored", "bars-vae")
    )
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def scores(project: Project, model: str) -> dict[str, dict[str, float]]:
    """By metric."""
    found = read_json(project.root / f"reports/models/{model}/scores.json")
    return {key.split("@")[0]: score for key, score in found.items()}


def extend(project: Project) -> None:
    """Write all examples, and data for them."""
    write_sounds(project.root / "data/waves")
    write_captions(project.root / "data/captions")
    project.dvc("add", "-q", "data")
    filters = np.random.Generator(np.random.PCG64(0)).normal(size=(6, 1, 3, 3)).astype(np.float32)
    save_file({"weight": filters}, project.root / "filters.safetensors")
    assert {title: partpage.add(project, title) for title in FILES} == FILES
    yaml, path = YAML(), project.root / "params.yaml"
    tree = yaml.load(path)
    tree["models"] |= {"waves-ppca": WAVES, "waves-small": {**WAVES, "options": {"latent": 1}}}
    yaml.dump(tree, path)
    project.genfoundry("check")


def test_parts_of_one_file_go_through_the_whole_line(project: Project) -> None:
    before = scores(project, "bars-vae")
    extend(project)

    ran = executed(project.dvc("repro", timeout=900).stdout)
    project.genfoundry("record")

    assert ran == {
        "code", "report", "component@anchor-of-bars", "reference@bars", "extract@bars-vae", "evaluate@bars-vae",
        "evaluate@notes-transformer",  # for it, too, the new metric is looked at
        *(f"{stage}@{dataset}" for stage in DATA for dataset in ("waves", "captions")),
        *(f"{stage}@{model}" for stage in LEARNT for model in MADE),
    }, "what is independent of the new parts stays as it is"  # fmt: skip
    fits_the_contract(project)
    sounds_are_read_scored_and_shown(project)
    captions_are_heeded(project)
    weights_are_held_by_the_component(project)
    network_and_metric_score(project, before)
    assert read_json(project.root / "reports/models/bars-ppca/samples/latent.json")["latent"] == 4

    # Gate, servability, card, a page for raters.
    promoted = project.genfoundry("promote", "waves-ppca").stdout
    assert "is champion" in promoted and f"drew a sample of 1 x {LENGTH}" in promoted
    assert "is champion" in project.genfoundry("promote", "captioned-bars").stdout
    judged = project.genfoundry("compare", "bars-vae", "bars-vae", "--json", "decision.json", check=False)
    assert judged.returncode == 11, judged.stdout + judged.stderr
    decision = read_json(project.root / "decision.json")
    assert decision["scores"]["contrast_gap"]["method"] == "means of paired numbers"
    assert "guard:contrast_gap:champion" in {rule["name"] for rule in decision["rules"]}
    cards = [file.read_text() for file in project.root.glob("mlruns/artifacts/models/*/artifacts/card.html")]
    assert sum("<audio controls" in card and "(channels first, 16 bits)" in card for card in cards) == 2
    written = project.genfoundry("review", "waves-ppca", "waves-small", "--pairs", "6").stdout
    rated = (project.root / written.split()[0]).read_text()
    assert "Which sound is better?" in rated and "data:audio/wav;base64," in rated and 'data-kind="sound"' in rated


def fits_the_contract(project: Project) -> None:
    """The contract tests of families take the new files too."""
    (project.root / "tests").mkdir()
    for name in ("unit/models/test_models.py", "support/trainline.py"):
        shutil.copy(ROOT / "tests" / name, project.root / "tests")
    contract = ("tests/test_models.py", "-k", "ppca or captioned", "-n", "0", "-p", "no:cacheprovider")
    kept = project.run(sys.executable, "-m", "pytest", *contract)
    assert re.search(r"[1-9]\d* passed", kept.stdout) and "failed" not in kept.stdout


def sounds_are_read_scored_and_shown(project: Project) -> None:
    reports, artifacts = project.root / "reports", project.root / "artifacts"

    # Records: each fault has its reason, the duplicate is removed.
    ingested = read_json(reports / "datasets/waves/ingest.json")
    assert ingested["records"] == 202 and ingested["rejected"]["total"] == 2
    rejected = read_table(artifacts / "datasets/waves/records/rejected.parquet")
    assert dict(zip(rejected["id"], rejected["reason"], strict=True)) == {
        "low/none.wav": "no_sound",
        "low/stereo.wav": "other_kind",
    }
    copies = read_table(artifacts / "datasets/waves/copies/duplicates.parquet")
    assert "high/copy.wav" in {*copies["removed_id"], *copies["kept_id"]}

    # Arrays: levels of 16 bits over one axis with a rate.
    spec = read_json(artifacts / "datasets/waves/arrays/spec.json")
    assert (spec["modality"], spec["storage"], spec["shape"], spec["rates"]) == (
        "wave", "int16", [LENGTH], {"time": RATE},
    )  # fmt: skip
    levels = np.load(artifacts / "datasets/waves/arrays/train.npy")
    assert levels.dtype == np.int16 and levels.shape[1:] == (1, LENGTH) and levels.min() < -10000 < 10000 < levels.max()

    # Samples: of that type and loudness, played, and shown during training.
    samples = np.load(artifacts / "models/waves-ppca/samples/samples.npy")
    assert samples.dtype == np.int16 and samples.shape[1:] == (1, LENGTH)
    assert 0.3 < np.abs(samples).mean() / np.abs(levels).mean() < 3
    shown = reports / "models/waves-ppca/samples"
    with wave.open(str(shown / "sample-000.wav")) as sound:
        assert sound.getframerate() == RATE and sound.readframes(LENGTH) == samples[0].tobytes()
    pictures = {"grid.png", "reconstruction.png", "interpolation.png", "traversal.png"}
    assert pictures <= {file.name for file in shown.iterdir()}
    assert len(list((reports / "models/waves-ppca/progress").glob("samples-*.png"))) > 1

    # Scores by the domain network; the page plays the samples; MLflow holds them.
    names = scores(project, "waves-ppca").keys()
    assert {"fid_domain", "kid_domain", "exact_copies", "near_copies"} <= names
    assert not names & {"bits_per_byte", "distinct_n", "fid"}
    assert (reports / "models/waves-ppca/evaluation/pairs.png").stat().st_size > 5000
    page = (reports / "index.html").read_text()
    assert page.count("<audio controls") >= 4 and "waves-small" in page
    assert len([*project.root.glob("mlruns/**/samples/sample-000.wav")]) >= 2


def captions_are_heeded(project: Project) -> None:
    root = project.root
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
    assert "fid_domain" in scores(project, "captioned-bars")

    (root / "ask.py").write_text(ANSWER)
    said = project.run("python", "ask.py", *CAPTIONS, PYTHONPATH="src").stdout
    unasked, *answers = np.load(root / "answers.npy")
    assert np.array_equal(unasked, samples[:30])
    for caption, answer in zip(CAPTIONS, answers, strict=True):
        turn = [number for number, name in enumerate(asked[:30]) if name == caption]
        assert turn and np.array_equal(answer[turn], samples[turn])
    assert "caption is 3; needs a text" in said
    assert "label is 'h': the model knows none" in said and "unknown key 'captoin'" in said


def weights_are_held_by_the_component(project: Project) -> None:
    curve = list(csv.DictReader((project.root / "reports/models/bars-anchored/history.csv").open()))
    assert float(curve[-1]["distance"]) < 0.1 and float(curve[-1]["loss"]) > 0
    lineage = read_json(project.root / "artifacts/lineage/train@bars-anchored.json")
    digest = folder_digest(project.root / "artifacts/models/bars-vae/model")
    assert lineage["components"] == {"reference": {"model": "bars-vae", "digest": digest}}
    assert not (project.root / "artifacts/models/bars-anchored/model/components").exists()


def network_and_metric_score(project: Project, before: dict[str, dict[str, float]]) -> None:
    found = scores(project, "bars-vae")
    assert found.keys() - before.keys() == {"fd_filters", "kd_filters", "contrast_gap"}
    assert {name: found[name] for name in before} == before
    for name in ("fd_filters", "contrast_gap"):
        assert found[name]["value"] > found[name]["floor"] > 0
    (protocol,) = (
        facts
        for key, facts in read_json(project.root / "reports/models/bars-vae/evaluation/protocols.json").items()
        if key.startswith("fd_filters@")
    )
    assert protocol["filters"]["digest"] == file_digest(project.root / "filters.safetensors")
    assert protocol["filters"]["preprocessing"] == "uint8 / 255, no resize; largest answer of each filter"


def test_an_objective_heeds_its_component(project: Project) -> None:
    partpage.add(project, "An objective")
    project.dvc("repro", "train@bars-anchored")
    held = distance(project)

    project.edit("strength: 100000", "strength: 0")
    project.dvc("repro", "train@bars-anchored")
    assert distance(project) > 2 * held, "the reference has no effect"

    project.edit("steps: 40, batch: 16", "steps: 30, batch: 16")
    again = executed(project.dvc("repro", "train@bars-anchored").stdout)
    assert again == {"code", "train@bars-vae", "component@anchor-of-bars", "train@bars-anchored"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "role: reference",
            "role: referee",
            "'models.bars-anchored.components' is 'anchors': no model in it has the role",
        ),
        ("model: bars-vae", "model: bars-anchored", "go in a circle: bars-anchored needs bars-anchored"),
    ],
)
def test_a_wrong_set_of_components_is_an_error_of_check(project: Project, old: str, new: str, said: str) -> None:
    partpage.add(project, "An objective")
    project.edit(old, new)

    done = project.genfoundry("check", check=False)

    assert done.returncode == 2 and said in done.stderr
