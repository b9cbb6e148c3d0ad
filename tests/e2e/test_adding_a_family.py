"""The page on adding a model is true: its very code, put into a project, goes through the contract and the line."""

import re
import shutil
import sys

import partpage
import pytest
from conftest import ROOT, Project
from test_line import executed

from genfoundry.core.io import read_json


@pytest.fixture()
def extended(project: Project) -> Project:
    """A finished project with the page's family and block."""
    partpage.add(project, "A family")
    (project.root / "tests").mkdir()
    shutil.copy(ROOT / "tests/unit/models/test_models.py", project.root / "tests")
    shutil.copy(ROOT / "tests/support/trainline.py", project.root / "tests")
    return project


def test_one_file_and_one_block_make_a_family(extended: Project) -> None:
    contract = ("tests/test_models.py", "-k", "ppca", "-n", "0", "-p", "no:cacheprovider")

    kept = extended.run(sys.executable, "-m", "pytest", *contract)
    extended.genfoundry("check")
    ran = executed(extended.dvc("repro", "evaluate@bars-ppca").stdout)

    assert re.search(r"[1-9]\d* passed", kept.stdout) and "failed" not in kept.stdout
    stages = {f"{stage}@bars-ppca" for stage in ("train", "sample", "extract", "evaluate")}
    assert ran == {"code", *stages}
    scores = read_json(extended.root / "reports/models/bars-ppca/scores.json")
    assert any(name.startswith("fid_domain@") for name in scores)
    assert read_json(extended.root / "reports/models/bars-ppca/samples/latent.json")["latent"] == 4
