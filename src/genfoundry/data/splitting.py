"""Which split a record belongs to, and the guard that nothing of evaluation stands in training.

The split is given (folder, column) or drawn from a salted hash of the content: it does not move when data grow.
"""

import hashlib

from genfoundry.settings import Split


def draw(sha256: str, config: Split) -> str:
    """The split that a content's hash draws: ``test``, ``val`` or ``train``."""
    digest = hashlib.sha256(f"{config.salt}:{sha256}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test:
        return "test"
    return "val" if place < config.test + config.val else "train"
