"""`genfoundry clean | backup | restore | reproduce | verify`."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from genfoundry.core.errors import Exit
from genfoundry.core.paths import state_root

Add = Callable[[str, Callable[[argparse.Namespace, Path], int], str], argparse.ArgumentParser]


def add_commands(add: Add) -> None:
    """Register the commands with the parser of `genfoundry`."""
    clean = add("clean", _clean, "delete what retraining.keep does not keep; champions and their sources stay")
    clean.add_argument("--dry-run", action="store_true", help="say what would go, delete nothing")
    backup = add("backup", _backup, "copy runs, registry, events, git and the DVC objects they need into a folder")
    backup.add_argument("target", type=Path, help="folder of backups: another disk, or a mounted share")
    backup.add_argument("--whole-cache", action="store_true", help="all objects of DVC's cache, also those unneeded")
    backup.add_argument(
        "--keep", type=int, default=0, metavar="N", help="forget all but the newest N backups (0: none)"
    )
    backup.add_argument("--wait", action="store_true", help="wait for a running retrain to end")
    restore = add("restore", _restore, "bring a backup into a fresh clone, at any path, and prove every byte")
    restore.add_argument("source", type=Path, help="folder of backups")
    restore.add_argument("--at", default="", metavar="NAME", help="which backup (the newest)")
    verify = add("verify", _verify, "hash DVC's cache, registered models and backups again; name what rotted")
    verify.add_argument("backups", nargs="*", type=Path, help="folders of backups to look at too")
    verify.add_argument("--remove", action="store_true", help="delete damaged objects of DVC's cache: DVC trusts them")
    copy = add("copy-store", _copy_store, "copy runs, models, versions and aliases from one MLflow store to another")
    copy.add_argument("source", help="'embedded' (mlruns/ of the state root), or the address of a server or database")
    copy.add_argument("target", help="the same; an empty store, or one that an earlier copy began")
    reproduce = add("reproduce", _reproduce, "rebuild a registered model in a worktree and compare bytes")
    reproduce.add_argument("what", help="digits-vae/3 or digits-vae@champion")
    reproduce.add_argument("--from-arrays", action="store_true", help="only train again; data as DVC's cache has them")
    reproduce.add_argument("--keep", action="store_true", help="leave the worktree for a look")
    reproduce.add_argument("--quiet", action="store_true", help="leave the output of the stages to reproduce.log")


def _clean(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config.params import load, parse
    from genfoundry.core.clock import SystemClock
    from genfoundry.retraining.options import Retraining
    from genfoundry.state.journal import lock_file
    from genfoundry.state.locks import held
    from genfoundry.upkeep.sweep import in_words, upkeep

    state, clock = state_root(root), SystemClock()
    keep = parse(Retraining, load(root).retraining, "retraining").keep
    with held(lock_file(state), "clean", clock=clock):
        done = upkeep(root, state, keep, clock, options.dry_run)
    for removal in done.removed:
        print(removal.line())
    for note in done.notes:
        print(f"note: {note}")
    verb = "would go" if options.dry_run else "went"
    print(f"{len(done.removed)} things {verb}, {in_words(done.bytes)}")
    return Exit.OK


def _backup(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config.params import load
    from genfoundry.core.clock import SystemClock
    from genfoundry.state.journal import lock_file
    from genfoundry.state.locks import held
    from genfoundry.upkeep.backup.take import backup
    from genfoundry.upkeep.sweep import in_words

    state, clock = state_root(root), SystemClock()
    wait_s = math.inf if options.wait else 0.0
    with held(lock_file(state), "backup", wait_s, clock, "wait for it (--wait)"):
        done = backup(root, state, load(root).project, options.target, clock, options.whole_cache, options.keep)
    for note in done.notes:
        print(f"note: {note}")
    print(f"{done.snapshot.stem}: {done.files} files, {in_words(done.bytes)}; {done.new} were new in {options.target}")
    return Exit.OK


def _restore(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config.params import load
    from genfoundry.core.clock import SystemClock
    from genfoundry.state.journal import lock_file
    from genfoundry.state.locks import held
    from genfoundry.upkeep.backup.restore import restore
    from genfoundry.upkeep.sweep import in_words

    state, clock = state_root(root), SystemClock()
    with held(lock_file(state), "restore", clock=clock):
        done = restore(root, state, load(root).project, options.source, clock, options.at)
    for note in done.notes:
        print(f"note: {note}")
    print(f"{done.snapshot}: {done.files} files, {in_words(done.bytes)}, each as the backup's list says")
    for name, digest in done.models.items():
        print(f"  {name:30} {digest}")
    print("now: dvc checkout, then genfoundry record; genfoundry status shows the champions")
    return Exit.OK


def _reproduce(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.retrain import stoppable
    from genfoundry.config.params import load
    from genfoundry.core.clock import SystemClock
    from genfoundry.core.errors import ConfigError
    from genfoundry.gate.subjects import REGISTERED
    from genfoundry.tracking.store import open_store
    from genfoundry.upkeep.backup.reproduce import reproduce

    match = REGISTERED.match(options.what)
    if not match:
        raise ConfigError(f"{options.what!r}: no registered version; write it as digits-vae/3 or digits-vae@champion")
    state = state_root(root)
    store = open_store(state, load(root).project)
    wanted = match["version"] or match["alias"]
    with stoppable():
        found = reproduce(
            root,
            state,
            store,
            match["name"],
            wanted,
            SystemClock(),
            options.from_arrays,
            options.keep,
            not options.quiet,
        )
    print(f"{found.name}/{found.version}, rebuilt at commit {found.commit[:12]}")
    for note in found.notes:
        print(f"note: {note}")
    if found.equal:
        print(f"equal, byte for byte: {found.registered}")
        return Exit.OK
    print(f"different: registered {found.registered}\n           rebuilt    {found.rebuilt}")
    print(f"files that differ: {', '.join(found.files)}")
    print(f"stages that differ, first to last: {', '.join(found.stages) or 'none but the training itself'}")
    return Exit.DIFFERENT


def _verify(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config.params import load
    from genfoundry.upkeep.backup.verify import verify

    done = verify(root, state_root(root), load(root).project, options.backups, options.remove)
    for fault in done.faults:
        print(fault)
    print(f"{done.objects} objects of DVC's cache, {done.models} registered models: {len(done.faults)} faults")
    return Exit.BAD_DATA if done.faults else Exit.OK


def _copy_store(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config.params import load
    from genfoundry.core.clock import SystemClock
    from genfoundry.core.errors import ConfigError
    from genfoundry.state.events import append_event
    from genfoundry.state.journal import lock_file
    from genfoundry.state.locks import held
    from genfoundry.tracking.store import open_store, shown
    from genfoundry.tracking.transfer import Transfer

    state, project, clock = state_root(root), load(root).project, SystemClock()
    with held(lock_file(state), "copy-store", clock=clock):
        source, target = (open_store(state, project, uri) for uri in (options.source, options.target))
        if source.uri == target.uri:
            raise ConfigError(f"copy-store: {shown(source.uri)} is both source and target")
        done = Transfer(source, target).copy()
        facts = {"runs": done.runs, "models": done.models, "versions": done.versions}
        append_event(state, "copied_store", clock.now(), source=shown(source.uri), target=shown(target.uri), **facts)
    for run_id in done.skipped:
        print(f"note: run {run_id} is still open; copy again when it ended")
    print(f"{done.runs} runs, {done.models} models, {done.versions} versions copied")
    return Exit.OK
