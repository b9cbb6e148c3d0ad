"""The page on parts is true for networks and metrics: one file each goes through reference, evaluation and gate."""

import partpage
import pytest
import torch
from conftest import Project
from safetensors.torch import save_file
from test_line import executed

from genfoundry.core.io import file_digest, read_json
from genfoundry.evaluation.networks import efficientnet

SCORED = {f"{stage}@bars-vae" for stage in ("extract", "evaluate")}


def scores(project: Project) -> dict[str, dict[str, float]]:
    """By metric."""
    found = read_json(project.root / "reports/models/bars-vae/scores.json")
    return {key.split("@")[0]: score for key, score in found.items()}


def test_one_file_and_one_block_make_a_network_and_its_scores(project: Project) -> None:
    before = scores(project)
    partpage.add(project, "A network")
    file = project.root / "filters.safetensors"
    save_file({"weight": torch.randn(6, 1, 3, 3, generator=torch.Generator().manual_seed(0))}, file)

    project.genfoundry("check")
    ran = executed(project.dvc("repro", "evaluate@bars-vae").stdout)

    assert ran == {"code", "reference@bars", *SCORED}
    found = scores(project)
    assert found.keys() - before.keys() == {"fd_filters", "kd_filters"}
    assert {name: found[name] for name in before} == before
    assert found["fd_filters"]["value"] > found["fd_filters"]["floor"] > 0
    (protocol,) = (
        facts
        for key, facts in read_json(project.root / "reports/models/bars-vae/evaluation/protocols.json").items()
        if key.startswith("fd_filters@")
    )
    assert protocol["filters"]["digest"] == file_digest(file)
    assert protocol["filters"]["preprocessing"] == "uint8 / 255, no resize; largest answer of each filter"


def test_one_file_makes_a_metric_that_the_gate_heeds(project: Project) -> None:
    before = scores(project)
    partpage.add(project, "A metric")

    project.genfoundry("check")
    ran = executed(project.dvc("repro", "evaluate@bars-vae").stdout)
    done = project.genfoundry("compare", "bars-vae", "bars-vae", "--json", "decision.json", check=False)

    assert ran == {"code", "evaluate@bars-vae"}
    found = scores(project)
    assert found.keys() - before.keys() == {"contrast_gap"}
    assert found["contrast_gap"]["value"] > found["contrast_gap"]["floor"] > 0
    assert done.returncode == 11, done.stdout + done.stderr
    decision = read_json(project.root / "decision.json")
    assert decision["scores"]["contrast_gap"]["method"] == "means of paired numbers"
    assert "guard:contrast_gap:champion" in {rule["name"] for rule in decision["rules"]}


def test_a_published_network_scores_a_model_end_to_end(project: Project) -> None:
    pytest.importorskip(efficientnet.PACKAGE, reason="extra 'networks' is not installed: pip install .[networks]")
    before = scores(project)
    project.edit("features: 4, steps: 60", "features: 4, steps: 60, networks: {efficientnet: {}}")

    project.genfoundry("check")
    ran = executed(project.dvc("repro", "evaluate@bars-vae").stdout)
    project.dvc("repro", "report")

    assert ran == {"code", "reference@bars", *SCORED}
    found = scores(project)
    assert found.keys() - before.keys() == {f"{family}_efficientnet" for family in ("fd", "kd", "is")}
    assert {name: found[name] for name in before} == before
    assert found["fd_efficientnet"]["value"] > found["fd_efficientnet"]["floor"] > 0
    assert 1 < found["is_efficientnet"]["value"] < 1000
    named = read_json(project.root / "artifacts/datasets/bars/reference/efficientnet/network.json")
    assert (named["digest"], named["dimension"]) == (efficientnet.SHA256, 1280)
    assert "Fréchet distance (EfficientNet-Lite0)" in (project.root / "reports/index.html").read_text()
