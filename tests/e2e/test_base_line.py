"""A base through DVC: its digest is an input, architecture and tokenizer come with it, a changed one is an error."""

import json
import shutil

from conftest import Project
from test_line import executed

from genfoundry.core.io import folder_digest, read_json


def test_a_model_of_ours_is_a_base_for_others(project: Project) -> None:
    source = project.root / "imports/pretrained"
    shutil.copytree(project.root / "artifacts/models/notes-transformer/model", source)
    training = {"steps": 4, "batch": 8, "val_every": 2, "schedule": {"warmup": 1}}
    block = {"dataset": "notes", "init_from": "pretrained", "components": "none", "options": {}}
    block |= {"training": training, "sampling": {"n": 2, "length": 8}, "evaluation": {}}
    project.edit("bases:\n", "bases:\n  pretrained: {path: imports/pretrained, license: MIT}\n")
    project.edit("models:\n", f"models:\n  tuned: {json.dumps(block)}\n")

    said = project.dvc("repro", "train@tuned", check=False)
    digest = folder_digest(source)
    wanted = f"'bases.pretrained.sha256' is missing; of what lies at imports/pretrained it is {digest}"
    assert said.returncode and wanted in said.stdout + said.stderr
    project.edit("license: MIT", f"license: MIT, sha256: {digest}")
    project.genfoundry("check")
    ran = executed(project.dvc("repro", "sample@tuned").stdout)

    assert ran == {"code", "base@pretrained", "train@tuned", "sample@tuned"}
    tuned = project.root / "artifacts/models/tuned/model"
    assert (tuned / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert (tuned / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()
    assert (tuned / "weights.safetensors").read_bytes() != (source / "weights.safetensors").read_bytes()
    base = read_json(project.root / "artifacts/models/pretrained/model/base.json")
    assert base == {"format": "genfoundry", "license": "MIT", "sha256": digest}

    (source / "weights.safetensors").write_bytes(b"x" + (source / "weights.safetensors").read_bytes()[1:])
    broken = project.stage("base", "pretrained", check=False)
    assert broken.returncode == 13 and "Traceback" not in broken.stderr
    assert "weights.safetensors was changed" in broken.stderr
