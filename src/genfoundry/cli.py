"""The `genfoundry` command. Heavy packages are imported by the commands that need them."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from genfoundry.errors import Exit, GenfoundryError
from genfoundry.gate.commands import add_arguments as add_compare_arguments
from genfoundry.paths import state_root, workspace

if TYPE_CHECKING:
    from genfoundry.settings import Settings
    from genfoundry.tracking.record import Recorded
    from genfoundry.tracking.store import Store


def _bootstrap(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.bootstrap import bootstrap

    print(bootstrap(root))
    return Exit.OK


def _check(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.checking import check

    faults, notes = check(root)
    for line in notes:
        print(f"note: {line}")
    for line in faults:
        print(f"fault: {line}", file=sys.stderr)
    print(f"{len(faults)} faults" if faults else "params.yaml, dvc.yaml, data and environment are in order")
    return Exit.USAGE if faults else Exit.OK


def _accept(options: argparse.Namespace, root: Path) -> int:
    from genfoundry import settings
    from genfoundry.data import drift
    from genfoundry.data.pinned import pin
    from genfoundry.data.validation import facts
    from genfoundry.errors import ConfigError
    from genfoundry.parts import nearest
    from genfoundry.paths import DatasetPaths

    tree = settings.load(root)
    known = list(tree.datasets)
    for key in options.datasets or known:
        if key not in known:
            raise ConfigError(f"params.yaml: no dataset {key!r}{nearest(key, known)}")
        paths = DatasetPaths(root, key)
        print(f"{drift.accept(facts(paths.records), paths).relative_to(root)}: commit it with the data it describes")
        if options.tokenizer:
            file = pin(paths, settings.dataset_section(tree, key, "encode")).relative_to(root)
            print(f"{file}: commit it; encode takes this tokenizer until the file is removed")
    return Exit.OK


def _reconciled(root: Path) -> tuple["Settings", "Store", "Recorded"]:
    """Settings and the open store, after MLflow was made to agree with the files."""
    from genfoundry import settings
    from genfoundry.stage import typed_params
    from genfoundry.tracking.record import record
    from genfoundry.tracking.store import open_store

    tree = settings.load(root)
    store = open_store(state_root(root), tree.project)
    return tree, store, record(store, root, tree, lambda node: typed_params(node, tree))


def _record(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.summary import summary

    tree, _, told = _reconciled(root)
    print("\n".join(summary(root, tree, told)))
    return Exit.OK


def _trace(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.tracking.trace import trace

    _, store, _ = _reconciled(root)
    print("\n".join(trace(root, store, options.what, options.forward)))
    return Exit.OK


def _ui(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.tracking.views import VIEWS, view_address

    _, store, _ = _reconciled(root)
    # Without the job runner: two processes instead of eleven (tried).
    os.environ["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    base = f"http://{options.host}:{options.port}"
    print(f"MLflow on {base}; Ctrl-C stops it. Choose 'Model training' on top, once; then open", flush=True)
    for name in VIEWS:
        print(f"  {name:9} {view_address(store, base, name)}", flush=True)
    artifacts = (state_root(root) / "mlruns/artifacts").as_uri()
    command = ["-m", "mlflow", "server", "--backend-store-uri", store.uri, "--default-artifact-root", artifacts]
    os.execv(
        sys.executable,
        [sys.executable, *command, "--host", options.host, "--port", str(options.port), "--workers", "1"],
    )


def _compare(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.gate.commands import run_compare

    _reconciled(root)
    return run_compare(options, root)


def _review(options: argparse.Namespace, root: Path) -> int:
    from genfoundry.review import commands

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
    with commands.serve(folder, options.host, options.port) as server:
        print(f"{server.address}\nanswers go to {shown}/answers.jsonl; Ctrl-C stops it, then", flush=True)
        print(f"genfoundry review --results {shown}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return Exit.OK


def _review_results(root: Path, folder: Path, files: list[Path]) -> int:
    from genfoundry.review import commands
    from genfoundry.review.report import summary
    from genfoundry.tracking.reviews import log_review

    results, reports = commands.collect(root, folder, files)
    print("\n".join(summary(results)))
    _, store, _ = _reconciled(root)
    print(f"{os.path.relpath(reports)}/index.html; MLflow run {log_review(store, root, results, reports)}")
    return Exit.OK


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
    compare = add("compare", _compare, "judge a challenger against a champion on records held out for both")
    add_compare_arguments(compare)
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
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options, workspace()))
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
