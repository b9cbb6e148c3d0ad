"""`genfoundry retrain` as a scheduler would call it, on the miniature project: real stages, registry and gate."""

import json
import time
from typing import Any

import numpy as np
import pytest
from conftest import Project
from miniature import document
from tinyline import picture

from genfoundry.core.io import read_json
from genfoundry.state.events import read_events
from genfoundry.state.journal import Journal, home
from genfoundry.tracking.glance import glances

MODEL = "notes-transformer"


def events(project: Project) -> list[dict[str, Any]]:
    return list(read_events(project.root, "retrain"))


def retrained(project: Project, *words: str) -> tuple[int, dict[str, Any]]:
    """Exit code and event of a retrain."""
    done = project.genfoundry("retrain", "--quiet", *words, check=False, timeout=1800)
    event = events(project)[-1]
    assert event["code"] == done.returncode, done.stdout + done.stderr
    assert event["message"] in done.stdout + done.stderr
    return done.returncode, event


def champion(project: Project) -> str | None:
    found = [
        each.version for each in glances(project.root, "miniature") if each.name == MODEL and each.alias == "champion"
    ]
    return found[0] if found else None


def test_a_model_that_is_too_weak_is_rejected_with_numbers_and_the_checkout_stays_as_it_was(project: Project) -> None:
    with (project.root / "params.yaml").open("a") as params:
        params.write(f"retraining: {{models: [{MODEL}], allow: [localhost], notify: {{file: told.jsonl}}}}\n")
    project.git("commit", "-q", "-a", "-m", "settings")
    project.edit("steps: 40, batch: 16", "steps: 41, batch: 16")
    (project.root / "note.txt").write_text("not committed")
    before = picture(project.root)

    code, event = retrained(project, "--scheduled", "--slot", "2026-03-29T02:30:00+02:00")

    assert code == 11, event
    told = json.loads((project.root / "told.jsonl").read_text())
    (project.root / "told.jsonl").unlink()
    assert picture(project.root) == before
    assert told["outcome"] == "rejected" and told["slot"] == event["slot"] == "2026-03-29T00:30:00Z"
    assert event["reasons"][0]["trigger"] == "slot"
    decision = read_json(home(project.root) / event["key"] / f"decision-{MODEL}.json")
    assert decision["verdict"] == "NOT_BLESSED" and champion(project) is None
    (weak,) = [rule for rule in decision["rules"] if rule["name"] == "better_than_nothing"]
    assert not weak["passed"]
    # Committed results of the same inputs: nothing was trained again, and the branch needs no commit of its own.
    assert project.git("rev-parse", event["branch"]) == project.git("rev-parse", "HEAD")
    log = (home(project.root) / event["key"] / "train.log").read_text()
    assert "Running stage 'train" not in log
    steps = [entry["step"] for entry in Journal(home(project.root) / event["key"]).entries if entry["state"] == "end"]
    assert steps[-1] == "attempt" and {"preflight", "contracts", "train", "record", "commit"} < set(steps)

    started = time.monotonic()
    code, event = retrained(project)
    assert code == 10 and event["prior"]["outcome"] == "rejected", f"{time.monotonic() - started:.1f} s"
    shown = json.loads(project.genfoundry("status", "--json").stdout)
    assert (
        shown["retrain"]["last_decision"]["outcome"] == "rejected"
        and shown["data"]["since_retrain"]["changed"] is False
    )


def write_notes(project: Project, count: int, broken: int = 0) -> None:
    """So many texts, and beside them lines that are no JSON."""
    generator = np.random.Generator(np.random.PCG64(11))
    lines = [json.dumps({"id": f"n{number}", "text": document(generator)}) for number in range(count)]
    lines += [f'{{"id": "b{number}", "text": "cut off' for number in range(broken)]
    file = project.root / "data/notes/notes.jsonl"
    file.chmod(0o644)
    file.write_text("\n".join(lines) + "\n")
    project.dvc("add", "-q", "data")
    project.git("commit", "-q", "-a", "-m", f"{count} texts, {broken} broken lines")


@pytest.mark.long
def test_three_nights_a_first_champion_more_data_and_poisoned_data(project: Project, capsys: Any) -> None:
    project.edit("sampling: {n: 6, length: 24}", "sampling: {n: 40, length: 48}")
    text = (project.root / "params.yaml").read_text()
    head, tail = text.split(f"  {MODEL}:")
    params = f"{head}  {MODEL}:{tail.replace('steps: 40', 'steps: 400')}retraining: {{models: [{MODEL}]}}\n"
    (project.root / "params.yaml").write_text(params)
    told = []

    for night, (count, broken) in {"v1": (150, 0), "v2": (900, 9), "v3": (900, 300)}.items():
        write_notes(project, count, broken)
        before = picture(project.root)
        started = time.monotonic()
        code, event = retrained(project, "--reason", night)
        assert picture(project.root) == before
        told.append((night, code, event["message"], champion(project), round(time.monotonic() - started, 1)))
        if night == "v1":
            assert (code, champion(project)) == (0, event["decisions"][0]["version"]), event
            first = champion(project)
        if night == "v2":
            decision = read_json(home(project.root) / event["key"] / f"decision-{MODEL}.json")
            assert code in (0, 11) and decision["rules"] and decision["champion_before"] == first
            assert champion(project) == (event["decisions"][0]["version"] if code == 0 else first)
            told.append([(rule["name"], rule["passed"], rule["words"]) for rule in decision["rules"]])
            second = champion(project)
    assert code == 13 and "ingest@notes" in event["message"] and champion(project) == second
    assert not project.git("branch", "--list", f"retrain/{event['key']}")
    assert retrained(project)[0] == 13, "bad data stay bad"
    project.git("reset", "-q", "--hard", "HEAD^")
    assert retrained(project)[0] == 10, "v2 again is nothing new"
    outcomes = [entry["outcome"] for entry in events(project)]
    assert outcomes == ["promoted", outcomes[1], "bad_data", "bad_data", "no_op"]
    with capsys.disabled():
        print("\n".join(map(str, told)))
