"""What an edit of the sources re-runs, by DVC itself; `tests/project/test_code.py` has the whole table.

On the cheap stages of the miniature: DVC's cut-off is the same for all.
"""

import re
from pathlib import Path

import pytest
from conftest import Project, lay_out
from test_line import executed

TARGETS = ("ingest@bars", "base@scratch")
FILES = "src/genfoundry/modalities/image/files.py"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature, of which two stages have run. Look, don't touch."""
    project = lay_out(tmp_path_factory.mktemp("begun") / "project")
    assert executed(project.dvc("repro", *TARGETS).stdout) == {"code", *TARGETS}
    return project


@pytest.fixture()
def project(begun: Project, tmp_path: Path) -> Project:
    return begun.copy(tmp_path / "project")


def append(project: Project, file: str, text: str) -> None:
    with (project.root / file).open("a") as lines:
        lines.write(text)


def repro(project: Project, *words: str) -> set[str]:
    return executed(project.dvc("repro", *words, *TARGETS).stdout)


def test_a_comment_re_runs_nothing_but_the_digests(project: Project) -> None:
    append(project, FILES, "\n# A remark.\n")

    assert repro(project) == {"code"}
    assert repro(project) == set()
    assert "note" not in project.genfoundry("check").stdout


def test_a_part_re_runs_the_stages_that_load_it(project: Project) -> None:
    append(project, FILES, "\nUNUSED = 1\n")

    assert repro(project) == {"code", "ingest@bars"}


def test_what_writes_every_output_re_runs_all(project: Project) -> None:
    project.edit("indent=2", "indent=3", "src/genfoundry/core/io.py")

    assert repro(project) == {"code", *TARGETS}


def test_a_new_block_makes_its_own_file_alone(project: Project) -> None:
    text = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(text.replace("bases:\n", "bases:\n  other: {}\n"))

    assert repro(project, "base@other") == {"code", "base@other"}


def test_a_stale_code_file_is_named_refused_and_written_anew(project: Project) -> None:
    append(project, FILES, "\nUNUSED = 1\n")
    changed = "genfoundry.modalities.image.files changed"

    told = project.genfoundry("check").stdout
    recorded = project.genfoundry("record").stdout

    assert re.search(rf"note: artifacts/code/\S+ is stale: {changed} \(and \d+ more\)", told)
    assert re.search(rf"ingest@bars\s+artifacts/code/ingest@bars.json is stale: {changed}", recorded)

    # DVC then believes that the old files belong to the new sources, for good.
    project.dvc("commit", "--force", "code")
    assert repro(project) == set()
    assert "dvc repro --force code" in project.genfoundry("check").stdout
    alone = project.dvc("repro", "--force", "--single-item", "ingest@bars", check=False)
    assert alone.returncode != 0 and f"{changed}; run `dvc repro code` first" in alone.stdout + alone.stderr

    project.dvc("repro", "--force", "code")
    assert "note" not in project.genfoundry("check").stdout
    assert repro(project) == {"ingest@bars"}


def test_what_cant_be_followed_ends_the_line_before_it_begins(project: Project) -> None:
    append(project, FILES, "\nfound = __import__('json')\n")

    done = project.dvc("repro", *TARGETS, check=False)

    assert done.returncode != 0 and executed(done.stdout) == {"code"}
    assert re.search(rf"{FILES}:\d+: __import__", done.stdout + done.stderr)
    checked = project.genfoundry("check", check=False)
    assert checked.returncode == 2 and re.search(rf"{FILES}:\d+: __import__", checked.stdout + checked.stderr)


def test_a_stage_that_imports_more_than_its_digest_saw_fails(project: Project) -> None:
    """Through plumbing, which is not followed."""
    append(project, "src/genfoundry/core/errors.py", "\nimport genfoundry.data.shards.borders\n")
    assert repro(project) == {"code"}

    done = project.stage("base", "scratch", check=False)

    assert done.returncode == 2
    assert "imported genfoundry.data, genfoundry.data.shards, genfoundry.data.shards.borders, which" in done.stderr
