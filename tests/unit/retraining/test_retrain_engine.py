"""The retraining engine over a line of dictionaries: a kill anywhere and a rerun come to the same end."""

import inspect
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from genfoundry.core.errors import DataError, Exit, InfrastructureError, PreemptedError
from genfoundry.retraining.engine import Outcome, outcome_of, reap, retrain
from genfoundry.retraining.protocol import (
    BUILD,
    KEEP,
    PREPARE,
    Asked,
    Decision,
    Facts,
    Line,
    Reason,
    Request,
    Snapshot,
    Work,
)
from genfoundry.state.events import read_events
from genfoundry.state.journal import Journal, home, lock_file
from genfoundry.state.locks import held, holder

SLOT = "2026-03-29T01:00:00Z"


class Killed(BaseException):
    """What SIGKILL is to the engine."""


class Set:
    """A clock that is set; a second passes at each look."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 3, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


class Dummy:
    """A world in which each step happens at most once, and every call is counted."""

    def __init__(self, world: dict[str, Any] | None = None, models: tuple[str, ...] = ("m",)) -> None:
        self.world = (
            world if world is not None else {"champion": {}, "data": "v1", "copy": set(), "branch": [], "told": []}
        )
        self.models, self.calls = models, []
        self.fails: dict[str, Exception] = {}
        self.codes: dict[str, Exit] = {}
        self.answers: list[Asked] = []

    def _step(self, name: str, **facts: Any) -> dict[str, Any]:
        self.calls.append(name)
        if name in self.fails:
            raise self.fails[name]
        return facts

    def sweep(self) -> dict[str, Any]:
        return self._step("sweep")

    def snapshot(self) -> Snapshot:
        return Snapshot("c0ffee", {"data.dvc": self.world["data"]}, "p", "l", self.models)

    def ask(self, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
        self._step("ask" if work is None else "ask again")
        return self.answers.pop(0)

    def preflight(self, work: Work) -> dict[str, Any]:
        return self._step("preflight")

    def worktree(self, work: Work) -> dict[str, Any]:
        self.world["copy"] = {"code"}
        return self._step("worktree")

    def standing(self, work: Work) -> bool:
        return bool(self.world["copy"])

    def data(self, work: Work) -> dict[str, Any]:
        assert "code" in self.world["copy"]
        self.world["copy"].add("data")
        return self._step("data")

    def contracts(self, work: Work) -> dict[str, Any]:
        assert "data" in self.world["copy"]
        return self._step("contracts")

    def train(self, work: Work) -> dict[str, Any]:
        assert "data" in self.world["copy"]
        self.world["copy"].add("model")
        return self._step("train", seconds=1)

    def record(self, work: Work) -> dict[str, Any]:
        assert "model" in self.world["copy"]
        return self._step("record")

    def promote(self, work: Work, model: str) -> Decision:
        assert "model" in self.world["copy"]
        self._step(f"promote {model}")
        code = self.codes.get(model, Exit.OK)
        if code == Exit.OK:
            self.world["champion"][model] = self.world["data"]
        return Decision(model, code, {"version": "2", "champion_before": "1", "champion_after": "2"})

    def commit(self, work: Work) -> dict[str, Any]:
        assert "model" in self.world["copy"]
        if work.key not in self.world["branch"]:
            self.world["branch"].append(work.key)
        return self._step("commit", branch=f"retrain/{work.key}")

    def push(self, work: Work) -> dict[str, Any]:
        return self._step("push")

    def upkeep(self, work: Work) -> dict[str, Any]:
        return self._step("upkeep")

    def tell(self, event: dict[str, Any]) -> list[str]:
        self.world["told"].append(event["outcome"])
        return []


def go(line: Dummy, state: Path, between: Callable[[str], None] = lambda point: None, **asked: Any) -> Outcome:
    return retrain(line, state, Set(), Request(**asked), between)


def events(state: Path) -> list[dict[str, Any]]:
    return list(read_events(state, "retrain"))


def points(tmp_path: Path) -> list[str]:
    """Every crash point of a whole retrain, in order."""
    seen: list[str] = []
    go(Dummy(models=("m", "n")), tmp_path / "points", seen.append)
    return seen


def test_a_retrain_goes_through_its_steps_once_and_tells_it(tmp_path: Path) -> None:
    line = Dummy()

    done = go(line, tmp_path, reason="try it")

    assert (done.code, done.name) == (Exit.OK, "promoted")
    assert line.calls == [
        "sweep", "preflight", "worktree", "data", "contracts", "train", "record", "promote m", "commit", "push",
        "upkeep",
    ]  # fmt: skip
    (event,) = events(tmp_path)
    assert event["outcome"] == "promoted" and event["code"] == 0 and event["attempt"] == 1
    assert event["reasons"] == [{"trigger": "person", "why": "try it"}]
    assert event["decisions"][0]["champion_after"] == "2"
    assert line.world["told"] == ["promoted"]
    assert not (home(tmp_path) / "open.json").exists() and not lock_file(tmp_path).read_bytes()


def test_the_tables_of_steps_name_each_step_of_the_protocol(tmp_path: Path) -> None:
    steps = {**PREPARE, **BUILD, **KEEP}
    typed = {name: inspect.signature(method) for name, method in vars(Line).items() if inspect.isfunction(method)}
    line, work = Dummy(), Work("k", Dummy().snapshot(), tmp_path, 1)

    for step in steps.values():
        step(line, work)

    assert line.calls == list(steps), "each entry calls the method of its name"
    assert set(steps) == {
        name
        for name, signature in typed.items()
        if list(signature.parameters) == ["self", "work"] and signature.return_annotation is Facts
    }


def test_the_same_inputs_again_are_a_no_op_with_a_link(tmp_path: Path) -> None:
    first = go(Dummy(), tmp_path)
    line = Dummy()

    again = go(line, tmp_path)

    assert (again.code, again.key) == (Exit.NO_OP, first.key)
    assert str(home(tmp_path) / first.key) in again.message and "promoted" in again.message
    assert line.calls == ["sweep"]
    assert [event["outcome"] for event in events(tmp_path)] == ["promoted", "no_op"]
    assert events(tmp_path)[1]["prior"]["outcome"] == "promoted"


def test_other_data_is_another_retrain(tmp_path: Path) -> None:
    line = Dummy()
    go(line, tmp_path)
    line.world["data"] = "v2"

    assert go(line, tmp_path).code == Exit.OK
    assert line.world["champion"] == {"m": "v2"} and len(line.world["branch"]) == 2


def test_a_kill_at_any_point_and_a_rerun_come_to_the_same_end(tmp_path: Path) -> None:
    every = points(tmp_path)
    assert len(every) == len(set(every)) > 25
    for number, point in enumerate(every):
        state, line = tmp_path / str(number), Dummy(models=("m", "n"))

        def kill(here: str, point: str = point) -> None:
            if here == point:
                raise Killed

        with pytest.raises(Killed):
            go(line, state, kill, slot=SLOT)
        ended = [event["outcome"] for event in events(state)]
        line.calls.clear()
        done = go(line, state, slot=SLOT)

        assert line.world["champion"] == {"m": "v1", "n": "v1"}, point
        assert len(line.world["branch"]) == 1, point
        outcomes = [event["outcome"] for event in events(state)]
        if point in ("outcome", "event", "notified"):
            # All was done, and is not done again; the event that was missing is made up for.
            assert done.code == Exit.NO_OP and outcomes == ["promoted", "no_op"], point
        else:
            assert done.code == Exit.OK and not ended, point
            opened = point not in ("locked", "swept", "snapshot", "asked")
            assert outcomes == ["killed"] * opened + ["promoted"], point
        for step in ("data", "train", "record", "promote m", "commit"):
            over = any(at.startswith(f"{step.replace(' ', '@')}:end") for at in every[: number + 1])
            assert line.calls.count(step) == (not over), (point, step)


def test_a_lost_worktree_is_made_again_whatever_had_been_done_in_it(tmp_path: Path) -> None:
    for killed_at in ("commit:begin", "train:end"):
        state, line = tmp_path / killed_at[:5], Dummy()

        def kill(here: str, point: str = killed_at) -> None:
            if here == point:
                raise Killed

        with pytest.raises(Killed):
            go(line, state, kill)
        line.world["copy"] = set()
        # Killed again as soon as it stands: a copy without data must not pass for the old one.
        with pytest.raises(Killed):
            go(line, state, lambda here: kill("commit:begin" if here == "worktree:begin" else "", "commit:begin"))
        line.world["copy"] = set()
        line.calls.clear()

        assert go(line, state).code == Exit.OK
        assert [call for call in line.calls if call in ("worktree", "data", "train")] == ["worktree", "data", "train"]
        assert line.calls.count("promote m") == (killed_at == "train:end")


@pytest.mark.parametrize(
    ("step", "error", "name"),
    [
        ("contracts", DataError("notes: 7 broken"), "bad_data"),
        ("train", PreemptedError("stopped"), "preempted"),
        ("push", InfrastructureError("remote is down"), "infrastructure"),
    ],
)
def test_a_failure_is_an_outcome_and_a_rerun_goes_on_from_there(
    tmp_path: Path, step: str, error: Exception, name: str
) -> None:
    line = Dummy()
    line.fails[step] = error

    failed = go(line, tmp_path)
    assert (failed.name, int(failed.code)) == (name, int(error.exit_code)) and str(error) in failed.message
    line.fails.clear()
    line.calls.clear()
    done = go(line, tmp_path)

    assert done.code == Exit.OK
    order = ["worktree", "data", "contracts", "train", "record", "promote m", "commit", "push"]
    assert [call for call in line.calls if call in order] == order[order.index(step) :]
    assert [(event["outcome"], event["attempt"]) for event in events(tmp_path)] == [(name, 1), ("promoted", 2)]


def test_an_error_nobody_foresaw_leaves_its_trace_and_is_raised(tmp_path: Path) -> None:
    line = Dummy()
    line.fails["train"] = ZeroDivisionError("nobody thought of it")

    with pytest.raises(ZeroDivisionError):
        go(line, tmp_path)

    (event,) = events(tmp_path)
    assert (event["outcome"], event["code"]) == ("error", 1)
    assert "nobody thought of it" in Journal(home(tmp_path) / event["key"]).entries[-1]["trace"]
    line.fails.clear()
    assert go(line, tmp_path).code == Exit.OK


@pytest.mark.parametrize(
    ("codes", "code"),
    [
        ([Exit.REJECTED, Exit.OK], Exit.OK),
        ([Exit.NO_OP, Exit.REJECTED], Exit.REJECTED),
        ([Exit.NO_OP, Exit.NO_OP], Exit.NO_OP),
        ([Exit.OK, Exit.INFRASTRUCTURE], Exit.INFRASTRUCTURE),
        ([], Exit.NO_OP),
    ],
)
def test_one_exit_code_for_several_models(codes: list[Exit], code: Exit) -> None:
    assert outcome_of([Decision("m", each) for each in codes]) == code


def test_a_model_that_could_not_be_judged_is_judged_again_and_the_others_are_not(tmp_path: Path) -> None:
    line = Dummy(models=("m", "n"))
    line.codes["n"] = Exit.INFRASTRUCTURE
    assert go(line, tmp_path).code == Exit.INFRASTRUCTURE
    assert line.world["champion"] == {"m": "v1"}
    line.codes.clear()
    line.calls.clear()

    assert go(line, tmp_path).code == Exit.OK
    assert [call for call in line.calls if "promote" in call] == ["promote n"]


def test_a_slot_that_came_to_an_end_is_not_run_again_even_with_other_data(tmp_path: Path) -> None:
    line = Dummy()
    line.fails["contracts"] = DataError("broken")
    go(line, tmp_path, slot=SLOT)
    line.fails.clear()
    assert go(line, tmp_path, slot=SLOT).code == Exit.OK, "a failure is no end of a slot"
    line.world["data"] = "v2"

    again = go(line, tmp_path, slot=SLOT)

    assert again.code == Exit.NO_OP and SLOT in again.message
    assert line.world["champion"] == {"m": "v1"}


def test_a_scheduled_retrain_without_a_trigger_does_nothing(tmp_path: Path) -> None:
    line = Dummy()
    line.answers = [Asked(quiet=("drift: psi 0.01, below 0.1",))]

    done = go(line, tmp_path, scheduled=True)

    assert done.code == Exit.NO_OP and line.calls == ["sweep", "ask"]
    assert events(tmp_path)[0]["quiet"] == ["drift: psi 0.01, below 0.1"]
    line.answers = [Asked(fired=(Reason("slot", "03:00", {"late_s": 4}),))]
    assert go(line, tmp_path, scheduled=True).code == Exit.OK, "asked again, as nothing was decided"
    assert events(tmp_path)[1]["reasons"] == [{"trigger": "slot", "why": "03:00", "facts": {"late_s": 4}}]


def test_triggers_that_need_the_data_are_asked_once_its_contracts_hold(tmp_path: Path) -> None:
    line = Dummy()
    line.answers = [Asked(waiting=True), Asked(quiet=("3 new records, needs 100",))]
    assert go(line, tmp_path, scheduled=True).code == Exit.NO_OP
    assert line.calls[-2:] == ["contracts", "ask again"] and "train" not in line.calls
    line.answers = [Asked(waiting=True), Asked(fired=(Reason("new_data", "120 new records"),))]
    line.calls.clear()

    assert go(line, tmp_path, scheduled=True).code == Exit.OK

    assert line.calls[:4] == ["sweep", "ask", "preflight", "ask again"], "what was prepared is not prepared again"
    assert events(tmp_path)[-1]["reasons"][0]["trigger"] == "new_data"


def test_a_busy_project_skips_and_says_who_holds_it(tmp_path: Path) -> None:
    with held(lock_file(tmp_path), "retrain", clock=Set()):
        assert holder(lock_file(tmp_path))
        done = go(Dummy(), tmp_path, slot=SLOT)

    assert done.code == Exit.BUSY
    for word in (str(os.getpid()), "2026-03-01T00:00:01Z", "--wait"):
        assert word in done.message
    (event,) = events(tmp_path)
    assert event["outcome"] == "busy" and event["holder"]["pid"] == os.getpid() and event["slot"] == SLOT
    assert holder(lock_file(tmp_path)) is None
    assert go(Dummy(), tmp_path, slot=SLOT).code == Exit.OK, "a skipped slot is not a slot that was run"


def test_a_retrain_that_waits_runs_when_the_other_has_ended(tmp_path: Path) -> None:
    other = ExitStack()
    other.enter_context(held(lock_file(tmp_path), "backup"))

    class Ends(Set):
        def sleep(self, seconds: float) -> None:
            assert holder(lock_file(tmp_path))
            other.close()

    assert retrain(Dummy(), tmp_path, Ends(), Request(wait=True)).code == Exit.OK
    assert [event["outcome"] for event in events(tmp_path)] == ["promoted"]


def test_the_note_of_a_dead_holder_stops_nobody_even_if_its_number_lives_again(tmp_path: Path) -> None:
    lock_file(tmp_path).parent.mkdir(parents=True)
    lock_file(tmp_path).write_text(json.dumps({"pid": os.getpid(), "start": "1", "host": "elsewhere", "since": "2000"}))

    assert go(Dummy(), tmp_path).code == Exit.OK


def test_a_torn_journal_is_read_and_mended(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.note(Set().now(), "data", "end", md5="1")
    journal.path.write_bytes(journal.path.read_bytes() + b'{"step": "train", "sta')

    journal = Journal(tmp_path)
    journal.note(Set().now(), "train", "end")

    assert [entry["step"] for entry in Journal(tmp_path).entries] == ["data", "train"]


def test_reaping_twice_tells_once(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        go(Dummy(), tmp_path, lambda point: (_ for _ in ()).throw(Killed) if point == "train:begin" else None)
    with pytest.raises(Killed):
        go(Dummy(), tmp_path, lambda point: (_ for _ in ()).throw(Killed) if point == "swept" else None)

    assert [event["outcome"] for event in events(tmp_path)] == ["killed"]
    assert not reap(tmp_path, Set())
