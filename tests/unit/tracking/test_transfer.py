"""Copying one MLflow store to another: everything arrives, numbers stay, a copy that was cut off goes on."""

from pathlib import Path

import pytest
from histories import History, lay_out

from genfoundry.core.errors import DataError
from genfoundry.tracking import removal, tags
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.transfer import Transfer
from genfoundry.tracking.versions import Registered


@pytest.fixture()
def history(template: Path, tmp_path: Path) -> History:
    """Versions 1, 3 and 4 (2 was deleted) with aliases, curves, parameters, a parent, and a page that names a run."""
    history = lay_out(tmp_path / "project", template)
    client = history.store.client
    parent = history.run("repository", 9, "repository")
    for days in (4, 3, 2, 1):
        number = history.version("m", days)
        run_id = history.runs["m", number]
        client.set_tag(run_id, "mlflow.parentRunId", parent)
        client.set_tag(run_id, tags.STATE, f"state {number}")
        client.log_param(run_id, "training.lr", "0.1")
        for step in range(3):
            client.log_metric(run_id, "train/loss", 1 / (step + 1), step=step)
    client.set_tag(parent, "mlflow.note.content", f"see {history.runs['m', '4']}")
    client.delete_model_version("m", "2")
    history.alias("m", "champion", "3")
    history.alias("m", "previous", "1")
    client.update_registered_model("m", f"made in {history.runs['m', '3']}")
    client.update_run(client.create_run(history.store.experiment, tags={tags.KIND: "model"}).info.run_id, "RUNNING")
    return history


def empty(template: Path, folder: Path) -> Store:
    import shutil

    shutil.copytree(template / "mlruns", folder / "mlruns")
    return open_store(folder, "p")


def test_everything_arrives_and_a_second_copy_adds_nothing(history: History, template: Path, tmp_path: Path) -> None:
    target = empty(template, tmp_path / "target")

    done = Transfer(history.store, target).copy()
    again = Transfer(history.store, target).copy()

    assert (done.runs, done.models, done.versions, len(done.skipped)) == (5, 4, 3, 1)
    assert (again.runs, again.models, again.versions) == (0, 0, 0)
    assert Registered(target, "m").aliases() == {"champion": "3", "previous": "1"}
    assert set(Registered(target, "m").versions()) == {"1", "3", "4"}
    runs = {run.data.tags[tags.COPIED]: run for run in removal.all_runs(target)}
    for number in ("1", "3", "4"):
        folder, *_ = fetch_model(target, "m", number, tmp_path / "fetched")
        assert folder.name == history.digests["m", number]
        old, run = history.store.client.get_run(history.runs["m", number]), runs[history.runs["m", number]]
        assert Registered(target, "m").version(number).run_id == run.info.run_id
        assert (run.info.status, run.info.start_time, run.info.end_time) == (
            "FINISHED", old.info.start_time, old.info.end_time)  # fmt: skip
        assert run.data.params == {"training.lr": "0.1"}
        curve = target.client.get_metric_history(run.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in curve] == [(step, 1 / (step + 1)) for step in range(3)]
        page = target.client.download_artifacts(run.info.run_id, "report/page.html", str(tmp_path))
        assert Path(page).read_text() == "a page"
        (parent,) = [each for each in runs.values() if each.data.tags[tags.KIND] == "repository"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.data.tags["mlflow.note.content"] == f"see {runs[history.runs['m', '4']].info.run_id}"
    told = target.client.get_registered_model("m").description
    assert told == f"made in {runs[history.runs['m', '3']].info.run_id}"


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "step", ["_model", *(pytest.param(step, marks=pytest.mark.long) for step in ("_fill", "_version"))]
)
def test_a_copy_that_was_cut_off_is_gone_on_with(
    step: str, history: History, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, calls = empty(template, tmp_path / "target"), []
    whole = getattr(Transfer, step)

    def killed(self: Transfer, *arguments: object) -> None:
        calls.append(step)
        whole(self, *arguments)
        if len(calls) == 2:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Transfer, step, killed)
        with pytest.raises(Killed):
            Transfer(history.store, target).copy()

    Transfer(history.store, target).copy()

    assert len(removal.all_runs(target)) == 5 and {run.info.status for run in removal.all_runs(target)} == {"FINISHED"}
    assert set(Registered(target, "m").versions()) == {"1", "3", "4"}
    assert len(removal.all_models(target)) == 4


def test_a_store_with_other_versions_is_refused(history: History, template: Path, tmp_path: Path) -> None:
    other = lay_out(tmp_path / "other", template)
    other.version("m", 1, weights="something else")

    with pytest.raises(DataError, match="m/1: the target has another model under this number"):
        Transfer(history.store, other.store).copy()
