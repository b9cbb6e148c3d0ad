"""`genfoundry trace` on a real store: what a query may be, without a whole pipeline."""

import shutil
from pathlib import Path

import pytest
from registry import KEY, add_version

from genfoundry.core.errors import ConfigError
from genfoundry.core.io import folder_digest, write_json
from genfoundry.tracking.registry import release_digest
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.trace import trace


@pytest.fixture(scope="module")
def made(template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, str]:
    """A project with one model, registered with two generators; its store; the digest of the weights."""
    root = tmp_path_factory.mktemp("traced")
    shutil.copytree(template / "mlruns", root / "mlruns")
    store = open_store(root, "p")
    for temperature in (1.0, 0.5):
        add_version(store, root, "weights", temperature=temperature)
    weights = folder_digest(root / "made" / KEY / "weights")
    record = {"stage": "train", "key": KEY, "fingerprint": "f" * 64, "inputs": {"data/bars": "d" * 64}}
    model = {"outputs": {f"artifacts/models/{KEY}/model": weights}}
    write_json(root / f"artifacts/lineage/train@{KEY}.json", {**record, **model})
    return root, store, weights


@pytest.mark.parametrize("length", [12, 64])
@pytest.mark.parametrize(("number", "temperature"), [("1", 1.0), ("2", 0.5)])
def test_the_digest_of_a_registered_version_leads_to_its_weights(
    made: tuple[Path, Store, str], number: str, temperature: float, length: int
) -> None:
    root, store, weights = made
    digest = release_digest(weights, {"temperature": temperature})

    first, *rest = trace(root, store, digest[:length], forward=False)

    assert first == f"artifacts/models/{KEY}/model  {weights[:16]}  (registered {KEY} version {number})"
    assert rest[0].strip().startswith(f"<- train@{KEY}") and "data/bars" in rest[1]
    assert trace(root, store, f"{KEY}/{number}", forward=False) == [first, *rest], "as the version itself"


def test_a_generator_file_that_was_downloaded_leads_to_its_weights(
    made: tuple[Path, Store, str], tmp_path: Path
) -> None:
    root, store, _ = made
    model = store.client.get_model_version(KEY, "2").source.removeprefix("models:/")
    file = Path(store.client.get_logged_model(model).artifact_location.removeprefix("file://")) / "generator.json"
    shutil.copyfile(file, tmp_path / "found.json")

    (first, *_) = trace(root, store, str(tmp_path / "found.json"), forward=False)

    assert first.endswith(f"(registered {KEY} version 2)")


def test_a_digest_of_nothing_is_refused_with_what_may_be_given(made: tuple[Path, Store, str]) -> None:
    root, store, _ = made

    with pytest.raises(ConfigError, match="nothing known as '0123456789ab'"):
        trace(root, store, "0123456789ab", forward=False)
