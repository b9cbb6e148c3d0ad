"""`genfoundry promote` and `rollback` on the miniature project, with models that are weak, good, equal and broken."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Project
from safetensors.torch import load_file, save_file

from genfoundry.config.sections.sampling import default_generator
from genfoundry.core.errors import ConfigError, DataError, Exit
from genfoundry.core.io import publish_folder, read_json
from genfoundry.gate import looks
from genfoundry.promotion import requests
from genfoundry.promotion.moves import ROLLED_BACK, Move, begin, pending
from genfoundry.promotion.promote import Outcome, Wishes, promote
from genfoundry.promotion.rollback import roll_back
from genfoundry.state.events import read_events
from genfoundry.tracking import tags
from genfoundry.tracking.registry import register
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import open_store
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered

KEY = "bars-vae"
WEAK, GOOD, EQUAL, BROKEN = "1", "2", "3", "4"
"""Versions: 40 steps, 250 larger steps, the same within noise, NaN."""


class Killed(BaseException):
    """As SIGKILL does, nothing of ours handles it."""


def changed(model: Path, target: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of a model whose weights were changed."""
    with publish_folder(target) as folder:
        for file in model.iterdir():
            if file.name not in ("manifest.json", "weights.safetensors"):
                shutil.copyfile(file, folder / file.name)
        weights = load_file(model / "weights.safetensors")
        save_file({name: change(tensor) for name, tensor in weights.items()}, folder / "weights.safetensors")
    return target


@pytest.fixture(scope="module")
def trained(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The miniature project with four versions of its picture model, and no champion."""
    project = finished.copy(tmp_path_factory.mktemp("promotion") / "project")
    params = project.root / "params.yaml"
    kept = params.read_text()
    # Quick, and good enough: a Fréchet distance of 37 against 99.
    project.edit(
        "training: {steps: 40, batch: 16, val_every: 20,",
        "training: {steps: 250, batch: 16, val_every: 250, optimizer: {lr: 0.005},",
    )
    model = project.root / "artifacts/models" / KEY / "model"
    weak = shutil.copytree(model, project.root / "weak")
    project.stage("train", KEY)
    good = shutil.move(model, project.root / "good")
    shutil.move(weak, model)
    # Lineage and reports of the weak one are back as they were, too.
    for name in ("artifacts/lineage", f"reports/models/{KEY}"):
        shutil.rmtree(project.root / name)
        shutil.copytree(finished.root / name, project.root / name, symlinks=True)
    params.write_text(kept)
    equal = changed(good, project.root / "equal", lambda tensor: tensor * (1 + 1e-6))
    broken = changed(good, project.root / "broken", lambda tensor: tensor * float("nan"))
    store = open_store(project.root, "miniature")
    for folder in (good, equal, broken):
        run = Run(store, store.client.create_run(store.experiment).info.run_id, "train")
        register(run, KEY, Path(folder), default_generator("vae"), project.root, loader=requests.__name__)
    return project


@pytest.fixture()
def mine(trained: Project, tmp_path: Path) -> Project:
    return trained.copy(tmp_path / "project")


def registered(project: Project) -> Registered:
    return Registered(open_store(project.root, "miniature"), KEY)


def promoted(
    project: Project, version: str = "", after: Callable[[str], None] = lambda step: None, **more: object
) -> Outcome:
    return promote(project.root, KEY, Wishes(version=version, **more), after)  # type: ignore[arg-type]


def failed(outcome: Outcome) -> set[str]:
    return {rule["name"] for rule in outcome.facts["rules"] if not rule["passed"]}


def events(project: Project) -> list[tuple[str, str]]:
    return [(event["kind"], event["version"]) for event in read_events(project.root)]


def at(step: str) -> Callable[[str], None]:
    def after(done: str) -> None:
        if done == step:
            raise Killed(step)

    return after


def test_the_first_champion_is_held_against_floors_and_the_next_against_it(mine: Project) -> None:
    weak = promoted(mine)
    assert weak.code == Exit.REJECTED and "better_than_nothing" in failed(weak)
    assert weak.facts["version"] == WEAK and weak.facts["champion_after"] is None
    assert weak.facts["servability"]["passed"] is None
    assert promoted(mine).facts == weak.facts, "the same question has the same answer"
    assert events(mine) == [("rejected", WEAK)], "and is told once"
    assert registered(mine).aliases() == {}

    good = promoted(mine, GOOD)
    assert good.code == Exit.OK and good.facts["verdict"] == "BLESSED"
    assert (good.facts["champion_before"], good.facts["champion_after"]) == (None, GOOD)
    assert good.facts["servability"]["passed"] and 0 < good.facts["servability"]["seconds"] < 120
    assert promoted(mine, GOOD).code == Exit.NO_OP

    # A model that is the same within noise is not better.
    equal = promoted(mine, EQUAL)
    assert equal.code == Exit.REJECTED and failed(equal) == {"superior:fid_domain:champion"}
    assert equal.facts["facts"]["look"]["number"] == 1
    assert events(mine) == [("rejected", WEAK), ("promoted", GOOD), ("rejected", EQUAL)]

    there = registered(mine)
    assert there.aliases() == {CHAMPION: GOOD}
    version = there.version(EQUAL)
    assert version.tags[tags.VERDICT] == "NOT_BLESSED" and "**failed**: fid_domain" in version.description
    story = there.store.client.get_registered_model(KEY).description
    assert "**version 2 became champion**" in story and "version 3 was rejected" in story
    assert looks.read(mine.root, "bars").champion.version == f"{KEY}/{GOOD}"
    files = {file.path for file in there.store.client.list_logged_model_artifacts(version.model_id)}
    assert "decision.json" in files


@pytest.mark.long
def test_numbers_that_are_none_never_pass(mine: Project) -> None:
    broken = promoted(mine, BROKEN)
    assert broken.code == Exit.REJECTED and "measurable" in failed(broken)
    registered(mine).point(CHAMPION, WEAK)
    assert promoted(mine, BROKEN).code == Exit.REJECTED


@pytest.mark.long
def test_a_model_that_does_not_serve_is_not_promoted(mine: Project) -> None:
    with (mine.root / "params.yaml").open("a") as params:
        params.write("retraining: {servability: {memory_gib: 0.05}}\n")

    large = promoted(mine, GOOD)

    assert large.code == Exit.REJECTED and failed(large) == {"servable"}
    assert "GiB to answer, 0.05 are allowed" in large.facts["servability"]["words"]
    assert registered(mine).aliases() == {}


LONG = [pytest.param(step, marks=pytest.mark.long) for step in ("judged", "recorded", "begin")]


@pytest.mark.parametrize("step", [*LONG, "champion"])
def test_a_promotion_that_was_killed_is_completed_by_the_next_call(mine: Project, step: str) -> None:
    registered(mine).point(CHAMPION, WEAK)
    with pytest.raises(Killed):
        promoted(mine, GOOD, after=at(step))
    assert registered(mine).aliases()[CHAMPION] == (GOOD if step == "champion" else WEAK)

    rerun = promoted(mine, GOOD)

    assert rerun.code == Exit.OK and rerun.facts["verdict"] == "BLESSED"
    assert registered(mine).aliases() == {CHAMPION: GOOD, PREVIOUS: WEAK}
    assert events(mine) == [("promoted", GOOD)]
    assert len(looks.read(mine.root, "bars").looks) == 1, "a rerun is no second look"
    assert promoted(mine, GOOD).code == Exit.NO_OP


SCRIPT = """
import os, signal, sys
from pathlib import Path
from genfoundry.promotion.promote import Wishes, promote

def after(step):
    if step == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

done = promote(Path.cwd(), "bars-vae", Wishes(version=sys.argv[1]), after)
sys.exit(int(done.code))
"""


@pytest.mark.long
def test_a_real_sigkill_between_the_aliases(mine: Project) -> None:
    registered(mine).point(CHAMPION, WEAK)

    done = mine.run(sys.executable, "-c", SCRIPT, GOOD, "previous", check=False, PYTHONPATH="src")

    assert done.returncode == -signal.SIGKILL, done.stderr
    assert registered(mine).aliases() == {CHAMPION: WEAK, PREVIOUS: WEAK}
    assert pending(mine.root, KEY).to == GOOD
    assert promoted(mine, GOOD).code == Exit.OK
    assert registered(mine).aliases() == {CHAMPION: GOOD, PREVIOUS: WEAK}
    assert events(mine) == [("promoted", GOOD)] and pending(mine.root, KEY) is None


@pytest.mark.long
def test_two_promoters_are_serialised_and_the_second_meets_the_new_champion(mine: Project) -> None:
    registered(mine).point(CHAMPION, WEAK)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [sys.executable, "-c", SCRIPT]
    env = {**os.environ, "PATH": path, "PYTHONPATH": "src"}
    both = [subprocess.Popen([*command, version, "never"], cwd=mine.root, env=env) for version in (GOOD, EQUAL)]
    codes = {version: process.wait(timeout=600) for version, process in zip((GOOD, EQUAL), both, strict=True)}

    assert sorted(codes.values()) == [Exit.OK, Exit.REJECTED]
    (winner,) = [version for version, code in codes.items() if code == Exit.OK]
    told = list(read_events(mine.root))
    assert [event["kind"] for event in told] == ["promoted", "rejected"]
    assert told[1]["before"] == winner, "the second one was held against the new champion"
    assert registered(mine).aliases() == {CHAMPION: winner, PREVIOUS: WEAK}


@pytest.mark.long
@pytest.mark.parametrize("killed", [False, True], ids=["rolled back", "a rollback that was killed"])
def test_a_champion_that_moves_while_it_is_judged_against_is_judged_anew(mine: Project, killed: bool) -> None:
    there = registered(mine)
    there.point(CHAMPION, WEAK)
    there.point(PREVIOUS, GOOD)
    seen = []

    def somebody_goes_back(step: str) -> None:
        if step == "judged" and not seen:
            seen.append(step)
            if killed:
                begin(mine.root, Move("id", ROLLED_BACK, KEY, GOOD, WEAK, WEAK, GOOD, "2026-11-26T03:00:00Z", "back"))
            else:
                roll_back(mine.root, KEY)

    outcome = promoted(mine, EQUAL, after=somebody_goes_back)

    # Better than the weak one, but that is not champion any more.
    assert outcome.code == Exit.REJECTED and outcome.facts["champion_before"] == GOOD
    assert "judged again" in " ".join(outcome.notes)
    assert there.aliases() == {CHAMPION: GOOD, PREVIOUS: WEAK}


def test_rollback_swaps_and_what_was_rolled_back_stays_out(mine: Project) -> None:
    there = registered(mine)
    with pytest.raises(ConfigError, match=r"no previous champion.*--to N \(1, 2, 3, 4\)"):
        roll_back(mine.root, KEY)
    there.point(CHAMPION, WEAK)
    promoted(mine, GOOD)

    done = mine.genfoundry("rollback", KEY, "--reason", "draws ghosts", "--json", "back.json")
    assert there.aliases() == {CHAMPION: WEAK, PREVIOUS: GOOD}
    assert "champion of bars-vae is version 1" in done.stdout
    assert read_json(mine.root / "back.json")["champion_before"] == GOOD
    assert "draws ghosts" in there.version(GOOD).tags[tags.ROLLED_BACK]

    # The scores have not changed, but a person has spoken.
    refused = promoted(mine, GOOD)
    assert refused.code == Exit.REJECTED and failed(refused) == {"rolled_back"}
    again = promoted(mine, GOOD, again="the ghosts were the data's")
    assert again.code == Exit.OK and tags.ROLLED_BACK not in there.version(GOOD).tags

    roll_back(mine.root, KEY)
    roll_back(mine.root, KEY)
    assert there.aliases() == {CHAMPION: GOOD, PREVIOUS: WEAK}
    with pytest.raises(ConfigError, match="version 2 is champion already"):
        roll_back(mine.root, KEY, to=GOOD)
    with pytest.raises(DataError, match=r"weight .* is not finite"):
        roll_back(mine.root, KEY, to=BROKEN)
    kinds = [kind for kind, _ in events(mine)]
    assert kinds == ["promoted", "rolled_back", "rejected", "promoted", "rolled_back", "rolled_back"]


def test_rollback_refuses_bytes_that_were_not_registered(mine: Project) -> None:
    there = registered(mine)
    there.point(CHAMPION, GOOD)
    there.point(PREVIOUS, WEAK)
    weights = mine.root / "mlruns/artifacts/models" / there.version(WEAK).model_id / "artifacts/weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")

    with pytest.raises(DataError, match=r"weights.safetensors was changed"):
        roll_back(mine.root, KEY)
    assert there.aliases()[CHAMPION] == GOOD


@pytest.mark.long
def test_a_champion_that_was_deleted_is_said_and_the_one_before_it_judges(mine: Project) -> None:
    there = registered(mine)
    there.point(CHAMPION, WEAK)
    promoted(mine, GOOD)
    there.store.client.delete_model_version(KEY, GOOD)
    looks_before = looks.read(mine.root, "bars").champion

    assert looks_before.version == f"{KEY}/{GOOD}"
    with pytest.raises(DataError, match=r"best champion so far, can't be loaded.*--forget-best"):
        promoted(mine, EQUAL)
    assert there.aliases()[CHAMPION] == WEAK
    assert events(mine)[-1] == ("restored", WEAK)


def test_code_in_the_store_is_never_run(mine: Project) -> None:
    """As a stranger with write access to the store would do it: a loader, a pickle, code to import."""
    there = registered(mine)
    there.point(CHAMPION, WEAK)
    canary = mine.root / "canary"
    attack = f"import pathlib; pathlib.Path({str(canary)!r}).touch()\n"
    for number in (WEAK, GOOD):
        home = mine.root / "mlruns/artifacts/models" / there.version(number).model_id / "artifacts"
        (home / "code").mkdir(exist_ok=True)
        for name in ("evil.py", "code/evil.py", "sampler_model.py", "genfoundry.py", "sitecustomize.py", "torch.py"):
            (home / name).write_text(attack)
        (home / "MLmodel").write_text("flavors: {python_function: {loader_module: evil, code: code, env: {}}}\n")
        (home / "python_model.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")

    assert promoted(mine, GOOD).code == Exit.OK
    roll_back(mine.root, KEY)

    assert not canary.exists()
    # The attack itself works: the way that is not ours runs it.
    script = f"import mlflow; mlflow.pyfunc.load_model({str(home)!r})"
    mine.run(sys.executable, "-c", script, check=False, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
    assert canary.exists()


def test_a_word_that_means_nothing_is_refused(finished: Project) -> None:
    with pytest.raises(ConfigError, match="no model 'bars-vea'; did you mean 'bars-vae'"):
        promote(finished.root, "bars-vea", Wishes())
