"""The frozen gate set of a dataset: its records, the number of looks at them, the best champion so far.

Every comparison on the same records is another chance for a lucky model, so looks are counted and the error
probability is spent over them: look k gets ``alpha / (k (k+1))``, which sums to alpha over any number of looks, as
1/(k(k+1)) = 1/k - 1/(k+1). Bonferroni's ``alpha / K`` would need the number of nights in advance and stop after it;
``alpha`` at every look promotes equal models again and again (docs/gate.md, measured). It gets stricter with time
(alpha 0.05: look 1 2.5 %, look 10 0.045 %), so a gate set is renewed by hand, with a reason, when new held-out records
have come.

One file, ``mlruns/gate/<dataset>.json`` under the state root, replaced as a whole and written under a lock.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genfoundry.core.errors import DataError
from genfoundry.core.io import digest_of, read_json, write_json
from genfoundry.state.locks import locked

FORMAT = 1


def alpha_of_look(alpha: float, look: int) -> float:
    """Error probability of look 1, 2, ...; they sum to ``alpha``."""
    return alpha / (look * (look + 1))


def alpha_left(alpha: float, looks: int) -> float:
    """Error probability left after so many looks."""
    return alpha / (looks + 1)


@dataclass(frozen=True)
class Champion:
    """A model that was champion."""

    digest: str
    version: str
    """``name/3`` in the registry."""


@dataclass
class GateSet:
    """Present state of a dataset's gate set."""

    records: str = ""
    """First 8 bytes, big-endian, of the sha256 of each held-out record, as hex, one after the other, sorted."""
    number: int = 0
    """1 for the first set, one more with each rotation."""
    reason: str = ""
    looks: list[dict[str, str]] = field(default_factory=list)
    best: dict[str, str] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    """Earlier sets: number, digest, reason, records, looks."""

    @property
    def hashes(self) -> np.ndarray:
        """uint64 (N,), sorted."""
        return np.frombuffer(bytes.fromhex(self.records), dtype=">u8").astype(np.uint64)

    @property
    def digest(self) -> str:
        return digest_of(self.records)

    @property
    def champion(self) -> Champion | None:
        """Best champion so far."""
        return Champion(**self.best) if self.best else None

    def freeze(self, hashes: np.ndarray, reason: str) -> None:
        """Start a set with these records.

        Raises:
            DataError: Fewer than two records.
        """
        unique = np.unique(np.asarray(hashes, np.uint64))
        if len(unique) < 2:
            raise DataError(f"gate set: {len(unique)} held-out records; hold more out")
        if self.number:
            old = {"number": self.number, "digest": self.digest, "reason": self.reason, "looks": self.looks}
            self.history = [*self.history, {**old, "records": len(self.records) // 16}]
        self.records, self.looks = unique.astype(">u8").tobytes().hex(), []
        self.number, self.reason = self.number + 1, reason

    def look(self, challenger: str, champion: str, protocol: str) -> int:
        """Number of this look, counted if it is a new one: the same pair under the same protocol is the same look."""
        entry = {"challenger": challenger, "champion": champion, "protocol": protocol, "records": self.digest}
        if entry not in self.looks:
            self.looks = [*self.looks, entry]
        return self.looks.index(entry) + 1

    def remember(self, champion: Champion, better_than_best: bool) -> None:
        """Note a champion; it becomes the best so far if there is none, or if it was measured to be better."""
        if self.best is None or better_than_best:
            self.best = asdict(champion)


def gate_file(state: Path, dataset: str) -> Path:
    """Where the state of a dataset's gate set lies."""
    return state / "mlruns/gate" / f"{dataset}.json"


def read(state: Path, dataset: str) -> GateSet:
    """The present state; an empty one if there is none.

    Raises:
        DataError: The file is broken or of another format.
    """
    path = gate_file(state, dataset)
    if not path.is_file():
        return GateSet()
    tree = read_json(path)
    if tree.pop("format", None) != FORMAT:
        raise DataError(f"{path}: not of format {FORMAT}; use the genfoundry that wrote it, or move it away")
    try:
        return GateSet(**tree)
    except TypeError as error:
        raise DataError(f"{path}: {error}; restore it from a backup, or move it away to start over") from None


def best_champions(state: Path) -> list[Champion]:
    """The best champion so far of each gate set.

    Raises:
        DataError: As ``read``: who deletes by it must not take a broken file for one that names nobody.
    """
    found = [read(state, path.stem).champion for path in sorted(gate_file(state, "any").parent.glob("*.json"))]
    return [champion for champion in found if champion is not None]


@contextmanager
def opened(state: Path, dataset: str) -> Iterator[GateSet]:
    """The state, to read and change: nobody else changes it meanwhile, and it is written when the block ends well."""
    path = gate_file(state, dataset)
    with locked(path.with_suffix(".lock")):
        found = read(state, dataset)
        before = asdict(found)
        yield found
        if asdict(found) != before:
            write_json(path, {"format": FORMAT, **asdict(found)})


def rotate(state: Path, dataset: str, hashes: np.ndarray, reason: str, forget_best: bool = False) -> GateSet:
    """Start a new set with the present held-out records and count looks from none; the history is kept.

    Args:
        state: State root.
        dataset: Key of params.yaml.
        hashes: uint64 (N,): the present held-out records.
        reason: Why, for the history.
        forget_best: Let go of the best champion so far too, where it can't be loaded any more.

    Raises:
        DataError: No reason, or fewer than two records.
    """
    if not reason.strip():
        raise DataError(f"gate set of {dataset}: a rotation needs a reason")
    with opened(state, dataset) as gate_set:
        gate_set.freeze(hashes, reason)
        if forget_best:
            gate_set.best = None
    return gate_set


def remember_champion(state: Path, dataset: str, champion: Champion, better_than_best: bool) -> None:
    """Note that a model became champion, and whether it was measured to be better than the best so far.

    Noting it twice changes nothing.
    """
    with opened(state, dataset) as gate_set:
        gate_set.remember(champion, better_than_best)
