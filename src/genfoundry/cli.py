"""The `genfoundry` command. Heavy packages are imported by the commands that need them."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from genfoundry.commands.compare import add_arguments as add_compare_arguments
from genfoundry.commands.promote import add_promote_arguments, add_rollback_arguments
from genfoundry.commands.retrain import add_retrain_arguments, add_status_arguments
from genfoundry.commands.schedule import add_arguments as add_schedule_arguments
from genfoundry.commands.upkeep import add_commands as add_upkeep_commands
from genfoundry.config.sections.encode import Encode
from genfoundry.core import pin
from genfoundry.core.errors import Exit, GenfoundryError
from genfoundry.core.paths import state_root, workspace


def _bootstrap(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.data.embedded.bootstrap import bootstrap

    print(bootstrap(root))
    return Exit.OK


def _check(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.check import check

    faults, notes = check(root)
    for line in notes:
        print(f"note: {line}")
    for line in faults:
        print(f"fault: {line}", file=sys.stderr)
    count = f"{len(faults)} fault{'s' if faults[1:] else ''}"
    print(count if faults else "params.yaml, dvc.yaml, data and environment are in order")
    return Exit.USAGE if faults else Exit.OK


def _accept(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.config import params as settings
    from genfoundry.core.errors import ConfigError
    from genfoundry.core.parts import nearest
    from genfoundry.core.paths import DatasetPaths
    from genfoundry.data.encode.pinned import pin
    from genfoundry.data.validate import drift
    from genfoundry.data.validate.validation import facts

    tree = settings.load(root)
    known = list(tree.datasets)
    for key in options.datasets or known:
        if key not in known:
            raise ConfigError(f"params.yaml: no dataset {key!r}{nearest(key, known)}")
        paths = DatasetPaths(root, key)
        print(f"{drift.accept(facts(paths.records), paths).relative_to(root)}: commit it with the data it describes")
        if options.tokenizer:
            file = pin(paths, settings.dataset_section(tree, key, Encode)).relative_to(root)
            print(f"{file}: commit it; encode takes this tokenizer until the file is removed")
    return Exit.OK


def _record(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.changed import changed_line
    from genfoundry.commands.summary import summary
    from genfoundry.promotion.reconcile import reconcile

    done = reconcile(root)
    print("\n".join(summary(root, done.tree, done.recorded)))
    print(changed_line(root))
    return Exit.OK


def _trace(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.promotion.reconcile import reconcile
    from genfoundry.tracking.trace import trace

    print("\n".join(trace(root, reconcile(root).store, options.what, options.forward)))
    return Exit.OK


def _ui(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.promotion.reconcile import reconcile
    from genfoundry.tracking.store import shown
    from genfoundry.tracking.views import VIEWS, view_address

    store = reconcile(root).store
    server = store.uri.startswith("http")
    base = shown(store.uri).rstrip("/") if server else f"http://{options.host}:{options.port}"
    how = "runs there already" if server else "Ctrl-C stops it"
    print(f"MLflow on {base}; {how}. Choose 'Model training' on top, once; then open", flush=True)
    for name in VIEWS:
        print(f"  {name:9} {view_address(store, base, name)}", flush=True)
    if not server:
        _become_ui(options, root, store.uri)
    return Exit.OK


def _become_ui(options: argparse.Namespace, root: Path, uri: str) -> NoReturn:
    # Without the job runner: two processes instead of eleven (tried).
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    artifacts = (state_root(root) / "mlruns/artifacts").as_uri()
    command = ["-m", "mlflow", "server", "--backend-store-uri", uri, "--default-artifact-root", artifacts]
    os.execv(
        sys.executable,
        [sys.executable, *command, "--host", options.host, "--port", str(options.port), "--workers", "1"],
    )


def _run(options: argparse.Namespace, root: Path) -> NoReturn:
    from genfoundry.core.errors import ConfigError

    try:
        os.execvp(options.command_line[0], options.command_line)
    except FileNotFoundError:
        raise ConfigError(f"no such command: {options.command_line[0]!r}; is the environment active?") from None


def _compare(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.compare import run_compare
    from genfoundry.promotion.reconcile import reconcile

    reconcile(root)
    return run_compare(options, root)


def _schedule(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands import schedule

    return schedule.run(options, root)


def _promote(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.promote import run_promote

    return run_promote(options, root)


def _rollback(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.promote import run_rollback

    return run_rollback(options, root)


def _review(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands import review as commands

    if options.results:
        return _review_results(root, options.results, [Path(name) for name in options.names])
    folder = Path(options.names[0]) if len(options.names) == 1 else None
    if folder is None or not folder.is_dir():
        out = Path(options.out) if options.out else None
        folder = commands.write(root, options.names, options.pairs, options.seed, out, options.question)
    shown = os.path.relpath(folder)
    if not options.serve:
        print(f"{shown}/review.html is for raters: send it, or open it; plan.json beside it says what is what, keep it")
        print(f"then: genfoundry review --results {shown} <files that raters sent>")
        return Exit.OK
    server = commands.serve(folder, options.host, options.port)
    print(f"{server.address}\nanswers go to {shown}/answers.jsonl; Ctrl-C stops it, then", flush=True)
    print(f"genfoundry review --results {shown}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return Exit.OK


def _review_results(root: Path, folder: Path, files: list[Path]) -> int:
    from genfoundry.commands import review as commands
    from genfoundry.promotion.reconcile import reconcile
    from genfoundry.review.report import summary
    from genfoundry.tracking.reviews import log_review

    results, reports = commands.collect(root, folder, files)
    print("\n".join(summary(results)))
    store = reconcile(root).store
    print(f"{os.path.relpath(reports)}/index.html; MLflow run {log_review(store, root, results, reports)}")
    return Exit.OK


def _retrain(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.retrain import run_retrain

    return run_retrain(options, root)


def _status(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.commands.retrain import run_status

    return run_status(options, root)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="genfoundry", description="From raw data to a champion.", epilog="Exit codes: docs/exit-codes.md"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    def add(name: str, run: Callable[[argparse.Namespace, Path], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add("bootstrap", _bootstrap, "bring data/ to what data.dvc says, or tell what differs")
    add("check", _check, "validate params.yaml, dvc.yaml, data and environment; all faults at once")
    accept = add("accept", _accept, "make the records at hand the measure of drift: writes presets/profiles/")
    accept.add_argument("datasets", nargs="*", help="keys of params.yaml (all)")
    accept.add_argument(
        "--tokenizer", action="store_true", help="keep the tokenizer of their arrays too: writes presets/tokenizers/"
    )
    add("record", _record, "make MLflow agree with the files: runs, models, scores, registered versions")
    trace = add("trace", _trace, "from a sample, file, run, version or digest back to the raw data")
    trace.add_argument(
        "what", help="path, sample id, record id, run id, version (name/1, name@champion), sha256 or md5"
    )
    trace.add_argument("--forward", action="store_true", help="show all that was made from it instead")
    ui = add("ui", _ui, "open the MLflow UI on this project's store")
    ui.add_argument("--host", default="127.0.0.1")
    ui.add_argument("--port", type=int, default=5000)
    run = add("run", _run, "start a command that computes as the stages do, under numerics of params.yaml")
    run.add_argument("command_line", nargs="+", metavar="command", help="with its options; behind -- where they begin")
    compare = add("compare", _compare, "judge a challenger against a champion on records held out for both")
    add_compare_arguments(compare)
    add_promote_arguments(add("promote", _promote, "judge a model against the champion; it takes its place if blessed"))
    add_rollback_arguments(add("rollback", _rollback, "make the champion before this one champion again"))
    review = add("review", _review, "blind comparison of models' samples by people: page, server, ranking")
    review.add_argument(
        "names", nargs="*", help="two or more models; or the folder of a review; with --results, files of answers"
    )
    review.add_argument("--pairs", type=int, default=60, help="different pairs to show (60)")
    review.add_argument("--seed", type=int, default=0, help="of pairs, sides and order (0)")
    review.add_argument("--question", default="", help="what raters are asked, instead of which sample is better")
    review.add_argument("--out", help="folder of the review (artifacts/reviews/<digest>)")
    review.add_argument("--serve", action="store_true", help="serve the page and collect answers as they come")
    review.add_argument("--host", default="127.0.0.1")
    review.add_argument("--port", type=int, default=0, help="0: any free one")
    review.add_argument("--results", type=Path, metavar="FOLDER", help="rank from the answers to the review there")
    schedule = add(
        "schedule", _schedule, "show the next slots of retraining; write files for systemd, cron, GitHub, Kubernetes"
    )
    add_schedule_arguments(schedule)
    retrain = add("retrain", _retrain, "train anew on new data in a copy of the project, and promote what is better")
    add_retrain_arguments(retrain)
    status = add("status", _status, "champions, last retrain, next slot, data, drift, disk and locks on one screen")
    add_status_arguments(status)
    add_upkeep_commands(add)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        root = workspace()
        # Set the numerics as the stages do; this must come before numpy is imported.
        pin.start(root)
        code = int(options.run(options, root))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader closed the pipe, as `| head` does: stop writing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except GenfoundryError as error:
        print(f"genfoundry {options.command}: {error}", file=sys.stderr)
        return int(error.exit_code)
    except ModuleNotFoundError as error:
        print(
            f"genfoundry {options.command}: package {error.name!r} is not installed; run `make install`",
            file=sys.stderr,
        )
        return int(Exit.USAGE)


if __name__ == "__main__":
    sys.exit(main())
