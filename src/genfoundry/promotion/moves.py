"""Move the registry's aliases crash-safely, by a redo log of one entry.

A move is written to ``mlruns/promotion/<key>.json`` before anything moves, and that file goes when everything is done.
Every step sets a state and can be done again; so whoever finds the file, after a kill between any two steps, does all
steps from the first and ends where the killed process would have ended. ``champion`` goes from one version to the next
in one write of the registry: it is never absent between.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from genfoundry.core.errors import InfrastructureError
from genfoundry.core.io import read_json, write_json
from genfoundry.gate.looks import Champion, remember_champion
from genfoundry.promotion.story import timeline
from genfoundry.state.events import append_event, read_events
from genfoundry.tracking import tags
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered

FORMAT = 1

PROMOTED, ROLLED_BACK, RESTORED = "promoted", "rolled_back", "restored"


@dataclass(frozen=True)
class Move:
    """One change of champion, decided and to be carried out."""

    id: str
    """Names this occurrence: its event is noted once."""
    kind: str
    """``promoted``, ``rolled_back`` or ``restored``."""
    key: str
    to: str
    """Number of the version that becomes champion."""
    before: str | None
    """Number of the champion before."""
    previous: str | None
    """What alias ``previous`` means afterwards."""
    previous_before: str | None
    at: str
    """In UTC."""
    words: str
    """The decision and its reason, for events and descriptions."""
    gate: Mapping[str, Any] = field(default_factory=dict)
    """For a promotion: dataset, digest, and whether it is better than the best so far."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More for the event."""
    decision: Mapping[str, Any] = field(default_factory=dict)
    """decision.json of a promotion."""


def intent_file(state: Path, key: str) -> Path:
    return state / "mlruns/promotion" / f"{key}.json"


def pending(state: Path, key: str) -> Move | None:
    """The move that a kill left, if any."""
    path = intent_file(state, key)
    if not path.is_file():
        return None
    tree = read_json(path)
    if tree.pop("format", None) != FORMAT:
        raise InfrastructureError(f"{path}: not of format {FORMAT}; use the genfoundry that wrote it")
    return Move(**tree)


def touched(state: Path) -> set[tuple[str, str]]:
    """Name and number of every version that a move is about which a kill left, or which is under way.

    Raises:
        InfrastructureError: A move of another format.
    """
    found = set()
    for path in sorted(intent_file(state, "any").parent.glob("*.json")):
        move = pending(state, path.stem)
        if move is not None:
            numbers = (move.to, move.before, move.previous, move.previous_before)
            found |= {(move.key, number) for number in numbers if number}
    return found


def begin(state: Path, move: Move) -> None:
    """Write the redo log; from here on this process or the next completes the move."""
    write_json(intent_file(state, move.key), {"format": FORMAT, **asdict(move)})


def steps(state: Path, registered: Registered, move: Move) -> Iterator[tuple[str, Callable[[], None]]]:
    """Steps of a move in their order; each can be done again."""
    yield "previous", lambda: registered.point(PREVIOUS, move.previous)
    yield "champion", lambda: registered.point(CHAMPION, move.to)
    yield "read back", lambda: _read_back(registered, move)
    yield "gate", lambda: _tell_gate(state, registered, move)
    yield "tags", lambda: _tag(registered, move)
    yield "event", lambda: _note(state, move)
    yield "story", lambda: timeline(state, registered)


def carry_out(
    state: Path, registered: Registered, move: Move, after: Callable[[str], None] = lambda step: None
) -> None:
    """Carry out all steps of a move and remove its redo log.

    Args:
        state: State root.
        registered: The registered model.
        move: What to do.
        after: Called with each finished step, the beginning included.
    """
    after("begin")
    for name, step in steps(state, registered, move):
        step()
        after(name)
    intent_file(state, move.key).unlink(missing_ok=True)
    after("end")


def _read_back(registered: Registered, move: Move) -> None:
    now = registered.aliases()
    facts = {alias: now.get(alias) for alias in (CHAMPION, PREVIOUS)}
    if facts != {CHAMPION: move.to, PREVIOUS: move.previous}:
        raise InfrastructureError(
            f"{move.key}: the registry says {facts} after champion was set to {move.to} and previous to "
            f"{move.previous}; somebody else moves aliases there: find out who, then run the command again"
        )


def _tell_gate(state: Path, registered: Registered, move: Move) -> None:
    if move.gate:
        champion = Champion(move.gate["digest"], f"{move.key}/{move.to}")
        remember_champion(state, move.gate["dataset"], champion, move.gate["better_than_best"])


def _tag(registered: Registered, move: Move) -> None:
    registered.tag(move.to, {tags.CHAMPION_SINCE: move.at, tags.CHAMPION_UNTIL: None, tags.ROLLED_BACK: None})
    there = registered.versions()
    if move.before is not None and move.before in there:
        left = f"{move.at}: {move.words}" if move.kind == ROLLED_BACK else None
        registered.tag(move.before, {tags.CHAMPION_UNTIL: move.at, tags.ROLLED_BACK: left})


def _note(state: Path, move: Move) -> None:
    if any(event.get("id") == move.id for event in read_events(state, move.kind)):
        return
    facts = {"id": move.id, "model": move.key, "version": move.to, "before": move.before, "words": move.words}
    append_event(state, move.kind, datetime.fromisoformat(move.at), **facts, **move.facts)


def resume(state: Path, registered: Registered) -> tuple[Move | None, str]:
    """Complete the move that a kill left, if any: the move if it was completed, and what was done, in words.

    A champion that is neither the one before nor the one after says that somebody else has decided since: that stands.
    """
    move = pending(state, registered.name)
    if move is None:
        return None, ""
    now, there = registered.aliases().get(CHAMPION), registered.versions()
    if now not in (move.before, move.to) or move.to not in there:
        intent_file(state, move.key).unlink()
        return None, f"{move.key}: dropped what was left of '{move.words}': champion is version {now or 'none'} by now"
    if move.previous not in there:
        move = replace(move, previous=None)
    carry_out(state, registered, move)
    return move, f"{move.key}: completed what was left of '{move.words}'"


def drop(state: Path, registered: Registered) -> str:
    """Undo a promotion that was cut short before the champion moved; complete a move that was cut short after it."""
    move = pending(state, registered.name)
    if move is None:
        return ""
    if registered.aliases().get(CHAMPION) == move.to:
        return resume(state, registered)[1]
    there = registered.versions()
    registered.point(PREVIOUS, move.previous_before if move.previous_before in there else None)
    intent_file(state, move.key).unlink()
    return f"{move.key}: dropped what was left of '{move.words}': the champion had not moved"
