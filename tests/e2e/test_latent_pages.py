"""The latent space of a finished model: on disk, on the page and in MLflow."""

import numpy as np
from conftest import Project
from test_line import runs_of, store_of

from genfoundry.core.io import read_json, read_table
from genfoundry.core.paths import DatasetPaths, ModelPaths
from genfoundry.generation.latent import find_latents

PICTURES = ("reconstruction.png", "interpolation.png", "traversal.png")


def test_a_finished_model_shows_its_latent_space(finished: Project) -> None:
    model, dataset = ModelPaths(finished.root, "bars-vae"), DatasetPaths(finished.root, "bars")
    facts = read_json(model.reports / "samples/latent.json")
    client, run = store_of(finished).client, runs_of(finished, "model")["bars-vae"]
    logged = {file.path.split("/")[-1] for file in client.list_artifacts(run.info.run_id, "sample/samples")}
    page = (finished.root / "reports/index.html").read_text()
    ids = read_table(dataset.index / "test.parquet")["id"]

    assert {*PICTURES, "latent.json"} <= logged
    assert f"{facts['active_units']} of 4 dimensions in use" in page
    assert all(f"{picture.removesuffix('.png')} of bars-vae" in page for picture in PICTURES)
    assert np.isfinite(find_latents(model, dataset, [ids[3], ids[0]])).all()
    assert not (finished.root / "reports/models/notes-transformer/samples/latent.json").exists()
