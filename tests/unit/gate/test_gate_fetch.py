"""A registered model comes back from the store byte for byte, or not at all."""

from pathlib import Path

import pytest

from genfoundry.config.sections.sampling import release_digest
from genfoundry.core.errors import ConfigError, DataError
from genfoundry.core.io import folder_digest, publish_folder, write_json
from genfoundry.tracking.registry import fetch_model, register
from genfoundry.tracking.runs import Run
from genfoundry.tracking.store import Store, open_store


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, str, Path]:
    """A store with one model, version 1 and champion; its digest; the state root."""
    state = tmp_path_factory.mktemp("state")
    store = open_store(state, "fetching")
    run = Run(store, store.client.create_run(store.experiment).info.run_id, "train")
    with publish_folder(state / "made") as folder:
        write_json(folder / "config.json", {"family": "vae", "options": {"width": 8}})
        write_json(folder / "spec.json", {"kind": "grid", "channels": 1, "shape": [8, 8], "labels": ["h", "v"]})
        (folder / "weights.safetensors").write_bytes(b"weights")
    version = register(run, "bars-vae", state / "made", {"temperature": 0.7}, state)
    store.client.set_registered_model_alias("bars-vae", "champion", version)
    return store, folder_digest(state / "made"), state


def test_by_number_and_by_alias_the_same_bytes_come(registered: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, digest, _ = registered

    for wanted in ("1", "champion"):
        folder, version, registered_as, generator = fetch_model(store, "bars-vae", wanted, tmp_path)
        assert version == "1" and folder == tmp_path / digest and folder_digest(folder) == digest
        assert generator == {"temperature": 0.7} and registered_as == release_digest(digest, generator) != digest
    assert (folder / "weights.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("wanted", ["2", "nobody"])
def test_an_unknown_version_is_named(registered: tuple[Store, str, Path], tmp_path: Path, wanted: str) -> None:
    with pytest.raises(ConfigError, match=f"bars-vae.{wanted}: not in the registry"):
        fetch_model(registered[0], "bars-vae", wanted, tmp_path)


def test_a_model_changed_in_the_store_is_refused(registered: tuple[Store, str, Path], tmp_path: Path) -> None:
    store, _, state = registered
    (file,) = (state / "mlruns/artifacts").rglob("weights.safetensors")
    file.write_bytes(b"another")

    with pytest.raises(DataError, match=r"weights.safetensors was changed"):
        fetch_model(store, "bars-vae", "1", tmp_path)

    file.write_bytes(b"weights")
