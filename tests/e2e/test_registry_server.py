"""Promotion on a real MLflow server, which machines share that have no disk in common."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry import KEY, add_version
from servers import mlflow_server

from genfoundry.core.errors import BusyError
from genfoundry.core.io import folder_digest
from genfoundry.promotion.locks import moving
from genfoundry.promotion.moves import PROMOTED, Move, begin, carry_out
from genfoundry.tracking import tags
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.registry_lock import registry_lock
from genfoundry.tracking.runs import process_tag
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store on a server, with two versions."""
    home = tmp_path_factory.mktemp("server")
    with mlflow_server(home) as base, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", base)
        store = open_store(home / "one", "shared")
        for text in ("one", "two"):
            add_version(store, home / "one", text)
        yield store


def test_models_come_back_and_aliases_move_over_the_network(store: Store, tmp_path: Path) -> None:
    registered = Registered(store, KEY)
    first, second = (registered.version(number) for number in ("1", "2"))

    folder, number, *_ = fetch_model(store, KEY, "2", tmp_path)
    assert number == "2" and folder_digest(folder) == second.tags[tags.WEIGHTS] != first.tags[tags.WEIGHTS]

    gate = {"dataset": "bars", "digest": second.digest, "better_than_best": True}
    move = Move("id", PROMOTED, KEY, "2", "1", "1", None, "2026-11-26T03:00:00Z", "better", gate)
    registered.point(CHAMPION, "1")
    with moving(tmp_path, store, "shared", "test"):
        begin(tmp_path, move)
        carry_out(tmp_path, registered, move)
    assert registered.aliases() == {CHAMPION: "2", PREVIOUS: "1"}
    assert "**version 2 became champion**" in store.client.get_registered_model(KEY).description
    assert [model.name for model in store.client.search_registered_models()] == [KEY], "the lock is gone"


def test_two_machines_do_not_move_aliases_at_once(store: Store, tmp_path: Path) -> None:
    with (
        moving(tmp_path / "one", store, "shared", "promote one"),
        pytest.raises(BusyError, match=r"holds the registry's lock; .* delete the registered model 'shared.lock'"),
        registry_lock(store, "shared", 1.0, "promote two"),
    ):
        pass
    with registry_lock(store, "shared", 1.0, "promote two"):
        pass


def test_the_lock_of_a_dead_process_is_taken_over_and_that_of_another_machine_is_not(store: Store) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    host = process_tag().split(" ")[0]
    store.client.create_registered_model("shared.lock", tags={tags.PROCESS: f"{host} {dead.stdout.strip()} 1"})
    with registry_lock(store, "shared", 0.0, "promote"):
        pass

    store.client.create_registered_model("shared.lock", tags={tags.PROCESS: f"elsewhere {dead.stdout.strip()} 1"})
    with pytest.raises(BusyError, match="process elsewhere"), registry_lock(store, "shared", 0.0, "promote"):
        pass
    store.client.delete_registered_model("shared.lock")
