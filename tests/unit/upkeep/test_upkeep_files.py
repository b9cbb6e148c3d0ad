"""Upkeep of files: checkpoints, worktrees, journals and branches, shards, leftovers, and the objects of DVC's cache."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from histories import SetClock, age, git

from genfoundry.core.errors import BusyError, DataError, InfrastructureError
from genfoundry.core.io import read_json
from genfoundry.state.heartbeat import beat, heartbeat_file
from genfoundry.tracking.recipe import locked_model
from genfoundry.upkeep import dvccache, files
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.protection import workspaces
from genfoundry.upkeep.sweep import in_words

CLOCK = SetClock(datetime.now(UTC))

MODEL = "c" * 32 + ".dir"


def lock_of(key: str, md5: str) -> str:
    """A dvc.lock as DVC writes it, with the model as output of one stage and input of the next."""
    entry = (
        f"    - path: artifacts/models/{key}/model\n      hash: md5\n      md5: {md5}\n      size: 9\n      nfiles: 3\n"
    )
    other = "    - path: artifacts/models/scratch/model\n      hash: md5\n      md5: " + "0" * 32 + ".dir\n"
    return (
        f"schema: '2.0'\nstages:\n  train@{key}:\n    cmd: x\n    deps:\n{other}    outs:\n{other}{entry}"
        f"  sample@{key}:\n    cmd: x\n    deps:\n{entry.replace(md5, 'f' * 32)}    outs:\n{other}"
    )


@pytest.fixture()
def root(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q")
    (root / ".gitignore").write_text("/mlruns/\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    return root


def retrain(root: Path, key: str, days: float, branch: str = "", ended: bool = True, worktree: bool = True) -> Path:
    """Leave what a retrain leaves: journal, outcome, branch with a dvc.lock, worktree."""
    home = root / "mlruns/retraining"
    (home / key).mkdir(parents=True)
    (home / key / "journal.jsonl").write_text("{}\n")
    if ended:
        at = datetime.fromtimestamp(CLOCK.now().timestamp() - days * 86_400, UTC)
        (home / key / "outcome.json").write_text(json.dumps({"at": at.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    place = home / "worktrees" / key
    git(root, "worktree", "add", "-q", "--detach", str(place))
    if branch:
        (place / "dvc.lock").write_text(branch)
        git(place, "add", "-A")
        git(place, "commit", "-q", "-m", key)
        git(root, "branch", f"retrain/{key}", git(place, "rev-parse", "HEAD"))
    age(place, days, CLOCK)
    if not worktree:
        git(root, "worktree", "remove", "--force", str(place))
    return place


def carry_out(plan: object) -> dict[str, list[str]]:
    """Names that went, by kind."""
    gone: dict[str, list[str]] = {}
    for kind, what, _, why, act in list(plan):  # type: ignore[call-overload]
        assert why
        act()
        gone.setdefault(kind, []).append(what)
    return gone


def everything(root: Path, keep: Keep, models: set[str] | None = None, data_cache: float = 1) -> dict[str, list[str]]:
    return carry_out(files.plan_files(root, root, keep, CLOCK.now(), models, data_cache))


def test_worktrees_journals_and_branches_go_but_not_those_of_a_serving_model(root: Path) -> None:
    places = [retrain(root, f"k{n}", 10 - n, lock_of("m", f"{n}" * 32 + ".dir")) for n in range(4)]
    retrain(root, "champion", 300, lock_of("m", MODEL), worktree=False)
    retrain(root, "halfway", 1, ended=False)
    lost = retrain(root, "lost", 90, ended=False)
    running = retrain(root, "running", 90, ended=False)
    (root / "mlruns/retraining/open.json").write_text(json.dumps({"key": "running"}))
    keep = Keep(worktrees=1, retrains=2, checkpoints_days=14)

    gone = everything(root, keep, {MODEL})

    assert gone == {
        "worktree": ["k2", "k1", "k0", "lost"],
        "branch": ["retrain/k1", "retrain/k0"],
        "journal": ["k1", "k0"],
    }
    assert running.is_dir() and places[3].is_dir() and not lost.exists() and not places[0].exists()
    assert git(root, "branch", "--format=%(refname:short)").split()[1:] == [
        "retrain/champion",
        "retrain/k2",
        "retrain/k3",
    ]
    assert str(places[0]) not in git(root, "worktree", "list")
    assert everything(root, keep, {MODEL}) == {}


def test_branches_stay_while_it_is_not_known_which_models_serve(root: Path) -> None:
    for number in range(3):
        retrain(root, f"k{number}", 10 - number, lock_of("m", MODEL), worktree=False)

    gone = everything(root, Keep(retrains=1), None)

    assert gone == {}


def test_old_checkpoints_and_the_gates_work_go_and_young_ones_stay(root: Path) -> None:
    for name, days in {"m-old": 20.0, "m-young": 13.0}.items():
        folder = root / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "step-1.pt").write_bytes(b"12345")
        age(folder, days, CLOCK)
        gate = root / "mlruns/gate/work" / name
        gate.mkdir(parents=True)
        age(gate, days, CLOCK)

    planned = list(files.plan_files(root, root, Keep(), CLOCK.now(), set(), 1))
    gone = everything(root, Keep())

    assert next((kind, what, size) for kind, what, size, _, _ in planned) == ("checkpoints", "m-old", 5)
    assert gone == {"checkpoints": ["m-old"], "gate": ["work/m-old"]}
    assert (root / "checkpoints/m-young/step-1.pt").is_file()


def test_the_least_used_shards_go(root: Path) -> None:
    for number, days in enumerate((3, 1, 2)):
        folder = root / "cache/shards" / (str(number) * 64)
        folder.mkdir(parents=True)
        (folder / "clean.parquet").write_bytes(bytes(1000))
        age(folder, days, CLOCK)

    gone = everything(root, Keep(), data_cache=2000 / 2**30)

    assert gone == {"shards": ["0" * 12]}


def test_leftovers_of_dead_processes_go_and_those_of_living_ones_stay(root: Path) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    pid = int(dead.stdout)
    old, mine, young = (root / f"artifacts/m/.{name}.{number}.partial" for name, number in
                        (("model", pid), ("samples", os.getpid()), ("features", pid)))  # fmt: skip
    for path in (old, mine, young):
        path.mkdir(parents=True)
    for path in (old, mine):
        age(path, 1, CLOCK)

    assert everything(root, Keep()) == {"leftover": [old.relative_to(root).as_posix()]}
    assert mine.is_dir() and young.is_dir() and not old.exists()


def test_a_kill_while_a_folder_is_removed_leaves_no_half_of_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "checkpoints/m-old"
    folder.mkdir(parents=True)
    (folder / "step-1.pt").write_bytes(b"1")
    calls = []

    def killed(path: Path, ignore_errors: bool = False) -> None:
        calls.append(path)
        if len(calls) > 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(files.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        files.remove_folder(folder)

    assert not folder.exists() and calls[1].name == f".m-old.{os.getpid()}.partial"


def test_the_models_md5_is_read_from_the_outputs_of_its_own_stage() -> None:
    text = lock_of("m", MODEL)

    assert locked_model(text, "m") == MODEL
    assert locked_model(text, "other") == ""


# DVC's cache.


def put(cache: Path, content: bytes) -> str:
    """An object as DVC would leave it."""
    md5 = hashlib.md5(content).hexdigest()
    path = dvccache.object_path(cache, md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o444)
    return md5


def put_folder(cache: Path, content: bytes) -> str:
    entries = json.dumps([{"md5": put(cache, content), "relpath": "a"}]).encode()
    md5 = put(cache, entries)
    path = dvccache.object_path(cache, md5)
    path.rename(path.with_name(path.name + ".dir"))
    return md5 + ".dir"


def pointer(md5: str) -> str:
    return f"outs:\n- md5: {md5}\n  size: 1\n  hash: md5\n  path: data\n"


def test_an_object_is_needed_if_any_pointer_leads_to_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One on a branch, one in a tag, one uncommitted, one in a worktree, one in a recipe; others go, after a day."""
    subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    cache = root / ".dvc/cache"
    names = ("branch", "tag", "workspace", "worktree", "recipe", "nowhere")
    md5 = {name: put_folder(cache, name.encode()) for name in names}
    for name in ("branch", "tag"):
        git(root, "checkout", "-q", "-b", name)
        (root / "data.dvc").write_text(pointer(md5[name]))
        git(root, "add", "data.dvc")
        git(root, "commit", "-q", "-m", name)
    git(root, "tag", "-a", "-m", "v1", "v1")
    git(root, "checkout", "-q", "-B", "tag", "HEAD~2")
    (root / "data.dvc").write_text(pointer(md5["workspace"]))
    git(root, "worktree", "add", "-q", "--detach", str(root / "mlruns/retraining/worktrees/k"))
    (root / "mlruns/retraining/worktrees/k/dvc.lock").write_text(lock_of("m", md5["worktree"]))
    recipe, keep = lock_of("m", md5["recipe"]), Keep(cache_gib=1e-9)

    young = list(files.plan_cache(root, keep, CLOCK.now(), [recipe]))
    CLOCK.sleep(2 * dvccache.GRACE_S)
    (removal,) = files.plan_cache(root, keep, CLOCK.now(), [recipe])
    removal[4]()

    assert young == [], "an object younger than a day went"
    left = {key for key, _ in dvccache.objects(cache)}
    for name in names:
        folder = {md5[name], hashlib.md5(name.encode()).hexdigest()}
        assert folder <= left if name != "nowhere" else not folder & left, name
    assert removal[1].startswith("2 objects")
    assert list(files.plan_cache(root, keep, CLOCK.now(), [recipe])) == []
    assert list(files.plan_cache(root, Keep(cache_gib=1), CLOCK.now(), [])) == [], "it is smaller than it may be"
    # DVC at work: its table of readers and writers names a living process.
    table = {str(root / "data"): {"write": {"pid": os.getpid(), "cmd": "dvc repro"}, "read": []}}
    (root / ".dvc/tmp/rwlock").write_text(json.dumps(table))
    with pytest.raises(BusyError, match=f"DVC is at work .process {os.getpid()}"):
        list(files.plan_cache(root, keep, CLOCK.now(), []))


def test_where_git_knows_no_answer_nothing_is_collected(root: Path) -> None:
    """A branch whose commit is lost: what it needs is not known, which is not the same as nothing."""
    (root / ".git/refs/heads/lost").write_text("1" * 40 + "\n")

    with pytest.raises(InfrastructureError, match="for-each-ref"):
        list(dvccache.pointers(root))


def test_where_git_does_not_answer_no_worktree_is_taken_for_all_of_them(root: Path) -> None:
    """A damaged repository: what other worktrees hold would not be protected."""
    (root / ".git/HEAD").write_text("nonsense\n")

    with pytest.raises(InfrastructureError, match="git worktree"):
        workspaces(root)


def test_a_damaged_list_of_a_folder_stops_the_collection(tmp_path: Path) -> None:
    md5 = put_folder(tmp_path, b"a")
    path = dvccache.object_path(tmp_path, md5)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(DataError, match="damaged list of a folder"):
        dvccache.needed(tmp_path, [pointer(md5)])
    assert dvccache.needed(tmp_path, [pointer(md5)], strict=False) == {md5}


def test_rot_that_dvc_does_not_see_is_seen(tmp_path: Path) -> None:
    md5 = put(tmp_path, b"weights")
    path = dvccache.object_path(tmp_path, md5)
    facts = path.stat()
    assert not dvccache.damaged(md5, path)

    path.chmod(0o644)
    path.write_bytes(b"weightz")
    path.chmod(0o444)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    assert dvccache.damaged(md5, path)


def test_the_sign_of_life_says_who_when_and_what(tmp_path: Path) -> None:
    clock = SetClock(datetime(2026, 3, 29, 1, 30, tzinfo=UTC))

    for outcome in ("promoted", "rejected"):
        beat(tmp_path, clock, "retrain", outcome=outcome)

    told = read_json(heartbeat_file(tmp_path))
    assert (told["at"], told["what"], told["outcome"]) == ("2026-03-29T01:30:00Z", "retrain", "rejected")
    assert told["pid"] == os.getpid()


def test_bytes_in_words() -> None:
    assert [in_words(count) for count in (0, 1023, 1024, 3 * 2**30)] == ["0 B", "1023 B", "1.0 KiB", "3.0 GiB"]
