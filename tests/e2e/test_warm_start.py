"""Warm starts through DVC: the ancestor is an input like any other."""

import json

from conftest import Project
from test_line import executed

from genfoundry.config.params import read_yaml
from genfoundry.core.io import folder_digest, read_json


def test_a_warm_start_is_in_the_lineage_and_follows_its_ancestor(project: Project) -> None:
    block = read_yaml(project.root / "params.yaml")["models"]["bars-vae"]
    again = {**block, "init_from": "bars-vae", "training": {**block["training"], "steps": 4}}
    project.edit("models:\n", f"models:\n  bars-again: {json.dumps(again)}\n")

    first = executed(project.dvc("repro", "train@bars-again").stdout)

    inputs = read_json(project.root / "artifacts/lineage/train@bars-again.json")["inputs"]
    ancestor = "artifacts/models/bars-vae/model"
    assert first == {"code", "train@bars-again"}
    assert inputs[ancestor] == folder_digest(project.root / ancestor)
    project.edit("steps: 40, batch: 16", "steps: 30, batch: 16")
    second = executed(project.dvc("repro", "train@bars-again").stdout)
    assert second == {"code", "train@bars-vae", "train@bars-again"}


def test_a_start_of_another_family_ends_with_the_reason(project: Project) -> None:
    block = read_yaml(project.root / "params.yaml")["models"]["bars-vae"]
    again = {**block, "init_from": "notes-transformer"}
    project.edit("models:\n", f"models:\n  bars-again: {json.dumps(again)}\n")

    project.dvc("repro", "-q", "code")
    done = project.stage("train", "bars-again", check=False)

    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "is of family 'transformer', this model of 'vae'; start from one of the same family" in done.stderr
