"""A registry with small models in it, for tests of what moves in it; the store is a real one."""

from pathlib import Path

from genfoundry.core.io import publish_folder, write_json
from genfoundry.tracking.registry import register
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import Store

KEY = "bars-vae"


def add_version(store: Store, state: Path, text: str, key: str = KEY, temperature: float = 1.0) -> str:
    """Number of the version of a model folder that holds this text as weights."""
    made = state / "made" / key / text
    with publish_folder(made) as folder:
        write_json(folder / "config.json", {"family": "vae", "options": {"width": 8}})
        write_json(folder / "spec.json", {"kind": "grid", "channels": 1, "shape": [8, 8], "labels": ["h", "v"]})
        (folder / "weights.safetensors").write_bytes(text.encode())
    run = Run(store, store.client.create_run(store.experiment).info.run_id, "train")
    return register(run, key, made, {"temperature": temperature}, state)
