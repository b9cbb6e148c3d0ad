"""A registered version behind `mlflow models serve`: bytes of the sample stage, errors for misspelt fields."""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers import free_port, serving
from writers import painter, writer

from genfoundry.config.params import family_section
from genfoundry.config.sections.sampling import Sampling
from genfoundry.core.io import read_json
from genfoundry.generation.sampling import write_samples
from genfoundry.promotion import requests
from genfoundry.tracking.registry import register
from genfoundry.tracking.runs import NoRun, Run
from genfoundry.tracking.store import open_store
from genfoundry.tracking.versions import Registered

TEXTS = {"temperature": 0.8, "top_k": 30, "stop": ["a", "e"], "length": 24, "seed": 4, "n": 3}
PICTURES = {"temperature": 0.6, "draw": "sample", "seed": 4, "n": 3}


def asked(base: str, *rows: dict[str, Any]) -> Any:
    """Predictions for rows of a table."""
    data = json.dumps({"dataframe_records": rows}).encode()
    request = urllib.request.Request(f"{base}/invocations", data, {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=120))["predictions"]


@pytest.mark.parametrize("kind", ["texts", "pictures"])
def test_what_is_served_is_what_was_sampled(kind: str, tmp_path: Path) -> None:
    paths, dataset = writer(tmp_path) if kind == "texts" else painter(tmp_path)
    family = read_json(paths.model / "config.json")["family"]
    sampling = family_section(family, Sampling).model_validate(TEXTS if kind == "texts" else PICTURES)
    write_samples(sampling, paths, dataset, NoRun())
    store = open_store(tmp_path, "p")
    run = Run(store, store.client.create_run(store.experiment).info.run_id, "train")
    number = register(run, paths.key, paths.model, sampling.of_generator(), tmp_path, loader=requests.__name__)
    model_id = Registered(store, paths.key).version(number).model_id
    home, port = tmp_path / "mlruns/artifacts/models" / model_id / "artifacts", free_port()

    command = ["mlflow", "models", "serve", "-m", str(home), "--env-manager", "local", "-p", str(port)]
    with serving(command, port, tmp_path, 300) as base:
        if kind == "texts":
            lines = (paths.samples / "samples.jsonl").read_text(encoding="utf-8").splitlines()
            found = asked(base, {"seed": 4, "max_tokens": 24}, {"seed": 5, "max_tokens": 24})
            assert found[0] == {"text": json.loads(lines[0])["text"]} != found[1]
        else:
            found = np.array(asked(base, {"n": 3, "seed": 4}), np.uint8)
            assert found.tobytes() == np.load(paths.samples / "samples.npy").tobytes()
        with pytest.raises(urllib.error.HTTPError) as caught:
            asked(base, {"seed": 4, "temprature": 0.1})
        # While the server is there: what it said may not all have come yet.
        assert caught.value.code == 400 and "unknown key 'temprature'" in caught.value.read().decode()
