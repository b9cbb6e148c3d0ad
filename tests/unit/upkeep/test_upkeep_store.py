"""Upkeep of the MLflow store: what goes, what must stay whatever the history, and kills in the middle."""

import json
from pathlib import Path

import pytest
from histories import History, lay_out, random_history

from genfoundry.gate import looks
from genfoundry.gate.looks import Champion
from genfoundry.promotion import moves
from genfoundry.promotion.moves import Move
from genfoundry.state.events import append_event, read_events
from genfoundry.tracking import removal, tags
from genfoundry.upkeep.options import Keep
from genfoundry.upkeep.sweep import Upkeep, upkeep


def tidy(history: History, keep: Keep, dry_run: bool = False) -> Upkeep:
    return upkeep(history.root, history.state, keep, history.clock, dry_run)


def said(done: Upkeep) -> list[tuple[str, str, int, str]]:
    return [(each.kind, each.what, each.bytes, each.why) for each in done.removed]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in (1, 2))])
def test_champions_and_what_they_were_made_from_survive_any_history(seed: int, template: Path, tmp_path: Path) -> None:
    history = random_history(tmp_path / "project", template, seed)
    keep = Keep(versions=2, runs_days=(0, 30, 365)[seed % 3])
    names, client = ("first", "second"), history.store.client
    kept = {(name, alias) for name in names for alias in ("champion", "previous")}

    planned = tidy(history, keep, dry_run=True)
    before = {name: history.numbers(name) for name in names}
    done = tidy(history, keep)

    assert done.notes == [] and said(done) == said(planned)
    assert any(each.kind == "version" for each in done.removed), "nothing was removed: the test shows nothing"
    for name, alias in kept:
        assert history.loads(name, alias, tmp_path / "fetched")
        number = str(client.get_model_version_by_alias(name, alias).version)
        run = client.get_run(history.runs[name, number])
        lineage = json.loads(
            Path(client.download_artifacts(run.info.run_id, f"train/lineage/train@{name}.json")).read_text()
        )
        for digest in lineage["inputs"].values():
            (start,) = [pair for pair, value in history.digests.items() if value == digest]
            assert history.loads(*start, tmp_path / "fetched"), f"{name}@{alias} started from {start}"
    for name in names:
        assert len(history.numbers(name)) < len(before[name]) or seed % 3 == 2
    assert said(tidy(history, keep)) == [], "a second upkeep found more"


def test_no_artifact_outlives_its_row(template: Path, tmp_path: Path) -> None:
    history = random_history(tmp_path / "project", template, 5)

    tidy(history, Keep(versions=2, runs_days=0))

    rows = {run.info.run_id for run in removal.all_runs(history.store)}
    rows |= {model.model_id for model in removal.all_models(history.store)}
    assert history.artifact_folders() <= rows
    assert removal.all_runs(history.store, hidden=True) == []


def test_old_champions_leave_their_row_and_the_newest_versions_stay(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    numbers = [history.version("m", days) for days in (900, 800, 700, 50, 40, 30, 20)]
    for number in (numbers[0], numbers[1], numbers[4]):
        history.alias("m", "champion", number)
    history.alias("m", "previous", numbers[2])

    done = tidy(history, Keep(versions=2, runs_days=365))

    # Beside champion (5) and previous (3): the newest two.
    assert history.numbers("m") == {"3", "5", "6", "7"}
    runs = {run.info.run_id for run in removal.all_runs(history.store)}
    assert {history.runs["m", number] for number in ("1", "2")} <= runs, "a former champion's scores are history"
    why = {each.what: each.why for each in done.removed}
    assert why == dict.fromkeys(("m/1", "m/2", "m/4"), "more than 2 newer versions")
    (event,) = read_events(history.state, "upkeep")
    assert event["removed"] == {"version": 3} and event["bytes"] == done.bytes > 0


def test_a_failed_run_goes_after_its_time_and_a_running_one_never(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    old, new = history.run("m", 400, status="FAILED"), history.run("m", 300, status="FAILED")
    review = history.run("m", 400, kind="review")
    open_run = history.store.client.create_run(history.store.experiment, tags={tags.KIND: "model"}).info.run_id

    (gone,) = tidy(history, Keep()).removed

    assert (gone.kind, gone.why) == ("run", "failed, 400 days old") and old in gone.what and gone.bytes == len("a page")
    assert {run.info.run_id for run in removal.all_runs(history.store)} == {new, review, open_run}


def test_the_dataset_run_behind_a_champion_stays_with_its_parent(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    parent = history.run("repository", 500, "repository")
    parents = {"mlflow.parentRunId": parent}
    arrays = "artifacts/datasets/d/arrays"
    mine = history.run("d", 500, "dataset", "FAILED", **parents, **{f"{tags.OUTPUT}{arrays}": "a" * 64})
    other = history.run("d", 500, "dataset", "FAILED", **{f"{tags.OUTPUT}{arrays}": "b" * 64})
    history.alias("m", "champion", history.version("m", 400, {arrays: "a" * 64}))

    done = tidy(history, Keep())

    assert [each.what.split()[1] for each in done.removed] == [other]
    assert {mine, parent} <= {run.info.run_id for run in removal.all_runs(history.store)}


def test_what_the_gate_or_an_unfinished_move_names_stays(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    for days in range(800, 794, -1):
        history.version("m", days)
    history.alias("m", "champion", "6")
    looks.remember_champion(history.state, "d", Champion(history.digests["m", "1"], "m/1"), True)
    moves.begin(history.state, Move("m-3", moves.PROMOTED, "m", "3", "6", None, None, "2026-01-01T00:00:00Z", "better"))
    append_event(history.state, "promoted", model="m", version="5")

    tidy(history, Keep(versions=2, runs_days=365))

    assert history.numbers("m") == {"1", "3", "5", "6"}


def test_a_gate_set_that_can_not_be_read_keeps_every_version(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    for days in range(800, 796, -1):
        history.version("m", days)
    looks.remember_champion(history.state, "d", Champion(history.digests["m", "1"], "m/1"), True)
    looks.gate_file(history.state, "d").write_text('{"format": 99}')

    done = tidy(history, Keep(runs_days=30))

    assert any("mlruns/gate/d.json: not of format 1" in note for note in done.notes)
    assert history.numbers("m") == {"1", "2", "3", "4"}


def test_an_alias_that_moved_after_the_plan_is_respected(template: Path, tmp_path: Path) -> None:
    history = lay_out(tmp_path / "project", template)
    for _ in range(4):
        history.version("m", 800)
    history.alias("m", "champion", "4")

    def promoted_meanwhile(kind: str) -> None:
        if kind == "version":
            history.store.client.set_registered_model_alias("m", "champion", "1")

    upkeep(history.root, history.state, Keep(), history.clock, between=promoted_meanwhile)

    assert "1" in history.numbers("m") and history.loads("m", "champion", tmp_path / "fetched")


class Killed(BaseException):
    pass


LATE = ("delete_model_version", "delete_logged_model", "_hard", "delete_run")


@pytest.mark.parametrize("step", ["_delete_artifacts", *(pytest.param(step, marks=pytest.mark.long) for step in LATE)])
def test_a_kill_inside_a_removal_is_completed_by_the_next_upkeep(
    step: str, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = lay_out(tmp_path / "project", template)
    for _ in range(4):
        history.version("m", 800)
    history.alias("m", "champion", "4")
    history.run("m", 800, status="FAILED")
    owner = removal if step.startswith("_") else history.store.client.__class__
    with monkeypatch.context() as patch:

        def kill(*arguments: object, **more: object) -> None:
            raise Killed

        patch.setattr(owner, step, kill)
        with pytest.raises(Killed):
            tidy(history, Keep())

    tidy(history, Keep())

    assert history.numbers("m") == {"4"} and history.loads("m", "champion", tmp_path / "fetched")
    rows = {run.info.run_id for run in removal.all_runs(history.store)}
    rows |= {model.model_id for model in removal.all_models(history.store)}
    assert history.artifact_folders() <= rows and len(rows) == 2
    assert removal.all_runs(history.store, hidden=True) == []
