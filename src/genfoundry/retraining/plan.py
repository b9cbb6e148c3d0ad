"""`genfoundry retrain --dry-run`: what a retrain would do now, and why; it touches nothing."""

from collections.abc import Iterator
from pathlib import Path

from genfoundry.core.clock import Clock
from genfoundry.core.errors import Exit
from genfoundry.retraining.engine import DECIDED
from genfoundry.retraining.line.foresight import Contents, foreseen
from genfoundry.retraining.line.real import RealLine
from genfoundry.retraining.protocol import BUILD, KEEP, PREPARE, Request, Snapshot
from genfoundry.state.journal import Journal, home, lock_file
from genfoundry.state.locks import describe, holder
from genfoundry.state.secrets import redact


def plan(
    line: RealLine, state: Path, clock: Clock, request: Request, contents: Contents | None = None
) -> tuple[list[str], Exit]:
    """Lines for a person; OK if a retrain would run, NO_OP if not, BUSY if another one runs, else why it would fail.

    Args:
        line: The line, dry.
        state: The state root.
        clock: Time.
        request: How it was asked for.
        contents: Checks settings and data of a project; without it nothing is foreseen.
    """
    lines: list[str] = []
    code = Exit.OK
    running = holder(lock_file(state))
    if running is not None:
        lines.append(
            f"busy: {describe(running, clock.now())}; " + ("it would wait" if request.wait else "it would skip")
        )
        code = Exit.OK if request.wait else Exit.BUSY
    snapshot = line.snapshot()
    journal = Journal(home(state) / snapshot.key)
    lines += [redact(text) for text in _inputs(line, snapshot)]
    prior = journal.outcome()
    if line.options.update:
        lines.append(f"update  {' '.join(line.options.update)} would run first; what it brings makes another key")
    elif prior and prior.get("outcome") in DECIDED and prior.get("decisions"):
        lines.append(f"no-op   these inputs were retrained at {prior['at']}: {prior['outcome']} ({journal.folder})")
        return lines, Exit.NO_OP if code == Exit.OK else code
    if request.scheduled:
        asked = line.ask(snapshot, request, None)
        lines += [f"trigger {reason.trigger} fired: {reason.why}" for reason in asked.fired]
        lines += [f"trigger not fired: {why}" for why in asked.quiet]
        if asked.waiting and not asked.fired:
            lines.append("trigger others are asked once the data are in the worktree and hold their contracts")
        elif not asked.fired:
            lines.append("no-op   no trigger fired")
            return lines, Exit.NO_OP if code == Exit.OK else code
    else:
        lines.append(f"reason  {request.reason or 'asked for by a person'}")
    lines += _steps(line, snapshot, journal)
    refused = list(foreseen(line, snapshot, contents)) if contents else []
    for step, error in refused:
        lines += [f"refused at {step}: {redact(one)}" for one in str(error).splitlines()]
    if refused:
        lines.append(f"exit    {int(refused[0][1].exit_code)}, as it stands")
    return lines, Exit(refused[0][1].exit_code) if refused and code == Exit.OK else code


def _inputs(line: RealLine, snapshot: Snapshot) -> Iterator[str]:
    yield f"commit  {snapshot.commit[:12]} ({snapshot.facts['branch']})"
    if snapshot.facts["dirty"]:
        yield "        uncommitted changes of the checkout take no part"
    where = "data/ as it lies there" if snapshot.facts.get("workspace") else "as committed"
    for name, digest in snapshot.data.items():
        yield f"data    {name} {digest} ({where})"
    yield f"models  {', '.join(snapshot.models)}"
    yield f"key     {snapshot.key}"


def _steps(line: RealLine, snapshot: Snapshot, journal: Journal) -> Iterator[str]:
    promotions = [f"promote {model}" for model in snapshot.models]
    done = [name for name in (*PREPARE, *BUILD, *KEEP) if journal.ended(name)]
    done += [name for name in promotions if journal.ended(name.replace(" ", "@"))]
    if done:
        yield f"goes on after attempt {journal.attempts}, which did: {', '.join(done)}"
    yield f"steps   {', '.join(name for name in (*PREPARE, *BUILD, *promotions, *KEEP) if name not in done)}"
    where = f"branch retrain/{snapshot.key}"
    yield f"result  {where}" + (f", pushed to {line.options.push}" if line.options.push else "")
