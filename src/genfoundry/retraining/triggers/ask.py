"""Triggers of a scheduled retrain: slot, new data, drift, live metric; each has a cool-down and gives its reason.

Slots and live metrics are asked first. New data and drift need data that were updated, validated and deduplicated, so
they are asked again in the retrain's worktree, after its `dvc repro split@...` and before anything trains.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genfoundry.core.clock import Clock
from genfoundry.core.errors import GenfoundryError
from genfoundry.retraining.engine import EVENT
from genfoundry.retraining.options import LiveMetric, Retraining
from genfoundry.retraining.protocol import Asked, Reason, Request, Snapshot, Work
from genfoundry.retraining.schedule.cron import slots_of
from genfoundry.state.events import read_events

if TYPE_CHECKING:
    from genfoundry.core.paths import DatasetPaths

LIMIT_BYTES = 1 << 20
"""Longest file of a live metric that is read."""

SEED = 20260105
"""Of null runs: the same data get the same answer."""


class Here(Protocol):
    """What the triggers need of a line (``line.RealLine``)."""

    root: Path
    state: Path
    options: Retraining
    clock: Clock

    def datasets(self, work: Work) -> "list[DatasetPaths]":
        """Paths, in the worktree, of the datasets of the models to retrain."""

    def encode(self, work: Work, dataset: str) -> None:
        """Run the line of that dataset to its arrays."""


def ask(line: Here, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
    """Which triggers fire (see ``protocol.Line.ask``)."""
    triggers = line.options.triggers
    quiet: list[str] = []
    if work is not None:
        return Asked(tuple(_data_reasons(line, work, quiet)), tuple(quiet))
    fired = [*_slot(line, request, quiet), *_metrics(line, quiet)]
    waiting = False
    for name, on, hours in (
        ("new_data", triggers.new_data.records > 0, triggers.new_data.cooldown_h),
        ("drift", triggers.drift.on, triggers.drift.cooldown_h),
    ):
        if not on:
            quiet.append(f"{name}: off")
        elif cooling := _cooling(line, name, hours):
            quiet.append(f"{name}: {cooling}")
        else:
            waiting = True
    return Asked(tuple(fired), tuple(quiet), waiting and not fired)


def _cooling(line: Here, trigger: str, hours: float) -> str:
    """Why a trigger may not fire yet; empty if it may. Counted from the last retrain that it started."""
    if not hours:
        return ""
    last = None
    for event in read_events(line.state, EVENT, holding=trigger):
        if event.get("outcome") != "no_op" and any(one.get("trigger") == trigger for one in event.get("reasons") or ()):
            last = event["at"]
    if last is None:
        return ""
    passed = (line.clock.now() - datetime.fromisoformat(last)).total_seconds() / 3600
    return f"cools down: it started a retrain {passed:.1f} h ago, of {hours:g} h" if 0 <= passed < hours else ""


def _slot(line: Here, request: Request, quiet: list[str]) -> Iterator[Reason]:
    triggers, schedule = line.options.triggers, line.options.schedule
    if not triggers.slot:
        quiet.append("slot: off")
    elif cooling := _cooling(line, "slot", triggers.slot_cooldown_h):
        quiet.append(f"slot: {cooling}")
    else:
        slots = slots_of(schedule)
        facts = {"slot": request.slot} if request.slot else {}
        which = f"slot {request.slot}" if request.slot else "a scheduler asked"
        yield Reason("slot", f"{which} ({slots.cron} in {slots.timezone})", facts)


def _metrics(line: Here, quiet: list[str]) -> Iterator[Reason]:
    for key, metric in line.options.triggers.metrics.items():
        name = f"metrics.{key}"
        if cooling := _cooling(line, name, metric.cooldown_h):
            quiet.append(f"{name}: {cooling}")
            continue
        try:
            value = live_value(line, metric)
        except (GenfoundryError, OSError, ValueError) as error:
            quiet.append(f"{name}: could not be read: {error}")
            continue
        low = metric.below is not None
        limit = metric.below if low else metric.above
        assert limit is not None
        if (value < limit) if low else (value > limit):
            words = f"{key} is {value:g}, {'below' if low else 'above'} {limit:g}"
            yield Reason(name, words, {"value": value, "limit": limit})
        else:
            quiet.append(f"{name}: {value:g} is not {'below' if low else 'above'} {limit:g}")


def live_value(line: Here, metric: LiveMetric) -> float:
    """Read the value of a live metric.

    Raises:
        GenfoundryError: A host that is not allowed, or no answer.
        OSError: The file can't be read.
        ValueError: Not below the project, too long, or no number where ``field`` says.
    """
    if metric.source.startswith(("http://", "https://")):
        from genfoundry.retraining.notify.web import fetch

        data = fetch(metric.source, line.options.allow)
    else:
        path = (line.root / metric.source).resolve()
        if not path.is_relative_to(line.root.resolve()):
            raise ValueError(f"{metric.source}: not below the project")
        with path.open("rb") as file:
            data = file.read(LIMIT_BYTES + 1)
        if len(data) > LIMIT_BYTES:
            raise ValueError(f"{metric.source}: more than {LIMIT_BYTES} bytes")
    found: Any = json.loads(data)
    for part in metric.field.split(".") if metric.field else ():
        if not isinstance(found, dict) or part not in found:
            raise ValueError(f"no field {metric.field!r}")
        found = found[part]
    if isinstance(found, bool) or not isinstance(found, int | float) or not np.isfinite(found):
        raise ValueError(f"{metric.field or 'it'} is {str(found)[:40]!r}, no number")
    return float(found)


def _data_reasons(line: Here, work: Work, quiet: list[str]) -> Iterator[Reason]:
    """New data and drift, dataset by dataset; each fires at most once."""
    triggers = line.options.triggers
    asked = {
        "new_data": triggers.new_data.records > 0 and not _cooling(line, "new_data", triggers.new_data.cooldown_h),
        "drift": triggers.drift.on and not _cooling(line, "drift", triggers.drift.cooldown_h),
    }
    for paths in line.datasets(work):
        if asked["new_data"] and (reason := _new_data(line, paths, quiet)):
            asked["new_data"] = False
            yield reason
        if asked["drift"] and (reason := _drift(line, work, paths, quiet)):
            asked["drift"] = False
            yield reason


def _new_data(line: Here, paths: "DatasetPaths", quiet: list[str]) -> Reason | None:
    from genfoundry.retraining.triggers.learnt import known, present

    least, before = line.options.triggers.new_data.records, known(line.state, paths.key)
    hashes = present(paths)["hash"].to_numpy(np.uint64)
    if before is None:
        words = f"{paths.key}: {len(hashes)} records, and nothing was learnt before"
        return Reason("new_data", words, {"dataset": paths.key, "new": len(hashes)})
    new = int((~np.isin(hashes, before)).sum())
    gone = int((~np.isin(before, hashes)).sum())
    words = f"{paths.key}: {new} new records without copies and faults since the last retrain, {gone} gone"
    if new >= least:
        return Reason("new_data", f"{words}; {least} are enough", {"dataset": paths.key, "new": new, "gone": gone})
    quiet.append(f"new_data: {words}; {least} would be enough")
    return None


def _drift(line: Here, work: Work, paths: "DatasetPaths", quiet: list[str]) -> Reason | None:
    """Learnt records against those that came since."""
    from genfoundry.core.io import read_table
    from genfoundry.retraining.triggers import learnt, shift

    options, before = line.options.triggers.drift, learnt.known(line.state, paths.key)
    if before is None:
        quiet.append(f"drift: {paths.key}: nothing was learnt before")
        return None
    records = learnt.present(paths)
    new = records[~np.isin(records["hash"].to_numpy(np.uint64), before)]
    if not shift.sizes(len(before), len(new)):
        quiet.append(
            f"drift: {paths.key}: {len(before)} learnt records, {len(new)} new; {shift.LEAST} new ones are needed"
        )
        return None
    kept, sample = learnt.folder_of(line.state, paths.key), new.head(learnt.SAMPLE)
    generator = np.random.Generator(np.random.PCG64(SEED))
    # Both tests share the false alarms that are allowed.
    alpha = options.alpha / 2 if options.features else options.alpha
    floors = {"psi": options.psi, "ks": options.ks}
    fields = learnt.fields(paths, sample["id"])
    found = shift.fields_shift(read_table(kept / "fields.parquet"), fields, alpha, floors, generator)
    if options.features:
        features, what = _features(line, work, paths, sample, kept)
        if features is None:
            quiet.append(f"drift: {paths.key}: {what}")
        else:
            old = np.load(kept / "features.npy", allow_pickle=False)
            found += shift.distance_shift(old, features, alpha, options.distance, generator, what)
    counting = [one for one in found if one.counts]
    if not counting:
        largest = min(found, key=lambda one: one.p).words() if found else "nothing to compare"
        quiet.append(f"drift: {paths.key}: {len(new)} new records are like those learnt; least likely: {largest}")
        return None
    facts = {one.name: {"effect": round(one.value, 4), "p": float(f"{one.p:.3g}")} for one in counting[:10]}
    words = ", ".join(one.words() for one in counting[:3])
    return Reason("drift", f"{paths.key}: {len(new)} new records differ from those learnt: {words}", facts)


def _features(line: Here, work: Work, paths: "DatasetPaths", sample: Any, kept: Path) -> tuple[np.ndarray | None, str]:
    """(features of new records by the network that the learnt ones were seen with, or None; what they are, or why)."""
    from genfoundry.retraining.triggers import learnt

    if not (kept / "features.npy").is_file():
        return None, "no features of the learnt records were kept"
    first = sample.head(learnt.ROWS)
    if learnt.is_text(paths):
        return learnt.profiles(paths, first["id"]), "n-gram profiles"
    line.encode(work, paths.key)
    if not learnt.fits(kept, paths):
        return None, "pictures have another shape than those learnt"
    rows = learnt.levels(paths, first["hash"].to_numpy(np.uint64))
    return learnt.embedded(kept, rows), "reference features"
