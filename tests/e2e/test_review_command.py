"""`genfoundry review` as a user runs it: write, serve, answer, rank, find it in MLflow."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from pathlib import Path

import pytest
from conftest import Project
from reviewing import PICTURES, answer_file, prefers
from reviewing import project as lay_out

from genfoundry.review.plan import read_plan
from genfoundry.tracking import tags
from genfoundry.tracking.store import open_store


@pytest.fixture()
def small(tmp_path: Path) -> Project:
    """A project that holds samples and nothing else."""
    root = lay_out(tmp_path / "project")
    (root / "src").symlink_to(Path(__file__).resolve().parents[2] / "src")
    return Project(root)


def test_a_page_is_written_answered_and_ranked(small: Project, tmp_path: Path) -> None:
    told = small.genfoundry("review", *PICTURES, "--pairs", "30").stdout
    folder = small.root / str(re.match(r"(\S+)/review\.html is for raters", told)[1])  # type: ignore[index]
    answers = answer_file(tmp_path / "ann.json", read_plan(folder), "ann", prefers(*PICTURES))

    ranked = small.genfoundry("review", "--results", str(folder), str(answers)).stdout
    again = small.genfoundry("review", "--results", str(folder), str(answers)).stdout

    assert re.findall(r"^  \d (\S+)", ranked, re.M) == list(PICTURES)
    page = small.root / str(re.search(r"^(\S+/index\.html)", ranked, re.M)[1])  # type: ignore[index]
    assert "Review of" in page.read_text()
    assert ranked == again
    store = open_store(small.root, "miniature")
    runs = store.client.search_runs([store.experiment], filter_string=f"tags.`{tags.KIND}` = 'review'")
    assert [run.info.run_id for run in runs] == [ranked.split("MLflow run ")[1].strip()]


def test_a_served_review_takes_answers_until_it_is_stopped(small: Project) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "genfoundry.cli", "review", *PICTURES[:2], "--serve"],
        cwd=small.root,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
        # A shell that starts the suite in the background lets it ignore SIGINT, and its children with it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        folder = small.root / Path(process.stdout.readline().split()[3].rstrip(";")).parent
        for item in read_plan(folder)["items"]:
            row = {"plan": embedded_plan(address), "rater": "ann", "item": item["id"], "choice": "tie"}
            request = urllib.request.Request(
                address + "answer", json.dumps(row).encode(), {"Content-Type": "application/json"}
            )
            assert urllib.request.urlopen(request, timeout=10).status == 204
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0

    ranked = small.genfoundry("review", "--results", str(folder)).stdout

    assert "60 answers of 1 raters" in ranked


def embedded_plan(address: str) -> str:
    page = urllib.request.urlopen(address, timeout=10).read().decode()
    return str(re.search(r'"plan":"([0-9a-f]{64})"', page)[1])  # type: ignore[index]


def test_what_can_t_be_compared_ends_with_its_exit_code(small: Project) -> None:
    assert small.genfoundry("review", "bars-vae", check=False).returncode == 2
    done = small.genfoundry("review", "bars-vae", "bars-wid", check=False)
    assert (done.returncode, "did you mean" in done.stderr) == (2, True)
    assert small.genfoundry("review", "--results", "nowhere", check=False).returncode == 2
