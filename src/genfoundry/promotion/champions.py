"""Find the champion version, and restore it where the registry has lost the alias."""

from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from genfoundry.core.clock import stamp
from genfoundry.promotion.moves import RESTORED, Move, begin, carry_out
from genfoundry.promotion.story import events_of
from genfoundry.tracking import tags
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered, Version


def standing(state: Path, registered: Registered) -> tuple[str | None, str]:
    """Number of the champion and, where it had to be put back, what was done, in words.

    MLflow drops an alias without a word when its version is deleted (tried). Then the last champion that is still
    there, and that nobody went back from, becomes champion again.
    """
    aliases = registered.aliases()
    if CHAMPION in aliases:
        return aliases[CHAMPION], ""
    there = registered.versions()
    last = last_champion(state, registered.name, there)
    if last is None:
        return None, ""
    gone = _lost(state, registered.name, there)
    words = f"the registry had no champion: {gone}; version {last} was champion before"
    previous = aliases.get(PREVIOUS)
    move = Move(
        id=uuid4().hex,
        kind=RESTORED,
        key=registered.name,
        to=last,
        before=None,
        previous=None if previous == last else previous,
        previous_before=previous,
        at=stamp(),
        words=words,
    )
    begin(state, move)
    carry_out(state, registered, move)
    return last, words


def last_champion(state: Path, key: str, there: Mapping[str, Version]) -> str | None:
    """The last version that became champion, is still there, and was not rolled back from; None if there is none.

    Events are asked first, for who became champion and whom it replaced (which a person may have made champion by
    hand); where they are gone, as on a machine that only has the registry, the versions' own tags.
    """
    facts = [event for event in reversed(events_of(state, key)) if event["kind"] != "rejected"]
    for number in (number for event in facts for number in (event["version"], event.get("before"))):
        if number in there and tags.ROLLED_BACK not in there[number].tags:
            return str(number)
    were = {
        version.tags.get(tags.CHAMPION_SINCE, version.tags.get(tags.CHAMPION_UNTIL, "")): version.number
        for version in there.values()
        if tags.ROLLED_BACK not in version.tags
    }
    latest = max(were) if were else ""
    return were[latest] if latest else None


def _lost(state: Path, key: str, there: Mapping[str, Version]) -> str:
    """Which champion is missing, in words."""
    for event in reversed(events_of(state, key)):
        if event["kind"] != "rejected":
            number = event["version"]
            return f"version {number} was " + ("deleted" if number not in there else "taken out of service by hand")
    return "its alias was removed"
