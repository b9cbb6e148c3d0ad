"""The file of events: appended whole, read in order, unharmed by a line that a crash cut short."""

import multiprocessing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from genfoundry.state.events import append_event, events_file, read_events


def test_events_come_back_in_order_and_by_kind(tmp_path: Path) -> None:
    at = datetime(2026, 3, 29, 3, 0, tzinfo=timezone(timedelta(hours=2)))
    first = append_event(tmp_path, "promoted", at, model="digits-vae", version="3")
    append_event(tmp_path, "missed", datetime(2026, 3, 30, tzinfo=UTC), slot="x")

    assert first == {"at": "2026-03-29T01:00:00Z", "kind": "promoted", "model": "digits-vae", "version": "3"}
    assert [event["kind"] for event in read_events(tmp_path)] == ["promoted", "missed"]
    assert list(read_events(tmp_path, "promoted")) == [first]
    assert list(read_events(tmp_path / "elsewhere")) == []


def test_a_line_cut_short_costs_only_itself(tmp_path: Path) -> None:
    append_event(tmp_path, "promoted", version="1")
    with events_file(tmp_path).open("ab") as file:
        file.write(b'{"at": "2026-01-01T00:00:00Z", "kind": "roll')

    append_event(tmp_path, "promoted", version="2")

    assert [event["version"] for event in read_events(tmp_path)] == ["1", "2"]


def test_an_event_that_is_no_json_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        append_event(tmp_path, "promoted", score=float("nan"))
    assert not events_file(tmp_path).exists()


def _append(folder: Path, writer: int) -> None:
    for number in range(50):
        append_event(folder, "promoted", writer=writer, number=number, text="x" * 5000)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(tmp_path, writer)) for writer in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()

    found = [(event["writer"], event["number"]) for event in read_events(tmp_path)]
    assert sorted(found) == [(writer, number) for writer in range(4) for number in range(50)]
    for writer in range(4):
        assert [number for who, number in found if who == writer] == list(range(50))
