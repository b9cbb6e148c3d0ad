"""Versions whose files were deleted behind MLflow's back."""

import shutil
from pathlib import Path

import pytest
from registry import KEY, add_version

from genfoundry.core.errors import InfrastructureError
from genfoundry.core.io import folder_digest
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.removal import without_files
from genfoundry.tracking.store import Store, open_store


@pytest.fixture
def store(template: Path, tmp_path: Path) -> Store:
    shutil.copytree(template / "mlruns", tmp_path / "mlruns")
    return open_store(tmp_path, "p")


def test_versions_without_files_are_named_and_those_of_the_workspace_get_them_back(
    store: Store, tmp_path: Path
) -> None:
    for text in ("first", "second"):
        add_version(store, tmp_path, text)
    assert without_files(store, [KEY, "never-registered"]) == []

    shutil.rmtree(tmp_path / "mlruns/artifacts")
    assert sorted(without_files(store, [KEY])) == [f"{KEY}/1", f"{KEY}/2"]
    with pytest.raises(InfrastructureError, match="its files can't be fetched"):
        fetch_model(store, KEY, "2", tmp_path / "fetched")

    assert add_version(store, tmp_path, "second") == "2"
    assert without_files(store, [KEY]) == [f"{KEY}/1"]
    assert folder_digest(fetch_model(store, KEY, "2", tmp_path / "fetched").folder) == folder_digest(
        tmp_path / "made" / KEY / "second"
    )


def test_a_single_file_that_is_gone_is_logged_again(store: Store, tmp_path: Path) -> None:
    add_version(store, tmp_path, "first")
    (file,) = (tmp_path / "mlruns/artifacts").rglob("weights.safetensors")
    file.unlink()

    add_version(store, tmp_path, "first")

    assert file.read_bytes() == b"first"
