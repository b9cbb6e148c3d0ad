"""The page on parts is true for objectives and components: one file and a block go through the whole line."""

import csv

import partpage
from conftest import Project
from safetensors.torch import load_file
from test_line import executed

from genfoundry.core.io import folder_digest, read_json


def distance(project: Project) -> float:
    """Largest difference of a weight between the anchored model and its reference."""
    one, other = (
        load_file(project.root / f"artifacts/models/{key}/model/weights.safetensors")
        for key in ("bars-anchored", "bars-vae")
    )
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def test_one_file_and_one_block_make_an_objective_with_a_frozen_component(project: Project) -> None:
    partpage.add(project, "An objective")

    project.genfoundry("check")
    ran = executed(project.dvc("repro", "evaluate@bars-anchored").stdout)

    stages = {f"{stage}@bars-anchored" for stage in ("train", "sample", "extract", "evaluate")}
    assert ran == {"code", "component@anchor-of-bars", *stages}
    curve = list(csv.DictReader((project.root / "reports/models/bars-anchored/history.csv").open()))
    assert float(curve[-1]["distance"]) < 0.1 and float(curve[-1]["loss"]) > 0
    held = distance(project)
    lineage = read_json(project.root / "artifacts/lineage/train@bars-anchored.json")
    digest = folder_digest(project.root / "artifacts/models/bars-vae/model")
    assert lineage["components"] == {"reference": {"model": "bars-vae", "digest": digest}}
    assert not (project.root / "artifacts/models/bars-anchored/model/components").exists()

    project.edit("strength: 100000", "strength: 0")
    project.dvc("repro", "train@bars-anchored")
    assert distance(project) > 2 * held, "the reference has no effect"

    project.edit("steps: 40, batch: 16", "steps: 30, batch: 16")
    again = executed(project.dvc("repro", "train@bars-anchored").stdout)
    assert again == {"code", "train@bars-vae", "component@anchor-of-bars", "train@bars-anchored"}


def test_what_a_set_of_components_lacks_is_said_before_anything_runs(project: Project) -> None:
    partpage.add(project, "An objective")
    project.edit("role: reference", "role: referee")

    said = project.genfoundry("check", check=False)

    assert said.returncode == 2
    assert "'models.bars-anchored.components' is 'anchors': no model in it has the role reference" in said.stderr


def test_models_that_need_each_other_are_refused(project: Project) -> None:
    partpage.add(project, "An objective")
    project.edit("model: bars-vae", "model: bars-anchored")

    said = project.genfoundry("check", check=False)

    assert "go in a circle: bars-anchored needs bars-anchored" in said.stderr
