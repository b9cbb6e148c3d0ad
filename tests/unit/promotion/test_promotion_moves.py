"""A move that is killed between any two steps leaves the old or the new champion, and whoever comes next ends it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from registry import KEY, add_version

from genfoundry.core.errors import InfrastructureError
from genfoundry.gate import looks
from genfoundry.gate.looks import Champion
from genfoundry.promotion import moves
from genfoundry.promotion.champions import standing
from genfoundry.promotion.moves import Move, begin, carry_out, drop, intent_file, pending, resume
from genfoundry.state.events import read_events
from genfoundry.tracking import tags
from genfoundry.tracking.store import open_store
from genfoundry.tracking.versions import CHAMPION, PREVIOUS, Registered

STEPS = ("begin", "previous", "champion", "read back", "gate", "tags", "event", "story")


class Killed(BaseException):
    """As SIGKILL does, nothing of ours handles it."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with three versions, the second of them champion over the first."""
    state = tmp_path_factory.mktemp("registry")
    store = open_store(state, "moving")
    for text in ("one", "two", "three"):
        add_version(store, state, text)
    registered = Registered(store, KEY)
    for number, before in (("1", None), ("2", "1")):
        move(state, registered, a_move(number, before, previous_before=None))
    return state


@pytest.fixture()
def place(template: Path, tmp_path: Path) -> tuple[Path, Registered]:
    shutil.copytree(template / "mlruns", tmp_path / "mlruns")
    return tmp_path, Registered(open_store(tmp_path, "moving"), KEY)


def a_move(to: str, before: str | None, previous_before: str | None = "1", kind: str = moves.PROMOTED) -> Move:
    return Move(
        id=f"id of {before} to {to}",
        kind=kind,
        key=KEY,
        to=to,
        before=before,
        previous=before,
        previous_before=previous_before,
        at="2026-11-26T03:00:00Z",
        words=f"from {before} to {to}",
        gate={"dataset": "bars", "digest": f"digest of {to}", "better_than_best": True},
        facts={"by": "test"},
    )


def move(state: Path, registered: Registered, what: Move, after: Callable[[str], None] = lambda step: None) -> None:
    begin(state, what)
    carry_out(state, registered, what, after)


def killed_after(step: str) -> Callable[[str], None]:
    def after(done: str) -> None:
        if done == step:
            raise Killed(step)

    return after


def everything(state: Path, registered: Registered) -> dict[str, object]:
    """All that a move leaves behind."""
    versions = registered.versions()
    return {
        "aliases": registered.aliases(),
        "tags": {
            number: {k: v for k, v in entry.tags.items() if "champion" in k} for number, entry in versions.items()
        },
        "events": [(event["kind"], event["id"], event["at"]) for event in read_events(state)],
        "best": looks.read(state, "bars").champion,
        "story": registered.store.client.get_registered_model(KEY).description,
        "pending": pending(state, KEY),
    }


def test_a_move_tells_all_who_must_know(place: tuple[Path, Registered]) -> None:
    state, registered = place

    move(state, registered, a_move("3", "2"))

    told = everything(state, registered)
    assert told["aliases"] == {CHAMPION: "3", PREVIOUS: "2"}
    assert told["tags"]["3"] == {tags.CHAMPION_SINCE: "2026-11-26T03:00:00Z"}
    assert tags.CHAMPION_UNTIL in told["tags"]["2"]
    assert told["best"] == Champion("digest of 3", f"{KEY}/3")
    assert [kind for kind, *_ in told["events"]] == ["promoted"] * 3
    assert "**version 3 became champion** | from 2 to 3 |" in told["story"]
    assert told["pending"] is None


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_after_any_step_leaves_a_champion_and_the_next_call_ends_it(
    place: tuple[Path, Registered], tmp_path: Path, template: Path, step: str
) -> None:
    state, registered = place
    shutil.copytree(template / "mlruns", tmp_path / "undisturbed/mlruns")
    undisturbed = Registered(open_store(tmp_path / "undisturbed", "moving"), KEY)
    move(tmp_path / "undisturbed", undisturbed, a_move("3", "2"))

    with pytest.raises(Killed):
        move(state, registered, a_move("3", "2"), killed_after(step))
    moved = STEPS.index(step) >= STEPS.index("champion")
    assert registered.aliases()[CHAMPION] == ("3" if moved else "2")
    # Killed again in each step of the completion, too.
    for again in STEPS:
        with pytest.raises(Killed):
            carry_out(state, registered, pending(state, KEY), killed_after(again))
        assert registered.aliases()[CHAMPION] in ("2", "3")
    done, words = resume(state, registered)

    assert done.to == "3" and "completed" in words
    assert everything(state, registered) == everything(tmp_path / "undisturbed", undisturbed)
    assert resume(state, registered) == (None, "")


@pytest.mark.parametrize("step", STEPS)
def test_a_rollback_drops_a_promotion_that_had_not_moved_the_champion(
    place: tuple[Path, Registered], step: str
) -> None:
    state, registered = place
    with pytest.raises(Killed):
        move(state, registered, a_move("3", "2"), killed_after(step))

    words = drop(state, registered)

    moved = STEPS.index(step) >= STEPS.index("champion")
    expected = {CHAMPION: "3", PREVIOUS: "2"} if moved else {CHAMPION: "2", PREVIOUS: "1"}
    assert registered.aliases() == expected
    assert ("completed" if moved else "had not moved") in words
    assert pending(state, KEY) is None


def test_what_a_person_decided_meanwhile_stands(place: tuple[Path, Registered]) -> None:
    state, registered = place
    begin(state, a_move("3", "2"))
    registered.point(CHAMPION, "1")

    done, words = resume(state, registered)

    assert done is None and "dropped" in words and "champion is version 1" in words
    assert registered.aliases()[CHAMPION] == "1" and not intent_file(state, KEY).exists()


def test_an_alias_that_somebody_else_moves_is_seen(place: tuple[Path, Registered]) -> None:
    state, registered = place

    def meddle(step: str) -> None:
        if step == "champion":
            registered.point(CHAMPION, "1")

    with pytest.raises(InfrastructureError, match="somebody else moves aliases"):
        move(state, registered, a_move("3", "2"), meddle)


def test_a_deleted_champion_falls_back_to_the_last_one_that_is_left(place: tuple[Path, Registered]) -> None:
    state, registered = place
    move(state, registered, a_move("3", "2"))
    registered.store.client.delete_model_version(KEY, "3")
    assert CHAMPION not in registered.aliases(), "MLflow drops the alias without a word"

    champion, words = standing(state, registered)

    assert champion == "2" and "version 3 was deleted" in words
    assert registered.aliases() == {CHAMPION: "2"}
    assert [event["kind"] for event in read_events(state)][-1] == "restored"
    assert standing(state, registered) == ("2", "")


def test_a_champion_that_was_made_by_hand_is_known_as_the_one_before(place: tuple[Path, Registered]) -> None:
    state, registered = place
    (state / "mlruns/events.jsonl").unlink()
    registered.store.client.delete_model_version_tag(KEY, "2", tags.CHAMPION_SINCE)
    move(state, registered, a_move("3", "2"))
    registered.store.client.delete_model_version(KEY, "3")

    assert standing(state, registered)[0] == "2"


def test_a_version_that_was_rolled_back_from_is_no_fallback(place: tuple[Path, Registered]) -> None:
    state, registered = place
    move(state, registered, a_move("3", "2"))
    move(state, registered, replace(a_move("2", "3", "2", moves.ROLLED_BACK), id="back"))
    registered.store.client.delete_model_version(KEY, "2")

    assert standing(state, registered)[0] == "1"


def test_without_events_the_registry_itself_says_who_was_champion(place: tuple[Path, Registered]) -> None:
    state, registered = place
    registered.tag("2", {tags.CHAMPION_SINCE: "2026-11-25T03:00:00Z"})
    registered.tag("1", {tags.CHAMPION_SINCE: "2026-11-24T03:00:00Z"})
    move(state, registered, a_move("3", "2"))
    (state / "mlruns/events.jsonl").unlink()
    registered.store.client.delete_model_version(KEY, "3")

    assert standing(state, registered)[0] == "2"


def test_a_registry_that_never_had_a_champion_has_none(tmp_path: Path) -> None:
    store = open_store(tmp_path, "moving")
    assert standing(tmp_path, Registered(store, KEY)) == (None, "")
