"""MLflow made to agree with the files: what every command that asks it begins with."""

from dataclasses import dataclass
from pathlib import Path

from genfoundry import settings
from genfoundry.paths import state_root
from genfoundry.settings import Settings
from genfoundry.stage import typed_params
from genfoundry.tracking.record import Recorded, record
from genfoundry.tracking.store import Store, open_store


@dataclass(frozen=True)
class Reconciled:
    """Settings, the open store, and what was found and done."""

    tree: Settings
    store: Store
    told: Recorded


def reconcile(root: Path) -> Reconciled:
    """Log what MLflow lacks and register what is not registered."""
    tree = settings.load(root)
    store = open_store(state_root(root), tree.project)
    return Reconciled(tree, store, record(store, root, tree, lambda node: typed_params(node, tree)))
