"""The whole line on the miniature project, as processes a user would start."""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from registry import add_version

from genfoundry.config.params import read_yaml
from genfoundry.core.io import read_json, read_table, verify_folder
from genfoundry.tracking import tags
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.trace import trace


def store_of(project: Project) -> Store:
    return open_store(project.root, "miniature")


def runs_of(project: Project, kind: str = "") -> dict[str, object]:
    store = store_of(project)
    found = store.client.search_runs([store.experiment])
    return {run.data.tags[tags.KEY]: run for run in found if kind in ("", run.data.tags[tags.KIND])}


def executed(output: str) -> set[str]:
    return set(re.findall(r"Running stage '([^']+)'", output))


def test_every_stage_left_a_whole_result(finished: Project) -> None:
    for folder in sorted((finished.root / "artifacts").glob("*/*/*")):
        if folder.is_dir() and "lineage" not in folder.parts:
            verify_folder(folder)
    assert not list(finished.root.rglob("*.partial"))
    assert len(list((finished.root / "artifacts/lineage").glob("*.json"))) == 2 * 7 + 1 + 2 * 4 + 1


def test_a_second_repro_runs_nothing(project: Project) -> None:
    lock = (project.root / "dvc.lock").read_text()
    before = {run.info.run_id: run.info.end_time for run in runs_of(project).values()}

    done = project.dvc("repro")

    assert executed(done.stdout) == set()
    assert (project.root / "dvc.lock").read_text() == lock
    assert {run.info.run_id: run.info.end_time for run in runs_of(project).values()} == before


def test_broken_records_are_set_aside_and_counted(finished: Project) -> None:
    rejected = read_table(finished.root / "artifacts/datasets/bars/records/rejected.parquet")
    told = read_json(finished.root / "reports/datasets/bars/ingest.json")

    assert set(rejected["id"]) == {"h/broken.png", "v/empty.png"}
    assert told["rejected"]["total"] == 2 and told["records"] == 240
    copies = read_table(finished.root / "artifacts/datasets/notes/copies/duplicates.parquet")
    assert (copies["method"] == "exact").sum() >= 6


def test_one_run_tells_all_of_a_model(finished: Project) -> None:
    runs = runs_of(finished, "model")
    assert set(runs) == {"bars-vae", "notes-transformer"}
    vae = runs["bars-vae"]
    assert vae.info.status == "FINISHED"
    names = set(vae.data.metrics)
    assert {
        "train/loss",
        "train/val_loss",
        "train/samples_per_second",
        "train/peak_memory_gib",
        "extract/images_per_second",
    } <= names
    assert any(name.startswith("evaluate/fid_domain:") and "." not in name for name in names)
    assert any(name.startswith("system/cpu") for name in names)
    assert vae.data.params["training.steps"] == "40" and vae.data.params["options.latent"] == "4"
    assert {f"{tags.STAGE}{stage}" for stage in ("train", "sample", "extract", "evaluate")} <= set(vae.data.tags)
    assert vae.data.tags["genfoundry.version"] == "1"
    assert json.loads(vae.data.tags[tags.EXECUTION])["threads"] == 1
    contexts = {
        tag.value for entry in vae.inputs.dataset_inputs for tag in entry.tags if tag.key == "mlflow.data.context"
    }
    assert {"train", "extract"} <= contexts
    client = store_of(finished).client
    names = [file.path for file in client.list_artifacts(vae.info.run_id, "images")]
    pictures = {match[1] for name in names if (match := re.search(r"train_samples[%+]step[%+](\d+)[%+]", name))}
    assert pictures == {"10", "20", "30", "40"}
    steps = [point.step for point in client.get_metric_history(vae.info.run_id, "train/loss")]
    assert steps == [10, 20, 30, 40]


def test_one_run_tells_all_of_a_dataset(finished: Project) -> None:
    bars = runs_of(finished, "dataset")["bars"]
    client = store_of(finished).client
    artifacts = {
        file.path
        for stage in ("validate", "deduplicate", "validate/data_docs")
        for file in client.list_artifacts(bars.info.run_id, stage)
    }

    assert bars.data.metrics["ingest/rejected.total"] == 2
    assert {"validate/validate.html", "deduplicate/deduplicate.html"} <= artifacts
    assert any(path.endswith("index.html") for path in artifacts), "no Great Expectations data docs"
    assert {entry.dataset.name for entry in bars.inputs.dataset_inputs} >= {"data bars", "datasets bars records"}


def test_the_parent_holds_the_state_of_the_repository(finished: Project) -> None:
    everything = runs_of(finished)
    parent = everything.pop("repository")

    assert {run.data.tags["mlflow.parentRunId"] for run in everything.values()} == {parent.info.run_id}
    assert "bars-vae" in parent.data.tags["mlflow.note.content"]
    assert parent.info.status == "FINISHED"


def test_models_are_registered_once_and_none_is_champion_unjudged(project: Project) -> None:
    client = store_of(project).client
    (first,) = client.search_model_versions("name = 'bars-vae'")
    assert first.version in (1, "1")
    assert client.get_registered_model("bars-vae").aliases == {}

    project.genfoundry("record")

    assert len(client.search_model_versions("name = 'bars-vae'")) == 1
    model = client.get_logged_model(first.source.removeprefix("models:/"))
    assert any(metric.key.startswith("evaluate/fid_domain:") for metric in model.metrics)
    assert {file.path.split("/")[-1] for file in client.list_logged_model_artifacts(model.model_id)} >= {
        "weights.safetensors",
        "config.json",
    }


def test_a_param_of_one_model_reruns_that_model_alone(project: Project) -> None:
    project.edit("options: {width: 8, latent: 4}", "options: {width: 8, latent: 5}")

    done = project.dvc("repro")

    assert executed(done.stdout) == {
        "code",
        "train@bars-vae",
        "sample@bars-vae",
        "extract@bars-vae",
        "evaluate@bars-vae",
        "report",
    }
    project.genfoundry("record")
    store = store_of(project)
    assert len(store.client.search_runs([store.experiment], "tags.`genfoundry.key` = 'bars-vae'")) == 2
    assert len(store.client.search_model_versions("name = 'bars-vae'")) == 2
    # Settings back: DVC restores from its cache, no process starts, record still tells it right.
    project.edit("options: {width: 8, latent: 5}", "options: {width: 8, latent: 4}")
    assert executed(project.dvc("repro").stdout) == set()
    assert "version 1" in project.genfoundry("record").stdout
    # And fewer metrics than before would mean that the restored state lost some.
    assert "train/samples_per_second" in runs_of(project, "model")["bars-vae"].data.metrics


def test_evaluation_settings_do_not_retrain(project: Project) -> None:
    text = (project.root / "params.yaml").read_text()
    head, tail = text.rsplit("    evaluation: {}", 1)
    (project.root / "params.yaml").write_text(head + "    evaluation: {stride: 8}" + tail)

    done = project.dvc("repro")

    assert executed(done.stdout) == {"code", "extract@notes-transformer", "evaluate@notes-transformer", "report"}
    assert "log" in project.genfoundry("record").stdout
    store = store_of(project)
    both = store.client.search_runs([store.experiment], "tags.`genfoundry.key` = 'notes-transformer'")
    assert len(both) == 2
    for run in both:
        assert {"train/loss", "train/tokens_per_second"} <= set(run.data.metrics)
    scores = [
        {name for name in run.data.metrics if name.startswith("evaluate/bits_per_byte:") and "." not in name}
        for run in both
    ]
    assert not scores[0] & scores[1], "scores of two protocols under one name"


def test_new_blocks_add_their_stages_and_nothing_else(project: Project) -> None:
    blocks = read_yaml(project.root / "params.yaml")
    dataset = json.dumps({**blocks["datasets"]["bars"], "split": {"val": 0.2, "test": 0.3}})
    model = json.dumps({**blocks["models"]["bars-vae"], "init_from": "bars-vae"})
    project.edit("datasets:\n", f"datasets:\n  more: {dataset}\n")
    project.edit("models:\n", f"models:\n  bars-again: {model}\n")

    done = project.dvc("repro")

    stages = ("ingest", "validate", "preprocess", "deduplicate", "split", "encode", "reference")
    wanted = {f"{stage}@more" for stage in stages} | {
        f"{stage}@bars-again" for stage in ("train", "sample", "extract", "evaluate")
    }
    assert executed(done.stdout) == wanted | {"code", "report"}
    old = read_json(project.root / "reports/models/bars-vae/train.json")
    assert read_json(project.root / "reports/models/bars-again/train.json")["best_val_loss"] < old["best_val_loss"], (
        "init_from had no effect"
    )


def test_a_raw_copy_retrains_nothing(project: Project) -> None:
    shutil.copyfile(project.root / "data/bars/h/000.png", project.root / "data/bars/h/0-copy.png")
    with (project.root / "data/notes/notes.jsonl").open("a") as file:
        file.write(
            json.dumps(
                {
                    "id": "again",
                    "text": json.loads((project.root / "data/notes/notes.jsonl").read_text().splitlines()[0])["text"],
                }
            )
            + "\n"
        )
    project.dvc("add", "-q", "data")

    ran = executed(project.dvc("repro").stdout)

    assert {"ingest@bars", "deduplicate@bars", "ingest@notes"} <= ran
    assert not {address for address in ran if address.startswith(("train@", "sample@", "reference@"))}


@pytest.mark.long
def test_forced_repro_repeats_every_byte(project: Project) -> None:
    lock = (project.root / "dvc.lock").read_text()
    for cache in project.root.rglob("__pycache__"):
        shutil.rmtree(cache)

    project.dvc("repro", "--force", PYTHONDONTWRITEBYTECODE="1")

    assert (project.root / "dvc.lock").read_text() == lock


def test_data_stages_repeat_every_byte(project: Project) -> None:
    lock = (project.root / "dvc.lock").read_text()

    for address in (
        "ingest@notes",
        "validate@notes",
        "preprocess@bars",
        "deduplicate@notes",
        "train@notes-transformer",
    ):
        project.dvc("repro", "--force", "--single-item", address)

    assert (project.root / "dvc.lock").read_text() == lock


def test_dvc_metrics_and_plots_work(project: Project) -> None:
    shown = json.loads(project.dvc("metrics", "show", "--json").stdout)[""]["data"]
    assert any(name.startswith("fid_domain@") for name in shown["reports/models/bars-vae/scores.json"]["data"])
    project.edit("options: {width: 8, latent: 4}", "options: {width: 8, latent: 3}")
    project.dvc("repro", "train@bars-vae")
    changed = json.loads(project.dvc("metrics", "diff", "--json").stdout)
    assert changed["reports/models/bars-vae/train.json"]["parameters"]["diff"] < 0
    page = project.dvc("plots", "show", "-o", "plots").stdout
    assert (project.root / "plots/index.html").is_file(), page
    assert "train@bars-vae" in project.dvc("dag").stdout


def test_a_failing_stage_leaves_its_run_failed_with_the_reason(project: Project) -> None:
    project.edit("training: {steps: 40, batch: 16", "training: {steps: 40, batch: 4000")

    done = project.stage("train", "bars-vae", check=False)

    assert done.returncode == 2
    count = read_json(project.root / "reports/datasets/bars/encode.json")["train"]["records"]
    assert f"training.batch' is 4000, but bars has {count} training examples; lower it" in done.stderr
    assert "Traceback" not in done.stderr
    store = store_of(project)
    (failed,) = store.client.search_runs([store.experiment], "attributes.status = 'FAILED'")
    assert "4000" in failed.data.tags[tags.FAILURE]


def test_a_deleted_store_is_rebuilt_and_a_copied_project_mended(project: Project) -> None:
    before = runs_of(project)
    shutil.rmtree(project.root / "mlruns")

    told = project.genfoundry("record").stdout

    assert "logged to MLflow from files" in told
    after = runs_of(project)
    assert set(after) == set(before)
    for key, run in after.items():
        timings = re.compile("second|system/|memory")
        assert {n for n in run.data.metrics if not timings.search(n)} == {
            n for n in before[key].data.metrics if not timings.search(n)
        }, key
        assert run.data.params == before[key].data.params
        assert run.info.artifact_uri.startswith(project.root.as_uri())
    assert store_of(project).client.get_model_version("notes-transformer", "1")
    assert "logged to MLflow from files" not in project.genfoundry("record").stdout


def test_deleted_artifacts_are_logged_again_and_versions_without_files_are_named(project: Project) -> None:
    old = add_version(store_of(project), project.root, "of another state")
    shutil.rmtree(project.root / "mlruns/artifacts")

    said = project.genfoundry("record").stdout

    assert "files were no longer in the store, logged again: bars-vae/1, notes-transformer/1" in said
    lost = f"versions without files (restore a backup, or genfoundry reproduce <version>)\n  bars-vae/{old}\n"
    assert lost in said
    files = {path.name for path in (project.root / "mlruns/artifacts").rglob("*")}
    assert {"weights.safetensors", "MLmodel", "card.md", "train@bars-vae.json", "generator.json"} <= files
    again = project.genfoundry("record").stdout
    assert "logged again" not in again and lost in again and "logged to MLflow" not in again


def test_trace_leads_back_from_anything(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = project.git("rev-parse", "HEAD~1")[:12]
    client = store_of(project).client
    client.set_registered_model_alias("bars-vae", "champion", "1")
    model = runs_of(project, "model")["bars-vae"]
    lock = read_yaml(project.root / "dvc.lock")["stages"]
    md5 = next(
        out["md5"]
        for out in lock["sample@bars-vae"]["outs"]
        if out["path"].endswith("/samples") and out["path"].startswith("artifacts")
    )
    digest = model.data.tags[f"{tags.OUTPUT}artifacts/models/bars-vae/model"]
    queries = {
        "sample id": "bars-vae/000003",
        "sample file": "artifacts/models/bars-vae/samples/samples.npy",
        "model folder": "artifacts/models/bars-vae/model",
        "run id": model.info.run_id,
        "version": "bars-vae/1",
        "alias": "bars-vae@champion",
        "digest": digest,
        "short digest": digest[:12],
        "DVC's md5": md5,
    }
    told_outside = project.genfoundry("trace", queries["sample id"]).stdout
    monkeypatch.chdir(project.root)
    for name, query in queries.items():
        told = "\n".join(trace(project.root, store_of(project), query, forward=False))
        assert name != "sample id" or told.strip() == told_outside.strip()
        assert "train@bars-vae" in told and model.info.run_id in told, f"{name}: {told}"
        assert re.search(r"data/bars  [0-9a-f]{16}  raw data", told), f"{name}: {told}"
        assert commit in told, f"{name}: {told}"
        assert "data.dvc: data is" in told, f"{name}: {told}"
    forward = "\n".join(trace(project.root, store_of(project), "data/bars", forward=True))
    assert "evaluate@bars-vae" in forward and "notes" not in forward
    record = "\n".join(trace(project.root, store_of(project), "bars:h/000.png", forward=False))
    assert re.search(r"record h/000.png: (in split|removed as)", record)
    assert client.get_run(model.info.run_id)


def test_a_picture_saved_elsewhere_is_traced_to_its_sample(project: Project, tmp_path: Path) -> None:
    from PIL import Image

    samples = np.load(project.root / "artifacts/models/bars-vae/samples/samples.npy")
    Image.fromarray(samples[5, 0]).save(tmp_path / "found.png")

    told = project.genfoundry("trace", str(tmp_path / "found.png")).stdout

    assert "sample bars-vae/000005" in told and "data/bars" in told


def test_trace_works_after_dvc_restored_the_outputs(project: Project) -> None:
    shutil.rmtree(project.root / "artifacts")
    project.dvc("checkout", "-q")

    told = project.genfoundry("trace", "bars-vae/000003").stdout

    assert "train@bars-vae" in told and "raw data" in told


def test_trace_says_what_it_takes(project: Project) -> None:
    done = project.genfoundry("trace", "nonsense", check=False)

    assert done.returncode == 2
    assert "nothing known as 'nonsense'; give a path" in done.stderr


def test_an_experiment_lands_in_the_same_store(project: Project) -> None:
    done = project.dvc("exp", "run", "-S", "models.bars-vae.options.latent=6", timeout=400)

    assert "train@bars-vae" in executed(done.stdout)
    store = store_of(project)
    assert len(store.client.search_runs([store.experiment], "tags.`genfoundry.key` = 'bars-vae'")) == 2
    assert (
        "latent: 6" in (project.root / "params.yaml").read_text()
        or "latent=6" in project.dvc("exp", "show", "--csv").stdout
    )


@pytest.mark.long
def test_queued_experiments_land_in_the_same_store(project: Project) -> None:
    project.dvc("exp", "run", "--queue", "-S", "models.bars-vae.options.latent=6")
    project.dvc("exp", "run", "--queue", "-S", "models.bars-vae.options.latent=7")
    log = project.root / "queue.log"
    os.system(f"cd {project.root} && python -m dvc queue start -j 2 > {log} 2>&1")
    import time

    for _ in range(150):
        status = project.dvc("queue", "status").stdout
        if "Running" not in status and "Queued" not in status:
            break
        time.sleep(2)

    assert status.count("Success") == 2, status
    store = store_of(project)
    assert len(store.client.search_runs([store.experiment], "tags.`genfoundry.key` = 'bars-vae'")) == 3
