"""`genfoundry status`: summarise the project from files, git and the registry's database, without locks."""

import shutil
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from genfoundry.config import params as settings
from genfoundry.config.pointers import md5
from genfoundry.core.clock import Clock, stamp
from genfoundry.core.errors import GenfoundryError, InfrastructureError
from genfoundry.data.validate.drift import DRIFT, in_words
from genfoundry.evaluation.verdicts import PRIMARY
from genfoundry.retraining.engine import DECIDED, EVENT
from genfoundry.retraining.line.snapshots import POINTER, parsed
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.schedule.watch import schedule_file
from genfoundry.state.checkout import PREFIX, Git
from genfoundry.state.events import read_events
from genfoundry.state.journal import JOURNAL, Journal, home, lock_file, open_attempt, read_whole
from genfoundry.state.locks import describe, holder
from genfoundry.tracking.glance import Glance, glances

FILES_HASHED, BYTES_HASHED = 20_000, 1 << 30
"""data/ is compared with data.dvc by content up to this size; beyond, it would take minutes."""


def status(root: Path, state: Path, clock: Clock) -> dict[str, Any]:
    """Everything on the screen, as JSON values."""
    tree = settings.load(root)
    options = settings.parse(Retraining, tree.retraining, "retraining")
    now = clock.now()
    events = list(read_events(state))
    retrains = [event for event in events if event["kind"] == EVENT]
    decided = [event for event in retrains if event.get("outcome") in DECIDED and event.get("decisions")]
    return {
        "project": tree.project,
        "at": stamp(now),
        "models": _champions(state, tree.project, list(tree.models), events, now),
        "retrain": {
            "last": retrains[-1] if retrains else None,
            "last_decision": decided[-1] if decided else None,
            "failures_in_a_row": _failures(retrains),
            "running": _running(state, now),
        },
        "schedule": _schedule(state, options, now)
        | {"missed": sum(int(event.get("count", 1)) for event in events if event["kind"] == "missed")},
        "data": _data(root, state, decided[-1] if decided else None),
        "drift": _drift(root, list(tree.datasets), decided[-1] if decided else None),
        "disk": _disk(state, options),
    }


def _age_h(now: datetime, then: datetime) -> float:
    return round((now - then).total_seconds() / 3600, 1)


def _champions(
    state: Path, project: str, models: list[str], events: list[dict[str, Any]], now: datetime
) -> dict[str, Any]:
    try:
        found = glances(state, project)
    except InfrastructureError as error:
        return {"fault": str(error)}
    facts: dict[str, Any] = {}
    for model in models:
        aliases = {each.alias: each for each in found if each.name == model}
        champion, previous = aliases.get("champion"), aliases.get("previous")
        facts[model] = {"champion": None} if champion is None else _champion(champion, events, now)
        facts[model]["previous"] = previous.version if previous else None
    return facts


def _champion(champion: Glance, events: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    moved = [
        event["at"]
        for event in events
        if event.get("model") == champion.name and str(event.get("version")) == champion.version
        and event["kind"] in ("promoted", "rolled_back", "restored")
    ]  # fmt: skip
    since = datetime.fromisoformat(moved[-1]) if moved else datetime.fromtimestamp(champion.made_ms / 1000, UTC)
    scores = {}
    for name, value in champion.tags.items():
        # A score's tag is its name and the digest of its protocol, such as fid_domain.1a2b3c4d.
        if name.rsplit(".", 1)[0] in PRIMARY:
            try:
                scores[name] = float(value)
            except ValueError:
                continue
    made = datetime.fromtimestamp(champion.made_ms / 1000, UTC)
    return {
        "champion": champion.version,
        "since": stamp(since),
        "champion_for_h": _age_h(now, since),
        "age_h": _age_h(now, made),
        "scores": scores,
    }


def _failures(retrains: list[dict[str, Any]]) -> int:
    count = 0
    for event in reversed(retrains):
        if event.get("outcome") in DECIDED:
            break
        count += event.get("outcome") not in ("busy", "preempted")
    return count


def _running(state: Path, now: datetime) -> dict[str, Any] | None:
    found = holder(lock_file(state))
    if found is None:
        return None
    facts = {"who": describe(found, now), **found}
    under_way = open_attempt(state)
    if under_way:
        entries = Journal(home(state) / str(under_way["key"])).entries
        facts |= {"key": under_way["key"], "step": entries[-1]["step"] if entries else None}
    return facts


def _schedule(state: Path, options: Retraining, now: datetime) -> dict[str, Any]:
    from genfoundry.retraining.schedule.cron import next_slots

    facts: dict[str, Any] = {"cron": options.schedule.cron, "timezone": options.schedule.timezone}
    try:
        (slot,) = next_slots(options.schedule, now, 1)
        facts["next"] = stamp(slot)
    except GenfoundryError as error:
        facts["fault"] = str(error)
    watched = read_whole(schedule_file(state)) or {}
    facts |= {name: watched[name] for name in ("paused", "last", "failures") if name in watched}
    return facts


def _data(root: Path, state: Path, last: Mapping[str, Any] | None) -> dict[str, Any]:
    """data.dvc against the last decided retrain's, and data/ against data.dvc."""
    pointer = root / POINTER
    if not pointer.is_file():
        return {"fault": f"no {POINTER}"}
    now = _sizes(pointer.read_text())
    facts: dict[str, Any] = {"pointer": now, "since_retrain": None}
    text = Git(root).text(f"{PREFIX}{last['key']}", POINTER) if last else None
    if text:
        then = _sizes(text)
        facts["since_retrain"] = {
            "changed": then["md5"] != now["md5"],
            "files": (now["files"] or 0) - (then["files"] or 0),
            "bytes": (now["bytes"] or 0) - (then["bytes"] or 0),
        }
    folder, files, size = root / "data", 0, 0
    if not folder.is_dir():
        return {**facts, "workspace": "absent"}
    for path in folder.rglob("*"):
        if path.is_file():
            files, size = files + 1, size + path.stat().st_size
            if files > FILES_HASHED or size > BYTES_HASHED:
                return {**facts, "workspace": "too large to look at"}
    return {**facts, "workspace": "as data.dvc says" if md5(folder) == now["md5"] else "changed"}


def _sizes(text: str) -> dict[str, Any]:
    out = (parsed(text, POINTER).get("outs") or [{}])[0]
    return {"md5": out.get("md5"), "files": out.get("nfiles"), "bytes": out.get("size")}


def _drift(root: Path, datasets: list[str], last: Mapping[str, Any] | None) -> dict[str, Any]:
    """Drift of each data set against what was accepted: in the last retrain's branch if there is one, else here."""
    git, facts = Git(root), {}
    for key in datasets:
        name = f"reports/datasets/{key}/{DRIFT}"
        text = git.text(f"{PREFIX}{last['key']}", name) if last else None
        if text is None and (root / name).is_file():
            text = (root / name).read_text()
        if text is None:
            facts[key] = "not measured"
            continue
        facts[key] = in_words(text)
    return facts


def _disk(state: Path, options: Retraining) -> dict[str, Any]:
    free = shutil.disk_usage(state).free / 2**30
    folder = home(state)
    trees = [path for path in (folder / "worktrees").glob("*") if path.is_dir()]
    journals = list(folder.glob(f"*/{JOURNAL}"))
    return {
        "free_gib": round(free, 1),
        "enough": free >= options.free_gib,
        "worktrees": len(trees),
        "journals": len(journals),
    }


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """The screen."""
    yield f"{found['project']} at {found['at']}"
    yield from _model_lines(found["models"])
    yield ""
    yield from _retrain_lines(found["retrain"])
    schedule, data, disk = found["schedule"], found["data"], found["disk"]
    paused = "; PAUSED after failures: genfoundry retrain --resume" if schedule.get("paused") else ""
    when = schedule.get("next", schedule.get("fault"))
    yield f"next slot   {when} ({schedule['cron']}, {schedule['timezone']}){paused}"
    yield f"data        {_data_words(data)}"
    for key, words in found["drift"].items():
        yield f"drift       {key}: {words}"
    low = "" if disk["enough"] else "; LESS than retraining.free_gib"
    yield f"disk        {disk['free_gib']} GiB free{low}; {disk['worktrees']} worktrees, {disk['journals']} journals"


def _model_lines(models: Mapping[str, Any]) -> Iterator[str]:
    if "fault" in models:
        yield f"registry    {models['fault']}"
        return
    for model, facts in models.items():
        if facts["champion"] is None:
            yield f"  {model:24} no champion"
            continue
        scores = ", ".join(f"{name.rsplit('.', 1)[0]} {value:.4g}" for name, value in facts["scores"].items())
        back = f"; previous: version {facts['previous']}" if facts["previous"] else ""
        yield f"  {model:24} champion: version {facts['champion']}, for {_span(facts['champion_for_h'])}{back}"
        if scores:
            yield f"  {'':24} {scores}"


def _retrain_lines(retrain: Mapping[str, Any]) -> Iterator[str]:
    running, last, decided = retrain["running"], retrain["last"], retrain["last_decision"]
    if running:
        step = f"; at {running['step']} of {running['key']}" if running.get("key") else ""
        yield f"running     {running['who']}{step}"
    for title, event in (("last", last), ("decision", decided if decided != last else None)):
        if event:
            yield f"{title:11} {event['at']} {event['outcome']}: {event.get('message') or event.get('holder') or ''}"
    if not last:
        yield "last        never retrained"
    if retrain["failures_in_a_row"]:
        yield f"failures    {retrain['failures_in_a_row']} in a row"


def _data_words(data: Mapping[str, Any]) -> str:
    if "fault" in data:
        return str(data["fault"])
    since = data["since_retrain"]
    words = f"data.dvc {data['pointer']['files']} files, {(data['pointer']['bytes'] or 0) / 2**20:.1f} MiB"
    if since is None:
        words += "; never retrained on"
    elif since["changed"]:
        words += f"; changed since the last retrain: {since['files']:+d} files, {since['bytes']:+,d} bytes"
    else:
        words += "; the same as in the last retrain"
    return f"{words}; data/ {data['workspace']}"


def _span(hours: float) -> str:
    return f"{hours / 24:.1f} days" if hours >= 48 else f"{hours:.1f} h"
