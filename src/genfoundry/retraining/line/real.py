"""The real line: a git worktree at a commit, and in it that commit's own `check`, `dvc repro`, `record` and `promote`.

Each is a process of its own, as a person would start it; its result comes back as an exit code and a JSON file.
"""

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from genfoundry.config import params as settings
from genfoundry.config.pointers import md5, read_pointer
from genfoundry.core.clock import Clock
from genfoundry.core.errors import (
    ConfigError,
    DataError,
    Exit,
    GenfoundryError,
    InfrastructureError,
)
from genfoundry.core.paths import DatasetPaths
from genfoundry.data.embedded.packages import EMBEDDED_MD5
from genfoundry.pipeline.stage import FAILURE_FILE
from genfoundry.retraining.line import snapshots
from genfoundry.retraining.notify import send as notify
from genfoundry.retraining.options import Retraining
from genfoundry.retraining.protocol import Asked, Decision, Facts, Request, Snapshot, Work
from genfoundry.state import children
from genfoundry.state.checkout import PREFIX, Checkout, Git, environment_in, has_remote
from genfoundry.state.children import StepError, failure
from genfoundry.state.heartbeat import beat
from genfoundry.state.journal import home, read_whole, worktrees
from genfoundry.state.secrets import redact

COMMITTED = ("dvc.lock", "data.dvc", "imports", "reports")
"""Paths that a retrain changes and commits."""

INCOMING = "incoming"
"""The worktree in which `retraining.update` runs: what it brings decides the key, so it comes before there is one."""


class RealLine:
    """The project's own pipeline; implements ``protocol.Line``.

    Args:
        root: The project, whose files stay as they are.
        state: The state root.
        options: ``retraining:`` of the project's params.yaml, as it lies there now.
        project: Name of the project, for messages.
        clock: For triggers and upkeep.
        dry: Touch nothing: an update command is not run.
        echo: Show the output of commands beside logging it.
    """

    def __init__(
        self,
        root: Path,
        state: Path,
        options: Retraining,
        project: str,
        clock: Clock,
        dry: bool = False,
        echo: bool = True,
    ) -> None:
        self.root, self.state, self.options, self.project = root, state, options, project
        self.clock, self.dry, self.echo = clock, dry, echo
        self.git = Git(root)

    # What comes before the key.

    def sweep(self) -> Facts:
        ended = children.end_marked(self.state)
        incoming = Checkout(self.root, worktrees(self.state) / INCOMING)
        if incoming.folder.exists():
            incoming.remove()
        return {"ended": ended} if ended else {}

    def snapshot(self) -> Snapshot:
        update = self._update if self.options.update and not self.dry else None
        return snapshots.take(self.root, self.options, update)

    def _update(self, commit: str, pointers: dict[str, str], workspace: bool) -> dict[str, str]:
        """Pointers of the data after the user's command ran on them, the data themselves in DVC's cache."""
        checkout = Checkout(self.root, worktrees(self.state) / INCOMING)
        log = home(self.state) / "update.log"
        log.unlink(missing_ok=True)
        checkout.add(commit)
        project = checkout.project
        self._place(project, pointers)
        if workspace:
            snapshots.copy_data(self.root / "data", project / "data", md5(self.root / "data"))
        else:
            self._bring(project, log)
        limit_s = self.options.update_minutes * 60
        self._command(self.options.update, project, log, limit_s, "retraining.update_minutes")
        if not (project / "data").is_dir():
            raise DataError(f"retraining.update ({self.options.update[0]}): left no data/ behind")
        if md5(project / "data") != read_pointer(project):
            self._dvc(project, log, "add", "data")
        found = snapshots.pointers_in(project)
        checkout.remove()
        return found

    def ask(self, snapshot: Snapshot, request: Request, work: Work | None) -> Asked:
        from genfoundry.retraining.triggers import ask as triggers

        return triggers.ask(self, snapshot, request, work)

    # Steps.

    def preflight(self, work: Work) -> Facts:
        from genfoundry.retraining.line.preflight import preflight

        self.branch_is_free(work.key, self.options.push)
        return preflight(self.state, self.project, work.snapshot.models, self.options.free_gib)

    def checkout(self, work: Work) -> Checkout:
        """The worktree of a retrain."""
        return Checkout(self.root, worktrees(self.state) / work.key)

    def worktree(self, work: Work) -> Facts:
        checkout = self.checkout(work)
        checkout.add(work.snapshot.commit)
        return {"folder": str(checkout.folder)}

    def standing(self, work: Work) -> bool:
        return self.checkout(work).standing()

    def data(self, work: Work) -> Facts:
        project, facts, log = self.checkout(work).project, work.snapshot.facts, work.folder / "data.log"
        self._place(project, facts.get("pointers") or {})
        if facts.get("workspace"):
            snapshots.copy_data(self.root / "data", project / "data", work.snapshot.data[snapshots.POINTER])
            self._dvc(project, log, "add", "data")
        else:
            self._bring(project, log)
        snapshots.verify(project, work.snapshot.data)
        return {"data": dict(work.snapshot.data)}

    def contracts(self, work: Work) -> Facts:
        log = work.folder / "contracts.log"
        self._genfoundry(work, log, "check")
        datasets = [paths.key for paths in self.datasets(work)]
        return {**self._repro(work, log, [f"split@{key}" for key in datasets]), "datasets": datasets}

    def train(self, work: Work) -> Facts:
        targets = [f"evaluate@{model}" for model in self.options.models and work.snapshot.models]
        return self._repro(work, work.folder / "train.log", targets)

    def record(self, work: Work) -> Facts:
        from genfoundry.retraining.triggers.learnt import remember

        self._genfoundry(work, work.folder / "record.log", "record")
        for paths in self.datasets(work):
            remember(self.state, paths)
        return {}

    def datasets(self, work: Work) -> list[DatasetPaths]:
        """Paths of the datasets of the models to retrain, in the worktree."""
        project = self.checkout(work).project
        tree = settings.load(project)
        keys = dict.fromkeys(tree.models[model].dataset for model in work.snapshot.models)
        return [DatasetPaths(project, key) for key in keys]

    def encode(self, work: Work, dataset: str) -> None:
        """Run the line of a dataset to its arrays."""
        self._repro(work, work.folder / "contracts.log", [f"encode@{dataset}"])

    def promote(self, work: Work, model: str) -> Decision:
        file, log = work.folder / f"decision-{model}.json", work.folder / f"promote-{model}.log"
        file.unlink(missing_ok=True)
        why = "; ".join(reason.why for reason in work.reasons)
        words = [model, "--json", str(file), "--reason", f"retrain {work.key}: {why}"]
        try:
            ended = self._start(self._python("promote", *words), self.checkout(work).project, log, self._limit_s)
        except children.TimeUp:
            return Decision(model, Exit.INFRASTRUCTURE, {"message": f"no decision after {self._limit_s:.0f} s"})
        facts = read_whole(file)
        if ended.code in (Exit.OK, Exit.NO_OP, Exit.REJECTED) and facts:
            return Decision(model, Exit(ended.code), {**facts, "file": str(file)})
        known = ended.code in set(Exit) and ended.code not in (Exit.OK, Exit.NO_OP, Exit.REJECTED)
        code = Exit(ended.code) if known else Exit.INFRASTRUCTURE
        return Decision(model, code, {"message": f"promote ended with {ended.code}: {ended.last()}", "log": str(log)})

    def commit(self, work: Work) -> Facts:
        checkout = self.checkout(work)
        git, branch = Git(checkout.project), f"{PREFIX}{work.key}"
        # By name, not all that lies there: what a stage leaves beside its outputs is no part of the result.
        git("add", "--all", "--", *(name for name in COMMITTED if (checkout.project / name).exists()))
        if git("diff", "--cached", "--name-only"):
            message = [f"Retrain {work.key}", "", f"of {work.snapshot.commit}, because"]
            message += [f"- {reason.why}" for reason in work.reasons]
            git(
                *checkout.identity(),
                "commit",
                "--quiet",
                "--no-verify",
                "--no-gpg-sign",
                "-m",
                redact("\n".join(message)),
            )
        made = git("rev-parse", "HEAD")
        before = git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", check=False)
        if before and git("rev-parse", f"{before}^{{tree}}") == git("rev-parse", f"{made}^{{tree}}"):
            return {"branch": branch, "commit": before}
        self.branch_is_free(work.key)
        git("update-ref", f"refs/heads/{branch}", made)
        return {"branch": branch, "commit": made}

    def branch_is_free(self, key: str, remote: str = "") -> None:
        """Raise where the branch of a retrain can't be written, here or at the remote: see ``check_branch``."""
        from genfoundry.retraining.line.preflight import check_branch

        check_branch(self.git, f"{PREFIX}{key}", remote)

    def push(self, work: Work) -> Facts:
        project, log, pushed = self.checkout(work).project, work.folder / "push.log", []
        if has_remote(project):
            self._dvc(project, log, "push")
            pushed.append("dvc")
        if self.options.push:
            branch = f"refs/heads/{PREFIX}{work.key}"
            # With force: the branch is this retrain's own, and a rerun may have rewritten it.
            self.git("push", "--quiet", "--no-verify", "--force", self.options.push, f"{branch}:{branch}")
            pushed.append("git")
        return {"pushed": pushed}

    def upkeep(self, work: Work) -> Facts:
        from genfoundry.tracking.runs import tracking_errors
        from genfoundry.upkeep.sweep import upkeep

        try:
            done = upkeep(self.root, self.state, self.options.keep, self.clock)
        except (GenfoundryError, OSError, *tracking_errors()) as error:
            # The decision holds even if cleaning up fails.
            return {"kept": [f"upkeep failed: {error}"]}
        return {"removed": len(done.removed), "bytes": done.bytes, **({"kept": done.notes} if done.notes else {})}

    def tell(self, event: Facts) -> Sequence[str]:
        failures = notify.tell(event, self.options, self.state, self.project)
        try:
            beat(self.state, self.clock, "retrain", outcome=event["outcome"], key=event.get("key", ""))
        except (GenfoundryError, OSError) as error:
            failures.append(f"heartbeat file: {error}")
        return failures

    # How commands are started, and what their failures mean.

    @property
    def _limit_s(self) -> float:
        return self.options.timeout_h * 3600

    def _place(self, project: Path, pointers: dict[str, str]) -> None:
        for name, text in pointers.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)

    def _bring(self, project: Path, log: Path) -> None:
        """Data as the pointers of a worktree say: from the cache, else built or from the remote."""
        names = sorted(snapshots.pointers_in(project))
        try:
            self._dvc(project, log, "checkout", "--force", *names)
            return
        except StepError as error:
            missing = error
        if read_pointer(project) == EMBEDDED_MD5:
            shutil.rmtree(project / "data", ignore_errors=True)
            self._command(self._python("bootstrap"), project, log, self._limit_s, "retraining.timeout_h")
            names.remove(snapshots.POINTER)
        if names:
            if not has_remote(project):
                raise InfrastructureError(
                    f"data are not in DVC's cache, and there is no remote to pull them from: {missing}"
                )
            self._dvc(project, log, "pull", "--force", *names)

    def _python(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "genfoundry.cli", *words]

    def _genfoundry(self, work: Work, log: Path, *words: str) -> None:
        self._command(self._python(*words), self.checkout(work).project, log, self._limit_s, "retraining.timeout_h")

    def _dvc(self, project: Path, log: Path, *words: str) -> None:
        command = [sys.executable, "-m", "dvc", *words]
        self._command(command, project, log, self._limit_s, "retraining.timeout_h")

    def _repro(self, work: Work, log: Path, targets: Sequence[str]) -> Facts:
        """`dvc repro`; the stage that fails leaves its own exit code, as DVC ends with 255 whatever happened."""
        started = time.monotonic()
        self._dvc(self.checkout(work).project, log, "repro", *targets)
        return {"seconds": round(time.monotonic() - started, 1)}

    def _start(self, command: Sequence[str], project: Path, log: Path, timeout_s: float) -> children.Ended:
        more = {"GENFOUNDRY_STATE": str(self.state), FAILURE_FILE: str(home(self.state) / "failure.json")}
        environment = environment_in(project, self.state, **more, **{children.MARK: str(self.state)})
        (home(self.state) / "failure.json").unlink(missing_ok=True)
        return children.run(command, project, environment, log, timeout_s, echo=self.echo)

    def _command(self, command: Sequence[str], project: Path, log: Path, timeout_s: float, limit: str) -> None:
        """Run a command of a step.

        Raises:
            StepError: It failed; with the code of the stage that failed, or its own.
        """
        try:
            ended = self._start(command, project, log, timeout_s)
        except children.TimeUp as error:
            words = f"{error} ({limit}); the next retrain of the same inputs goes on from the checkpoints"
            raise InfrastructureError(words) from None
        if ended.code == 0:
            return
        failed = read_whole(home(self.state) / "failure.json")
        raise failure(command, ended, failed, log)


def load(root: Path, state: Path, clock: Clock, dry: bool = False, echo: bool = True) -> RealLine:
    """The line of a project, with the settings of retraining as they lie there.

    Raises:
        ConfigError: They are wrong.
    """
    tree = settings.load(root)
    options = settings.parse(Retraining, tree.retraining, "retraining")
    if not (root / ".dvc").is_dir():
        raise ConfigError(f"{root}: no .dvc folder; run dvc init")
    return RealLine(root, state, options, tree.project, clock, dry, echo)
