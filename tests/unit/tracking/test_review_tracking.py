"""A review in MLflow, against a real sqlite store."""

from pathlib import Path
from typing import Any

import pytest
from reviewing import PICTURES, answer_file, prefers, project

from genfoundry.commands.review import collect, write
from genfoundry.review.plan import read_plan
from genfoundry.tracking import tags
from genfoundry.tracking.reviews import log_review
from genfoundry.tracking.store import Store, open_store

Case = tuple[Store, Path, dict[str, Any], Path, Path]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    base = tmp_path_factory.mktemp("review")
    root = project(base / "project")
    folder = write(root, PICTURES, count=45)
    plan = read_plan(folder)
    answers = answer_file(base / "ann.json", plan, "ann", prefers(*PICTURES))
    # Bob differs from Ann in every pair of the last two models, so that no model wins everything but the first.
    bob = answer_file(base / "bob.json", plan, "bob", prefers(*PICTURES[::-1]))
    results, reports = collect(root, folder, [answers, bob])
    return open_store(base / "state", "p"), root, results, reports, bob


def a_model_run(store: Store, key: str, samples: str) -> str:
    more = {tags.KIND: "model", tags.KEY: key, tags.STATE: samples[:8]}
    return store.client.create_run(
        store.experiment, tags={**more, f"{tags.OUTPUT}artifacts/models/{key}/samples": samples}
    ).info.run_id


def test_a_review_is_one_run_however_often_it_is_logged(case: Case) -> None:
    store, root, results, reports, _ = case

    first = log_review(store, root, results, reports)
    again = log_review(store, root, {**results, "answers": {**results["answers"], "replaced": 7}}, reports)

    assert first == again
    run = store.client.get_run(first)
    assert run.info.status == "FINISHED"
    for key, model in results["models"].items():
        for name, word in (("value", "strength"), ("low", "strength_low"), ("high", "strength_high")):
            assert run.data.metrics[f"review/{key}.{word}"] == model["strength"][name]
        assert run.data.tags[tags.REVIEW_SAMPLES + key] == model["samples"]
        assert len(store.client.get_metric_history(first, f"review/{key}.strength")) == 1
    assert run.data.metrics["review/agreement"] == results["agreement"]["value"]
    assert run.data.metrics["review/raters"] == 2
    assert run.data.tags[tags.KIND] == "review"
    assert run.data.tags[tags.REVIEW_PLAN] == results["plan"]
    assert run.data.tags["mlflow.source.name"] == "genfoundry review"
    assert tags.PROCESS not in run.data.tags
    names = {Path(file.path).name for file in store.client.list_artifacts(first, "review")}
    assert names == {"results.json", "results.csv", "index.html"}
    parent = store.client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.tags[tags.KIND] == "repository"


def test_other_answers_are_another_run(case: Case) -> None:
    store, root, results, reports, bob = case
    plan_folder = root / "artifacts/reviews" / results["plan"][:12]

    fewer, where = collect(root, plan_folder, [bob])

    assert log_review(store, root, fewer, where) != log_review(store, root, results, reports)


def test_the_run_of_a_model_gets_its_strength_if_its_very_samples_were_shown(case: Case) -> None:
    store, root, results, reports, _ = case
    key = PICTURES[0]
    shown = a_model_run(store, key, results["models"][key]["samples"])
    other = a_model_run(store, key, "0" * 64)

    for _ in range(2):
        log_review(store, root, results, reports)

    found = store.client.get_run(shown).data.metrics
    assert found["review/strength"] == results["models"][key]["strength"]["value"]
    assert found["review/strength_low"] < found["review/strength"] < found["review/strength_high"]
    assert len(store.client.get_metric_history(shown, "review/strength")) == 1
    assert not store.client.get_run(other).data.metrics


def test_a_run_that_was_cut_short_is_completed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    store, root, results, reports, _ = case
    changed = {**results, "answers_digest": "1" * 64}

    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("genfoundry.tracking.reviews._note", broken)
        with pytest.raises(KeyboardInterrupt):
            log_review(store, root, changed, reports)
    run = store.client.get_run(log_review(store, root, changed, reports))

    assert run.info.status == "FINISHED"
    assert "log strength" in run.data.tags["mlflow.note.content"]
