"""Parts of docs/adding-a-part.md, each one new file or folder, through the whole line."""

import wave
from pathlib import Path

import numpy as np
import partpage
import pytest
from conftest import Project
from ruamel.yaml import YAML
from test_line import executed

from genfoundry.core.io import read_json, read_table

RATE, LENGTH = 8000, 64
MODEL = {
    "dataset": "waves",
    "family": "ppca",
    "init_from": "scratch",
    "components": "none",
    "options": {"latent": 4},
    "training": {"steps": 60, "batch": 16, "val_every": 20, "optimizer": {"lr": 0.02}},
    "sampling": {},
    "evaluation": {},
}
DATA = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode", "reference")
LEARNT = ("train", "sample", "extract", "evaluate")


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


@pytest.fixture()
def sounding(project: Project) -> Project:
    """A finished project with sounds, the page's modality and a family that takes grids of any shape."""
    write_sounds(project.root / "data/waves")
    project.dvc("add", "-q", "data")
    assert partpage.add(project, "A modality") == ["modalities/wave/__init__.py", "modalities/wave/media.py"]
    partpage.add(project, "A family")
    yaml, path = YAML(), project.root / "params.yaml"
    tree = yaml.load(path)
    del tree["models"]["bars-ppca"]
    tree["models"] |= {"waves-ppca": MODEL, "waves-small": {**MODEL, "options": {"latent": 1}}}
    yaml.dump(tree, path)
    return project


def test_a_folder_makes_a_modality(sounding: Project) -> None:
    sounding.genfoundry("check")
    ran = executed(sounding.dvc("repro", timeout=900).stdout)
    recorded = sounding.genfoundry("record").stdout

    assert {f"{stage}@waves" for stage in DATA} <= ran and "report" in ran
    assert {f"{stage}@waves-{model}" for stage in LEARNT for model in ("ppca", "small")} <= ran
    assert not [address for address in ran if address.partition("@")[2].startswith(("bars-", "notes-"))], (
        "models of other data are as they were"
    )
    reports, artifacts = sounding.root / "reports", sounding.root / "artifacts"

    # Records: each fault has its reason, the copy is found.
    told = {stage: read_json(reports / f"datasets/waves/{stage}.json") for stage in ("ingest", "preprocess", "encode")}
    assert told["ingest"]["records"] == 202 and told["ingest"]["rejected"]["total"] == 2
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

    # Samples: of that type and loudness, drawn, played and shown as the training went on.
    samples = np.load(artifacts / "models/waves-ppca/samples/samples.npy")
    assert samples.dtype == np.int16 and samples.shape[1:] == (1, LENGTH)
    assert 0.3 < np.abs(samples).mean() / np.abs(levels).mean() < 3
    shown = reports / "models/waves-ppca/samples"
    with wave.open(str(shown / "sample-000.wav")) as sound:
        assert sound.getframerate() == RATE and sound.readframes(LENGTH) == samples[0].tobytes()
    pictures = {"grid.png", "reconstruction.png", "interpolation.png", "traversal.png"}
    assert pictures <= {file.name for file in shown.iterdir()}
    assert len(list((reports / "models/waves-ppca/progress").glob("samples-*.png"))) > 1

    # Scores by the domain network, with what they are held against; the page plays the samples.
    scores = read_json(reports / "models/waves-ppca/scores.json")
    names = {key.partition("@")[0] for key in scores}
    assert {"fid_domain", "kid_domain", "exact_copies", "near_copies"} <= names
    assert not names & {"bits_per_byte", "distinct_n", "fid"}
    assert (reports / "models/waves-ppca/evaluation/pairs.png").stat().st_size > 5000
    page = (reports / "index.html").read_text()
    assert page.count("<audio controls") >= 4 and "waves-small" in page
    assert "waves-ppca" in recorded
    logged = [*sounding.root.glob("mlruns/**/samples/sample-000.wav")]
    assert len(logged) >= 2, "MLflow holds the sounds of both models"

    # The gate, an answer in a clean process, the card, the page for raters: all of sounds.
    promoted = sounding.genfoundry("promote", "waves-ppca").stdout
    assert "is champion" in promoted and f"drew a sample of 1 x {LENGTH}" in promoted
    cards = [file.read_text() for file in sounding.root.glob("mlruns/artifacts/models/*/artifacts/card.html")]
    assert sum("<audio controls" in card and "(channels first, 16 bits)" in card for card in cards) == 2
    written = sounding.genfoundry("review", "waves-ppca", "waves-small", "--pairs", "6").stdout
    rated = (sounding.root / written.split()[0]).read_text()
    assert "Which sound is better?" in rated and "data:audio/wav;base64," in rated and 'data-kind="sound"' in rated
