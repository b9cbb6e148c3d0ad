"""Reconcile MLflow with the files, as every command that reads MLflow does first."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from genfoundry.config import params as settings
from genfoundry.config.params import Settings
from genfoundry.core.io import write_text
from genfoundry.core.paths import state_root
from genfoundry.pipeline.stage import typed_params
from genfoundry.promotion import requests
from genfoundry.tracking import tags
from genfoundry.tracking.record import Recorded, record
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import Registered


@dataclass(frozen=True)
class Reconciled:
    """Settings, the open store, and the report of the reconciliation."""

    tree: Settings
    store: Store
    recorded: Recorded


def reconcile(root: Path) -> Reconciled:
    """Log what MLflow lacks, register what is not registered, and write the cards that changed."""
    tree = settings.load(root)
    store = open_store(state_root(root), tree.project)
    facts = record(store, root, tree, lambda node: typed_params(node, tree), loader=requests.__name__)
    for key, number in facts.versions.items():
        _card(root, tree, Registered(store, key), number, again=f"{key}/{number}" in facts.refilled)
    return Reconciled(tree, store, facts)


def _card(root: Path, tree: Settings, registered: Registered, number: str, again: bool) -> None:
    """Put the card beside a version, unless it is there; ``again``: its files were deleted."""
    # Imported here: the modules of a card are loaded only where one changed.
    from genfoundry.promotion.card import Subject, make_card

    version = registered.version(number)
    facts = registered.store.client.get_run(version.run_id).data.tags
    subject = Subject(root, tree, registered.name, number, facts)
    digest = subject.digest
    if version.tags.get(tags.CARD) == digest and not again:
        return
    card = make_card(subject)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_text(folder / "card.md", card.markdown)
        write_text(folder / "card.html", card.html)
        registered.attach(number, folder, "card")
    registered.describe(number, summary=card.summary)
    registered.tag(number, {tags.CARD: digest})
