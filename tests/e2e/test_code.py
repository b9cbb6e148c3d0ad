"""What an edit of the sources re-runs, by DVC itself; `tests/project/test_code.py` has the whole table."""

import re
import sys

from conftest import Project
from test_line import executed

PIXELS = "src/genfoundry/nn/pixels.py"


def append(project: Project, file: str, text: str) -> None:
    with (project.root / file).open("a") as lines:
        lines.write(text)


def test_a_comment_re_runs_nothing_but_the_digests(project: Project) -> None:
    append(project, PIXELS, "\n# A remark.\n")

    done = project.dvc("repro")

    assert executed(done.stdout) == {"code"}
    assert executed(project.dvc("repro").stdout) == set()
    assert "note" not in project.genfoundry("check").stdout


def test_a_family_re_runs_its_models_and_what_stands_on_them(project: Project) -> None:
    """Equal weights end it there: the samples of the same model are not drawn again for their own sake."""
    append(project, "src/genfoundry/models/transformer.py", "\nUNUSED = 1\n")

    ran = executed(project.dvc("repro").stdout)

    # All three name the family; what they make is equal, so that scores and report stay.
    assert ran == {"code", *(f"{stage}@notes-transformer" for stage in ("train", "sample", "extract"))}


def test_a_metric_re_runs_the_scores(project: Project) -> None:
    append(project, "src/genfoundry/metrics/self_bleu.py", "\nUNUSED = 1\n")

    ran = executed(project.dvc("repro").stdout)

    assert ran == {"code", "evaluate@bars-vae", "evaluate@notes-transformer", "report"}


def test_a_stale_code_file_is_refused_said_and_written_anew(project: Project) -> None:
    append(project, PIXELS, "\nUNUSED = 1\n")

    alone = project.dvc("repro", "--force", "--single-item", "train@bars-vae", check=False)
    told = project.genfoundry("check").stdout
    recorded = project.genfoundry("record").stdout

    assert alone.returncode != 0 and "genfoundry.nn.pixels changed; run `dvc repro code` first" in alone.stderr
    assert re.search(r"note: artifacts/code/\S+ is stale: genfoundry.nn.pixels changed \(and \d+ more\)", told)
    assert re.search(r"train@bars-vae\s+artifacts/code/train@bars-vae.json is stale", recorded)

    # DVC then believes that the old files belong to the new sources, for ever.
    project.dvc("commit", "--force", "code")
    assert executed(project.dvc("repro", "train@bars-vae").stdout) == set()
    assert "dvc repro --force code" in project.genfoundry("check").stdout

    project.dvc("repro", "--force", "code")
    assert "note" not in project.genfoundry("check").stdout
    assert executed(project.dvc("repro", "train@bars-vae").stdout) == {"train@bars-vae"}


def test_what_cant_be_followed_ends_the_line_before_it_begins(project: Project) -> None:
    append(project, PIXELS, "\nfound = __import__('json')\n")

    done = project.dvc("repro", check=False)

    assert done.returncode != 0 and executed(done.stdout) == {"code"}
    assert "src/genfoundry/nn/pixels.py:" in done.stderr and ": __import__" in done.stderr
    checked = project.genfoundry("check", check=False)
    assert checked.returncode == 2 and ": __import__" in checked.stdout + checked.stderr


def test_a_stage_that_imports_more_than_its_digest_saw_fails(project: Project) -> None:
    """Through plumbing, which is not followed."""
    append(project, "src/genfoundry/core/progress.py", "\nimport genfoundry.data.shards.borders\n")
    assert executed(project.dvc("repro", "base@scratch").stdout) == {"code"}

    done = project.run(sys.executable, "-m", "pipelines.sample", "bars-vae", check=False)

    assert done.returncode == 2
    assert (
        "imported genfoundry.data, genfoundry.data.shards, genfoundry.data.shards.borders, which artifacts/code/sam"
        in (done.stderr)
    )
