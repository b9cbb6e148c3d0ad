"""Which split a record belongs to: given (folder, column), or drawn from a salted hash of its content.

So it does not move when data grow, and copies of a record are drawn alike.
"""

import hashlib
from collections.abc import Container

from genfoundry.settings import Split


def draw(sha256: str, config: Split) -> str:
    """The split that a content's hash draws: ``test``, ``val`` or ``train``."""
    digest = hashlib.sha256(f"{config.salt}:{sha256}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < config.test:
        return "test"
    return "val" if place < config.test + config.val else "train"


def assign(given: object, sha256: str, config: Split, known: Container[str]) -> str:
    """The split of a record; ``known`` holds the splits that any record of the data set is given.

    Many published sets come as train and test alone: what nobody is given is drawn from the records given to train.
    """
    if not isinstance(given, str):
        return draw(sha256, config)
    drawn = draw(sha256, config)
    return drawn if given == "train" and drawn not in known else given
