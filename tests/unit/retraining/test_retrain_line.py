"""The real line under real git and DVC, around stages that take no time (tinyline.py)."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinyline
from tinyline import add_data, git, picture

from genfoundry.commands import check
from genfoundry.commands.retrain import slot_of, stoppable
from genfoundry.core.clock import SystemClock
from genfoundry.core.errors import ConfigError, DataError, DiskError, Exit, InfrastructureError
from genfoundry.core.processes import alive
from genfoundry.pipeline import stage
from genfoundry.retraining.engine import Outcome, retrain
from genfoundry.retraining.line import preflight
from genfoundry.retraining.line.preflight import check_branch
from genfoundry.retraining.line.real import RealLine
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.plan import plan
from genfoundry.retraining.protocol import Request, Snapshot, Work
from genfoundry.retraining.triggers import learnt
from genfoundry.state import children
from genfoundry.state.checkout import Checkout, Git
from genfoundry.state.children import failure
from genfoundry.state.events import read_events
from genfoundry.state.journal import Journal, home, worktrees


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tinyline.lay_out(tmp_path_factory.mktemp("tiny") / "project")


@pytest.fixture()
def root(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of its own; the tracking store, which costs seconds, is left to the end-to-end test."""
    monkeypatch.setattr(preflight, "preflight", lambda *words: {"free_gib": 1.0})
    monkeypatch.setattr(learnt, "remember", lambda *words: None)
    monkeypatch.setenv("MLFLOW_RUN_ID", "somebody else's")
    monkeypatch.setenv("DVC_ROOT", "/nowhere")
    shutil.copytree(original, tmp_path / "project", symlinks=True)
    yield tmp_path / "project"


def line_of(root: Path, dry: bool = False, **options: Any) -> RealLine:
    return RealLine(root, root, Retraining(**options), "tiny", SystemClock(), dry=dry, echo=False)


def go(root: Path, reason: str = "", **options: Any) -> Outcome:
    return retrain(line_of(root, **options), root, SystemClock(), Request(reason=reason))


def last_event(root: Path) -> dict[str, Any]:
    return list(read_events(root, "retrain"))[-1]


def test_a_retrain_leaves_a_branch_and_a_champion_and_no_trace_in_a_dirty_checkout(root: Path) -> None:
    add_data(root, "edit: the user types meanwhile")
    (root / "promote.json").write_text('{"told": {}, "code": 2}')
    (root / "notes.md").write_text("untracked")
    (root / "data/notes.txt").chmod(0o644)
    (root / "data/notes.txt").write_text("an edit that was not committed")
    before = picture(root)
    git(root, "remote", "add", "hub", str(root / "mlruns/hub.git"))
    git(root, "init", "-q", "--bare", str(root / "mlruns/hub.git"))
    before["files"] = picture(root)["files"]

    done = go(root, "new data", push="hub")

    assert (done.code, done.name) == (Exit.OK, "promoted"), done
    after = picture(root)
    assert after["files"].pop("edited.txt"), "no edit happened while a stage ran"
    assert after == before
    branch = done.facts["branch"]
    assert branch == f"retrain/{done.key}"
    assert git(root, "rev-parse", f"{branch}^") == git(root, "rev-parse", "HEAD")
    changed = git(root, "diff", "--name-only", f"HEAD..{branch}").split()
    assert changed == ["dvc.lock", "reports/evaluate.json", "reports/split.json"]
    text = "edit: the user types meanwhile"
    assert json.loads(git(root, "show", f"{branch}:reports/evaluate.json")) == {"characters": len(text)}
    assert "new data" in git(root, "log", "-1", "--format=%B", branch)
    assert git(root / "mlruns/hub.git", "rev-parse", branch) == git(root, "rev-parse", branch)
    entries = Journal(home(root) / done.key).entries
    assert entries[0]["snapshot"]["facts"]["dirty"] is True
    calls = (worktrees(root) / done.key / "calls.txt").read_text().split()
    assert calls == ["check", "record", "promote"]
    log = (home(root) / done.key / "promote-writer.log").read_text()
    assert "example.org" in log and "hunter2" not in log
    assert last_event(root)["decisions"][0]["champion_after"] == "2"
    # The worktree lies inside the checkout, and no tool of the checkout may walk into it.
    status = subprocess.run(["dvc", "status", "-q"], cwd=root, capture_output=True, text=True, check=False)
    assert "worktrees" not in status.stdout + status.stderr
    assert (worktrees(root) / done.key / ".dvc/config.local").stat().st_mode & 0o77 == 0
    facts = entries[0]["snapshot"]
    snapshot = Snapshot(facts["commit"], facts["data"], facts["params"], facts["lock"], tuple(facts["models"]))
    again = Work(done.key, snapshot, home(root) / done.key, 2)
    assert line_of(root).commit(again)["commit"] == git(root, "rev-parse", branch), "the same result, the same commit"
    git(root, "branch", "-f", branch, "HEAD")
    git(root, "switch", "-q", branch)
    with pytest.raises(InfrastructureError, match="checked out in"):
        line_of(root).commit(again)


@pytest.mark.long
def test_poisoned_data_are_bad_data_though_dvc_ends_with_255(root: Path) -> None:
    add_data(root, "poison")

    done = go(root)

    assert (done.code, done.name) == (Exit.BAD_DATA, "bad_data")
    assert "split@notes: notes: 1 record is poisoned" in done.message
    assert "record" not in (worktrees(root) / done.key / "calls.txt").read_text()
    assert not git(root, "branch", "--list", "retrain/*")


@pytest.mark.long
def test_data_as_they_lie_there_are_copied_and_data_that_change_meanwhile_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "data/notes.txt").chmod(0o644)
    (root / "data/notes.txt").write_text("as it lies there")
    # Relative in the file, so relative to that file: in a worktree it would lead elsewhere.
    tinyline.dvc(root, "remote", "add", "-q", "-d", "store", "../store")
    git(root, "commit", "-q", "-a", "-m", "remote")
    before = picture(root)

    done = go(root, data="workspace")

    assert done.code == Exit.OK, done
    assert any(
        path.read_bytes() == b"as it lies there" for path in (root.parent / "store").rglob("*") if path.is_file()
    )
    assert picture(root) == before, "data.dvc of the checkout is the user's"
    shown = json.loads(git(root, "show", f"{done.facts['branch']}:reports/evaluate.json"))
    assert shown == {"characters": len("as it lies there")}
    assert git(root, "show", f"{done.facts['branch']}:data.dvc") != git(root, "show", "HEAD:data.dvc")
    assert go(root, data="workspace").code == Exit.NO_OP
    line = line_of(root, data="workspace")
    snapshot = line.snapshot()
    (root / "data/notes.txt").write_text("changed after the snapshot")
    monkeypatch.setattr(line, "snapshot", lambda: type(snapshot)(**{**vars(snapshot), "commit": snapshot.commit,
                        "data": {"data.dvc": "0" * 32 + ".dir"}}))  # fmt: skip
    assert retrain(line, root, SystemClock(), Request()).code == Exit.BAD_DATA


@pytest.mark.long
def test_an_update_command_brings_data_that_the_checkout_does_not_get(root: Path) -> None:
    before = picture(root)
    script = "import os; os.remove('data/notes.txt'); open('data/notes.txt', 'w').write('brought; touch /tmp/never')"

    dry, code = plan(line_of(root, dry=True, update=("python", "-c", script)), root, SystemClock(), Request())
    assert code == Exit.OK and any("would run first" in words for words in dry)
    assert picture(root) == before and not home(root).exists(), "a dry run touched something"
    done = go(root, update=("python", "-c", script))

    assert done.code == Exit.OK, done
    assert picture(root) == before
    shown = json.loads(git(root, "show", f"{done.facts['branch']}:reports/evaluate.json"))
    assert shown == {"characters": len("brought; touch /tmp/never")}
    assert not (worktrees(root) / "incoming").exists()
    assert go(root, update=("python", "-c", script)).code == Exit.NO_OP, "the same data were brought again"


def dry(root: Path, contents: Any, **options: Any) -> tuple[str, Exit]:
    before = picture(root)
    words, code = plan(line_of(root, dry=True, **options), root, SystemClock(), Request(), contents)
    assert picture(root) == before and not home(root).exists(), "a dry run touched something"
    return "\n".join(words), code


def test_a_dry_run_foresees_what_the_retrain_will_be_refused_for(root: Path) -> None:
    assert dry(root, lambda project: [])[1] == Exit.OK

    words, code = dry(root, lambda project: [], free_gib=1e9)
    assert code == Exit.DISK and "refused at preflight" in words and "exit    15, as it stands" in words
    words, code = dry(root, lambda project: [], push="hub")
    assert code == Exit.INFRASTRUCTURE and "refused at push: git knows no remote 'hub'" in words
    words, code = dry(root, lambda project: [], update=("no-such-command",), push="hub")
    assert code == Exit.USAGE and "refused at update: no-such-command: no such command" in words
    key = line_of(root).snapshot().key
    git(root, "switch", "-q", "-c", f"retrain/{key}")
    words, code = dry(root, lambda project: [])
    assert code == Exit.INFRASTRUCTURE and f"refused at commit: branch retrain/{key} is checked out in" in words


def test_a_dry_run_checks_the_commit_with_its_data_and_not_the_checkout(root: Path) -> None:
    """What the retrain runs `genfoundry check` on: other edits take no part, and data only where they are the same."""
    seen: list[tuple[str, bool]] = []

    def contents(project: Path) -> list[str]:
        data = project / "data/notes.txt"
        seen.append(((project / "params.yaml").read_text(), data.is_file() and data.read_text() == "first"))
        return ["params.yaml: one", "data: another"]

    committed = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text("edited: true")
    words, code = dry(root, contents)
    assert code == Exit.USAGE and seen == [(committed, True)]
    assert "refused at contracts: params.yaml: one\nrefused at contracts: data: another\n" in words

    (root / "data/notes.txt").chmod(0o644)
    (root / "data/notes.txt").write_text("changed, not committed")
    dry(root, contents)
    assert seen.pop() == (committed, False), "data of a commit lie in the cache alone"
    assert "refused at data" not in words

    shutil.rmtree(root / ".dvc/cache")
    words, code = dry(root, contents)
    assert code == Exit.INFRASTRUCTURE and "refused at data: data.dvc: 1 of its objects are not in DVC's cache" in words


def test_a_dry_run_with_the_real_check_names_settings_and_data(root: Path) -> None:
    (root / "data").chmod(0o755)
    (root / "data/train").mkdir()
    (root / "data/holdout").mkdir()
    (root / "data/train/a.txt").write_text("some words")
    (root / "data/holdout/b.txt").write_text("other words")

    words, code = dry(root, lambda project: check.contents(project)[0], data="workspace")

    assert code == Exit.USAGE and "'train' and 'holdout' stand side by side" in words, words


def test_data_with_links_are_refused_before_they_are_copied(root: Path) -> None:
    """cp follows links to folders, DVC does not: the copy would be another than data.dvc says."""
    (root / "data").chmod(0o755)
    (root / "data/more").symlink_to(root / "src")

    with pytest.raises(DataError, match=r"data/more: a link to a folder, which DVC does not version"):
        dry(root, lambda project: [], data="workspace")
    assert go(root, data="workspace").code == Exit.BAD_DATA


@pytest.mark.parametrize(
    ("update", "code", "words"),
    [
        (("no-such-command",), Exit.USAGE, "no such command"),
        (("python", "-c", "import sys; print('ERROR: the door is shut'); sys.exit(3)"), Exit.INFRASTRUCTURE, "door"),
        (("python", "-c", "import sys; sys.exit('no new data'); "), Exit.INFRASTRUCTURE, "no new data"),
        (("python", "-c", "import time; time.sleep(60)"), Exit.INFRASTRUCTURE, "update_minutes"),
    ],
)
@pytest.mark.long
def test_an_update_command_that_fails_says_so(root: Path, update: tuple[str, ...], code: Exit, words: str) -> None:
    done = go(root, update=update, update_minutes=0.03)

    assert done.code == code and words in done.message, done


def in_a_process(root: Path, **options: Any) -> multiprocessing.Process:
    def act() -> None:
        with stoppable():
            os._exit(retrain(line_of(root, **options), root, SystemClock(), Request()).code)

    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    return process


def wait_for(path: Path, process: multiprocessing.Process) -> str:
    while not path.exists() or not path.read_text():
        assert process.is_alive(), f"ended with {process.exitcode} before there was {path}"
        time.sleep(0.05)
    return path.read_text()


@pytest.mark.long
def test_sigterm_reaches_the_stage_which_saves_and_the_retrain_is_preempted(root: Path) -> None:
    add_data(root, "slow")
    process = in_a_process(root)
    stage = int(wait_for(root / "slow.txt", process))

    os.kill(process.pid or 0, signal.SIGTERM)
    process.join(60)

    assert process.exitcode == Exit.PREEMPTED
    assert (root / "saved.txt").exists() and not alive(stage)
    assert last_event(root)["outcome"] == "preempted"


@pytest.mark.long
def test_what_a_killed_retrain_left_running_is_ended_by_the_next(root: Path) -> None:
    add_data(root, "slow")
    process = in_a_process(root)
    stage = int(wait_for(root / "slow.txt", process))
    # The stage is stopped, so that it can't end by itself when dvc dies.
    os.kill(stage, signal.SIGSTOP)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    assert alive(stage) and children.marked(root)
    os.kill(stage, signal.SIGCONT)
    (root / "slow.txt").unlink()

    assert line_of(root).sweep()["ended"] or not alive(stage)

    assert not alive(stage) and not children.marked(root)


def test_twenty_started_at_once_one_runs_and_nineteen_are_recorded_as_skipped(tmp_path: Path) -> None:
    from test_retrain_engine import Dummy

    class Slow(Dummy):
        def train(self, work: Any) -> dict[str, Any]:
            # Until all others have had their answer.
            end = time.monotonic() + 60
            while sum(event["outcome"] == "busy" for event in read_events(tmp_path, "retrain")) < 19:
                assert time.monotonic() < end
                time.sleep(0.02)
            return super().train(work)

    def act() -> None:
        os._exit(retrain(Slow(), tmp_path, SystemClock(), Request()).code)

    processes = [multiprocessing.get_context("fork").Process(target=act) for _ in range(20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(90)

    assert sorted(process.exitcode for process in processes) == [0] + [12] * 19
    outcomes = [event["outcome"] for event in read_events(tmp_path, "retrain")]
    assert sorted(outcomes) == ["busy"] * 19 + ["promoted"]


@pytest.mark.parametrize(
    ("code", "tail", "failed", "expected"),
    [
        (255, ["ERROR: failed to reproduce"], {"stage": "train@m", "code": 14, "message": "nan"}, (14, "nan")),
        (255, ["ERROR: failed: [Errno 28] No space left on device"], None, (15, "no space left")),
        (255, ["ERROR: './dvc.lock' is invalid."], None, (16, "dvc.lock")),
        (-9, [], None, (16, "killed by signal 9")),
        (13, ["genfoundry check: data/ is not what data.dvc says"], None, (13, "data.dvc says")),
        (1, ["Traceback", "KeyError: 'x'"], None, (16, "KeyError")),
        (143, ["stopped"], None, (143, "stopped")),
        (255, ["ERROR: no bucket", "ERROR: failed to push"], None, (16, "255: ERROR: no bucket (and 1 more)")),
        (2, ["fault: unknown key 'x'", "1 fault"], None, (2, "2: fault: unknown key 'x' (log")),
        (2, ["note: 1 GiB", "fault: a", "fault: b", "2 faults"], None, (2, "2: fault: a (and 1 more) (log")),
        (1, [], None, (16, "it said nothing")),
    ],
)  # fmt: skip
def test_what_the_end_of_a_command_means(
    code: int, tail: list[str], failed: dict[str, Any] | None, expected: tuple[int, str]
) -> None:
    error = failure(["python", "-m", "dvc", "repro"], children.Ended(code, tail), failed, Path("train.log"))

    assert int(error.exit_code) == expected[0] and expected[1] in str(error)


def test_a_stage_that_fails_leaves_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(stage.FAILURE_FILE, str(tmp_path / "failure.json"))

    assert stage._failed(DataError("notes: 7 of 9 are broken"), "ingest@notes", None) == 13

    told = json.loads((tmp_path / "failure.json").read_text())
    assert told == {"stage": "ingest@notes", "code": 13, "message": "notes: 7 of 9 are broken"}


def test_a_worktree_goes_with_gits_note_of_it_and_no_other_note(root: Path) -> None:
    git(root, "worktree", "add", "-q", str(root / "mlruns/unplugged"))
    shutil.rmtree(root / "mlruns/unplugged")
    checkout = Checkout(root, worktrees(root) / "k")
    for lost in (False, True):
        checkout.add("HEAD")
        assert checkout.standing()
        if lost:
            shutil.rmtree(checkout.folder)
            assert not checkout.standing()
            checkout.add("HEAD")
        (checkout.folder / ".git").unlink()
        assert not checkout.standing(), "git would take the checkout around it for this one"
        checkout.remove()
        assert not checkout.folder.exists()
    assert "unplugged" in git(root, "worktree", "list")


def test_a_command_is_stopped_with_all_it_started_when_its_time_is_up(tmp_path: Path) -> None:
    command = ["sh", "-c", "trap '' TERM; sleep 60 & echo $! > child.txt; echo half a line; printf more; wait"]

    with pytest.raises(children.TimeUp):
        children.run(command, tmp_path, os.environ, tmp_path / "log", 0.5, grace_s=0.3, echo=False)

    assert not alive(int((tmp_path / "child.txt").read_text()))
    assert (tmp_path / "log").read_text() == "half a line\nmore\n"


def test_output_of_a_child_that_lives_on_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    # setsid: it left the group, as a daemon does, and keeps the pipe.
    done = children.run(
        ["sh", "-c", "setsid sleep 20 & echo done"], tmp_path, os.environ, tmp_path / "log", 30, echo=False
    )

    assert (done.code, done.last()) == (0, "done") and time.monotonic() - started < 10


def test_what_stands_in_the_way_of_a_snapshot_is_said(root: Path) -> None:
    with pytest.raises(ConfigError, match="git knows no branch 'nightly'"):
        line_of(root, branch="nightly").snapshot()
    with pytest.raises(ConfigError, match="'writter'; did you mean 'writer'"):
        line_of(root, models=("writter",)).snapshot()
    shutil.rmtree(root / "data")
    with pytest.raises(DataError, match="put the data there"):
        line_of(root, data="workspace").snapshot()
    git(root, "rm", "-q", "--cached", "data.dvc")
    git(root, "commit", "-q", "-m", "without")
    with pytest.raises(ConfigError, match="`dvc add data` and commit it"):
        line_of(root).snapshot()


def test_a_branch_in_the_way_of_the_results_is_refused_before_anything_is_made(root: Path) -> None:
    git(root, "branch", "retrain")

    outcome = go(root)

    assert outcome.code == Exit.USAGE
    assert "branch 'retrain' here leaves no room for 'retrain/" in last_event(root)["message"]
    assert not list(worktrees(root).glob("*")), "trained for nothing"


def test_a_branch_in_the_way_at_the_remote_is_refused_and_a_remote_that_is_down_is_not(
    root: Path, tmp_path: Path
) -> None:
    here = Git(root)
    check_branch(here, "retrain/k", str(tmp_path / "down"))
    git(root, "init", "-q", "--bare", str(tmp_path / "remote"))
    check_branch(here, "retrain/k", str(tmp_path / "remote"))
    git(root, "push", "-q", str(tmp_path / "remote"), "main:retrain")

    with pytest.raises(ConfigError, match=r"branch 'retrain' at .*/remote leaves no room for 'retrain/k'"):
        check_branch(here, "retrain/k", str(tmp_path / "remote"))
    git(root, "push", "-q", str(tmp_path / "remote"), ":retrain", "main:refs/heads/retrain/k/old/one")
    check_branch(here, "retrain/k", str(tmp_path / "down"))
    with pytest.raises(ConfigError, match=r"branch 'retrain/k/old/one' at .*/remote leaves no room for 'retrain/k'"):
        check_branch(here, "retrain/k", str(tmp_path / "remote"))
    git(root, "branch", "retrain/k/old")
    with pytest.raises(
        ConfigError, match=r"branch 'retrain/k/old' here leaves no room for 'retrain/k', .* -m retrain/k/o"
    ):
        check_branch(here, "retrain/k")
    with pytest.raises(ConfigError, match="branch 'retrain/k/old' here leaves no room for 'retrain/k/old/x/y'"):
        check_branch(here, "retrain/k/old/x/y")
    git(root, "branch", "-D", "-q", "retrain/k/old")
    git(root, "branch", "retrain/kk")
    check_branch(here, "retrain/k")
    git(root, "checkout", "-q", "-b", "retrain/k")
    with pytest.raises(InfrastructureError, match="checked out in"):
        check_branch(here, "retrain/k")


def test_what_dvc_says_of_a_remote_that_lacks_the_data_is_handed_on(root: Path, tmp_path: Path) -> None:
    tinyline.dvc(root, "remote", "add", "-q", "-d", "store", str(tmp_path / "store"))
    git(root, "commit", "-q", "-a", "-m", "remote")
    shutil.rmtree(root / ".dvc/cache")

    outcome = go(root)

    message = last_event(root)["message"]
    assert outcome.code == Exit.INFRASTRUCTURE and "said nothing" not in message
    assert "dvc pull ended with" in message and "ERROR: " in message


def test_too_little_disk_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    from genfoundry.retraining.line.preflight import preflight as real

    with pytest.raises(DiskError, match="asks for 1e\\+09"):
        real(tmp_path, "tiny", ["m"], 1e9)


def test_slots_are_told_in_utc() -> None:
    assert slot_of("2026-03-29T03:30:00+02:00") == "2026-03-29T01:30:00Z"
    for text, words in {"soon": "not a time", "2026-03-29T03:30:00": "no time zone"}.items():
        with pytest.raises(ConfigError, match=words):
            slot_of(text)
