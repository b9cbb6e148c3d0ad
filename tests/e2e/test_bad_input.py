"""A user's mistakes: one clear message and a code of the table, or a record set aside with its reason. No traceback."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, Project

from genfoundry.state.locks import held


def faults(project: Project) -> str:
    done = project.genfoundry("check", check=False)
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "fault" in done.stderr else 0)
    return done.stderr


def test_a_sound_project_has_no_fault(finished: Project) -> None:
    assert faults(finished) == ""


def test_all_faults_are_named_at_once(project: Project) -> None:
    project.edit("dedup: {threshold: 0.8}", "dedup: {treshold: 0.8}")
    project.edit("options: {width: 8, latent: 4}", "options: {width: wide}")
    project.edit("family: transformer", "family: transfomer")
    project.edit("dataset: bars\n    family", "dataset: bar\n    family")
    project.edit("source: data/bars", "source: data/barz")

    told = faults(project)

    for said in (
        "unknown key 'datasets.notes.dedup.treshold'; did you mean 'threshold'?",
        "'models.bars-vae.options.width' is 'wide'",
        "unknown models part 'transfomer'; did you mean 'transformer'?",
        "'models.bars-vae.dataset' is 'bar'; did you mean 'bars'?",
        "'datasets.bars.source' is 'data/barz': no such file or folder",
    ):
        assert said in told, told


def test_faults_of_scores_and_of_the_gate_are_found_before_anything_runs(project: Project) -> None:
    project.edit(
        "reference: {features: 4, steps: 60}",
        "reference: {features: 4, steps: 60, networks: {inception: {weights: nowhere.pth}}}",
    )
    project.edit("{n: 6, length: 24}\n    evaluation: {}", "{n: 6, length: 24}\n    evaluation: {skip: [self_blue]}")
    project.edit("bases:", "gate: {guards: {recal_domain: 0.1}}\nbases:")
    project.edit("heads: 2, context: 32}", "heads: 2, context: 32, conditional: true}")

    told = faults(project)

    for said in (
        "'datasets.bars.reference.networks.inception.weights' is 'nowhere.pth': no such file or folder",
        "'models.notes-transformer.evaluation.skip': unknown metric 'self_blue'; did you mean 'self_bleu'?",
        "unknown metric 'gate.guards.recal_domain'; did you mean 'recall_domain'?",
        "'models.notes-transformer.options.conditional' is true, but 'datasets.notes.ingest.label_column' names no",
    ):
        assert said in told, told


def test_circles_and_clashing_names_are_faults(project: Project) -> None:
    text = (project.root / "params.yaml").read_text()
    head, tail = text.split("  bars-vae:")
    (project.root / "params.yaml").write_text(
        head
        + "  bars-vae:"
        + tail.replace("init_from: scratch", "init_from: notes-transformer", 1).replace(
            "init_from: scratch", "init_from: bars-vae", 1
        )
    )

    assert "go in a circle" in faults(project)


def test_a_missing_section_is_named(project: Project) -> None:
    project.edit("    encode: {}\n", "")

    assert "'datasets.bars.encode' is missing; add it" in faults(project)


def test_changed_raw_data_are_refused_with_what_differs(project: Project) -> None:
    picture = project.root / "data/bars/h/000.png"
    content = picture.read_bytes()
    picture.unlink()
    picture.write_bytes(content + b"x")
    (project.root / "data/new.txt").write_text("new")

    told = project.genfoundry("bootstrap", check=False)

    assert told.returncode == 13
    assert "bars/h/000.png was changed" in told.stderr and "new.txt was added" in told.stderr
    assert "dvc add data" in told.stderr
    assert "bars/h/000.png was changed" in faults(project)


def test_lost_raw_data_come_back_from_the_cache(project: Project) -> None:
    shutil.rmtree(project.root / "data")

    assert "by dvc checkout" in project.genfoundry("bootstrap").stdout


def test_lost_raw_data_without_cache_or_remote_are_said(project: Project) -> None:
    shutil.rmtree(project.root / "data")
    shutil.rmtree(project.root / ".dvc/cache")

    done = project.genfoundry("bootstrap", check=False)

    assert done.returncode == 13
    assert "dvc remote add -d" in done.stderr


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def rubbish(folder: Path) -> None:
    emptied(folder)
    for number in range(4):
        (folder / f"{number}.png").write_bytes(b"rubbish")


def wrong_column(folder: Path) -> None:
    emptied(folder)
    (folder / "a.csv").write_text("body\nhello\n")


def mixed_text(folder: Path) -> None:
    emptied(folder)
    lines = [json.dumps({"id": f"n{n}", "text": f"text number {n} of the good ones, long enough"}) for n in range(40)]
    lines += ["not json", json.dumps({"id": "n0", "text": "same id again"}), json.dumps({"id": "e", "text": "  "})]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "b.txt").write_bytes(b"caf\xe9")


@pytest.mark.parametrize(
    ("key", "harm", "said"),
    [
        ("bars", emptied, "bars"),
        ("bars", rubbish, "4 of 4"),
        ("notes", wrong_column, "text_column"),
        ("notes", mixed_text, "4 of 44"),
    ],
)
def test_data_that_can_not_be_used_end_with_one_message(
    project: Project, key: str, harm: Callable[[Path], None], said: str
) -> None:
    harm(project.root / "data" / key)

    done = project.stage("ingest", key, check=False)

    assert done.returncode == 13, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"genfoundry: ingest@{key}:") and said in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "said"), [((), "usage: python -m pipelines.train"), (("nobody",), "no stage 'train@nobody'")]
)
def test_a_wrong_command_line_is_said(finished: Project, words: tuple[str, ...], said: str) -> None:
    done = finished.run("python", "-m", "pipelines.train", *words, check=False)

    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_stage_outside_a_project_is_said(finished: Project, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.ingest", "bars"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(finished.root)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2 and "no dvc.yaml" in done.stderr


def test_a_missing_install_is_said(finished: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(finished.root)!r}); import pipelines"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "is not installed" in done.stderr and "make install" in done.stderr and "Traceback" not in done.stderr


def test_an_older_python_is_said() -> None:
    code = "import sys; sys.version_info = (3, 9, 0, 'final', 0); sys.path.insert(0, '.'); import pipelines"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1 and "needs Python 3.11 or newer" in done.stderr and "Traceback" not in done.stderr


def test_a_stage_that_runs_already_is_said(project: Project) -> None:
    with held(project.root / ".dvc/tmp/genfoundry/ingest@bars.lock", "this stage"):
        done = project.stage("ingest", "bars", check=False)

    assert done.returncode == 12 and f"this stage is running as process {os.getpid()}" in done.stderr


def test_a_damaged_result_is_not_used(project: Project) -> None:
    weights = project.root / "artifacts/models/bars-vae/model/weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.unlink()
    weights.write_bytes(content)

    done = project.stage("sample", "bars-vae", check=False)

    assert done.returncode == 13
    assert "weights.safetensors was changed" in done.stderr
