"""Run one stage: pass the sections that ``main`` names, check its outputs, write lineage and log its run.

The parameters of a stage's ``main`` are named after what they hold, so the signature says all it may read.
An exit code is no proof (design rule 3): the runner checks every declared output before it reports success.
"""

import inspect
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from genfoundry.config import params as settings
from genfoundry.config.code import check_imports, current
from genfoundry.config.dag import NUMERICS, UNLOGGED, Node, find, stage_inputs
from genfoundry.config.sections.execution import Execution
from genfoundry.config.sections.numerics import Numerics
from genfoundry.config.specs import Section
from genfoundry.core import parts, pin
from genfoundry.core.errors import ConfigError, DataError, Exit, GenfoundryError, InfrastructureError
from genfoundry.core.io import verify_folder, write_json
from genfoundry.core.paths import DatasetPaths, ModelPaths, state_root, workspace
from genfoundry.core.processes import callers, end_with
from genfoundry.core.ranks import rank_zero
from genfoundry.state.locks import held
from genfoundry.tracking import tags
from genfoundry.tracking.lineage import results, write_lineage
from genfoundry.tracking.runs import NoRun, Run, fail, finish, first_line, open_run, reap, start, tracking_errors
from genfoundry.tracking.store import open_store

Main = Callable[..., None]

FAILURE_FILE = "GENFOUNDRY_FAILURE"
"""Environment variable with a file for why a stage failed: DVC ends with 255 whatever a stage's own code is."""


class Stopped(BaseException):
    """SIGTERM or SIGINT outside training: unwinds, so that partial files go and the run is closed."""


def arguments(main: Main, node: Node, root: Path, tree: settings.Settings, run: Any) -> dict[str, Any]:
    """Values for the parameters of a stage's ``main``, by name.

    Raises:
        ConfigError: A section is wrong; all its faults are named.
    """
    offered = {"run": lambda: run, "root": lambda: root, **_offers(node, root, tree)}
    values = {}
    for name, parameter in inspect.signature(main).parameters.items():
        if name in offered:
            values[name] = offered[name]()
        elif name == "options":
            values[name] = settings.model_options(tree, node.key)
        elif inspect.isclass(parameter.annotation) and issubclass(parameter.annotation, Section):
            values[name] = _section(node, tree, parameter.annotation)
        else:
            raise AssertionError(f"pipelines/{node.stage}.py: nothing is known to fill parameter {name!r}")
    return values


def _section(node: Node, tree: settings.Settings, kind: type[Section]) -> Section:
    """By the class that ``main`` names, not by a table of all: so a stage reads what it imports."""
    if node.kind == "dataset":
        return settings.dataset_section(tree, node.key, kind)
    if node.kind == "model":
        return settings.model_section(tree, node.key, kind)
    group = {"base": "bases", "component": "components"}[node.kind]
    return settings.parse(kind, getattr(tree, group)[node.key], f"{group}.{node.key}")


def _offers(node: Node, root: Path, tree: settings.Settings) -> dict[str, Callable[[], Any]]:
    if node.kind == "dataset":
        block = tree.datasets[node.key]
        return {
            "paths": lambda: DatasetPaths(root, node.key),
            "modality": lambda: parts.load("modalities", block.modality),
            "source": lambda: root / block.source,
            "execution": lambda: settings.parse(Execution, tree.execution, "execution"),
        }
    if node.kind == "model":
        model = tree.models[node.key]
        return {
            "paths": lambda: ModelPaths(root, node.key),
            "dataset": lambda: DatasetPaths(root, model.dataset),
            "init": lambda: ModelPaths(root, model.init_from),
            "components": lambda: {
                role: ModelPaths(root, key) for role, key in settings.check_roles(tree, node.key).items()
            },
            "family": lambda: model.family,
            "execution": lambda: settings.parse(Execution, tree.execution, "execution"),
            "node": lambda: node,
        }
    if node.kind in ("base", "component"):
        return {"paths": lambda: ModelPaths(root, node.key)} if node.kind == "base" else {}
    return {"datasets": lambda: tree.datasets, "models": lambda: tree.models}


def typed_params(node: Node, tree: settings.Settings) -> dict[str, Any]:
    """The stage's sections with their defaults filled in, as MLflow parameters."""
    from genfoundry.config.sections.table import SECTIONS, section

    values: dict[str, Any] = {}
    for name in node.params:
        steps = name.split(".")
        if len(steps) != 3 or steps[0] not in ("datasets", "models"):
            continue
        group, key, field = steps
        block = getattr(tree, group).get(key)
        if field in SECTIONS:
            values[field] = section(tree, key, field).model_dump(mode="json")
        else:
            values[field] = getattr(block, field)
    if node.stage == "train":
        values["family"] = tree.models[node.key].family
    if NUMERICS in node.params:
        values[NUMERICS] = settings.parse(Numerics, tree.numerics, NUMERICS).model_dump(mode="json")
    return values


def _end_with_dvc() -> None:
    """Stop when DVC dies, else a killed `dvc repro` leaves its stage training (tried).

    A rank that writes nothing looks at its parent only, so that rank zero has it for a last checkpoint; and it gets
    SIGKILL: one that waits for a dead rank zero inside torch handles no other signal.
    """
    if rank_zero():
        end_with(callers(), signal.SIGTERM)
    else:
        end_with([], signal.SIGKILL)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped(signal.Signals(number).name)


def _check_outputs(root: Path, node: Node) -> None:
    missing = [out for out in results(node) if not (root / out).exists()]
    if missing:
        raise DataError(f"ended without writing {', '.join(missing)}; its result is not used")
    for out in results(node):
        if (root / out).is_dir():
            verify_folder(root / out)


def _explain(error: BaseException) -> GenfoundryError | None:
    """The error for a person, if this one has a known remedy."""
    if isinstance(error, GenfoundryError):
        return error
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    ):
        return InfrastructureError(
            f"out of memory ({str(error).splitlines()[0] if str(error) else 'no detail'}); "
            "in training raise training.accumulate (the same batch in smaller parts), set training.recompute to true, "
            "training.precision to bf16-mixed, or lower training.batch; elsewhere lower sampling.batch or "
            "evaluation.batch"
        )
    if isinstance(error, ModuleNotFoundError):
        return ConfigError(f"package {error.name!r} is not installed; run `make install`, then `make repro`")
    return None


def execute(main: Main, stage: str, key: str, root: Path, alone: bool = False) -> int:
    """Run a stage and return its exit code; messages go to stderr.

    Args:
        main: What the stage does.
        stage: Its name.
        key: What it works on.
        root: The workspace.
        alone: The process does nothing else, so that the modules it imports are the stage's.
    """
    run: Run | None = None
    address = f"{stage}@{key}" if key else stage
    started = time.monotonic()
    try:
        node, tree = find(root, address), settings.load(root)
        if not rank_zero():
            _compute(main, arguments(main, node, root, tree, NoRun()), node, tree)
            return Exit.OK
        seen = current(root, node)
        # One process a stage and workspace: a second writer on the same files ends at once.
        with held(root / ".dvc/tmp/genfoundry" / f"{node.address}.lock", "this stage"):
            values = arguments(main, node, root, tree, None)
            inputs = stage_inputs(root, node)
            if node.kind not in UNLOGGED:
                run = _begin(root, node, tree)
                values |= {"run": run} if "run" in values else {}
                if "execution" in values:
                    run.tags({tags.EXECUTION: values["execution"].model_dump_json()})
            _compute(main, values, node, tree)
            if alone:
                check_imports(node, seen)
            _check_outputs(root, node)
            if run is not None:
                record = write_lineage(root, node, inputs)
                run.metric("stage_seconds", time.monotonic() - started)
                _end(run, root, node, tree, record)
        return Exit.OK
    except BaseException as error:  # noqa: BLE001 -- whatever it is, the run must not stay open
        return _failed(error, address, run)


def _compute(main: Main, values: dict[str, Any], node: Node, tree: settings.Settings) -> None:
    """Run ``main``; where numbers move its results, only as ``numerics`` wants them computed."""
    numerics = settings.parse(Numerics, tree.numerics, "numerics")
    if NUMERICS in node.params:
        pin.require(numerics.instructions)
    main(**values)
    # What was loaded in the meantime counts as well.
    pin.hold()


def _begin(root: Path, node: Node, tree: settings.Settings) -> Run:
    store = open_store(state_root(root), tree.project)
    reap(store)
    run = open_run(store, root, node)
    start(run)
    return run


def _end(run: Run, root: Path, node: Node, tree: settings.Settings, record: dict[str, Any]) -> None:
    """Log the finished stage; its results are published, so a store that fails now must not undo them."""
    from genfoundry.tracking.publish import log_stage

    try:
        log_stage(run, root, node, record, typed_params(node, tree))
        finish(run)
    except tracking_errors() as error:
        print(f"genfoundry: {node.address}: done, but not in MLflow ({first_line(error)}); genfoundry record logs it")


def _failed(error: BaseException, address: str, run: Run | None) -> int:
    known = _explain(error)
    if isinstance(error, Stopped):
        code, message = int(Exit.PREEMPTED), f"stopped by {error}; run dvc repro to start this stage again"
    elif known is not None:
        code, message = int(known.exit_code), str(known)
    else:
        code, message = 1, f"{type(error).__name__}: {error}"
        traceback.print_exception(error)
    if run is not None:
        try:
            run.flush()
            fail(run.store, run.run_id, f"in {run.stage}: {message}")
        except tracking_errors() as lost:
            print(f"genfoundry: MLflow does not answer ({first_line(lost)}); the run stays open", file=sys.stderr)
    print(f"genfoundry: {address}: {message}", file=sys.stderr, flush=True)
    _leave_word(address, code, message)
    return code


def _leave_word(address: str, code: int, message: str) -> None:
    """Write exit code and reason to $GENFOUNDRY_FAILURE."""
    path = os.environ.get(FAILURE_FILE)
    if path:
        try:
            write_json(Path(path), {"stage": address, "code": code, "message": message})
        except (OSError, GenfoundryError) as error:
            print(f"genfoundry: {path}: can't say there why ({error})", file=sys.stderr)


def run_stage(main: Main, launcher: Callable[[Execution], None] | None = None) -> None:
    """Entry point of every module in pipelines/: ``python -m pipelines.<stage> [key]``.

    Args:
        launcher: May replace this process by those that compute, before it has taken anything.
    """
    stage = Path(inspect.getfile(main)).stem
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    _end_with_dvc()
    wants_key = stage != "report"
    if len(sys.argv) != (2 if wants_key else 1):
        usage = f"usage: python -m pipelines.{stage}" + " <key of params.yaml>" * wants_key
        print(f"genfoundry: {usage}", file=sys.stderr)
        sys.exit(Exit.USAGE)
    try:
        root = workspace()
        if launcher:
            launcher(settings.parse(Execution, settings.load(root).execution, "execution"))
    except ConfigError as error:
        print(f"genfoundry: {error}", file=sys.stderr)
        sys.exit(Exit.USAGE)
    _leave(execute(main, stage, sys.argv[1] if wants_key else "", root, alone=True))


def _leave(code: int) -> NoReturn:
    """End at once: all is published and closed, and Python's teardown of mlflow's modules costs 0.6 s a stage."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
