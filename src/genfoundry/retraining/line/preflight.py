"""Checks before a retrain of what it needs at its end: disk space, tracking store, champions that load, its branch."""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from genfoundry.core.errors import ConfigError, DiskError, InfrastructureError
from genfoundry.retraining.protocol import Facts
from genfoundry.state.checkout import Git
from genfoundry.state.secrets import redact
from genfoundry.tracking.registry import fetch_model
from genfoundry.tracking.runs import first_line, reap, tracking_errors
from genfoundry.tracking.store import Store, open_store
from genfoundry.tracking.versions import CHAMPION


def preflight(state: Path, project: str, models: Sequence[str], free_gib: float) -> Facts:
    """Free space, runs of dead processes that were closed, and the champions.

    Raises:
        DiskError: Less than ``free_gib`` is free where the state lies.
        InfrastructureError: The store does not answer, or a champion's files are not there.
        DataError: A champion's files are not what was registered.
    """
    free = enough_space(state, free_gib)
    store = open_store(state, project)
    champions: dict[str, str] = {}
    closed = reap(store)
    for model in models:
        if CHAMPION in _aliases(store, model):
            # Downloads at most once for each digest, and hashes every file: no torch, a second or two.
            _, champions[model] = fetch_model(store, model, CHAMPION, state / "mlruns/gate/models")
    return {"free_gib": round(free, 1), "champions": champions, "closed_runs": closed}


def check_branch(git: Git, branch: str, remote: str = "") -> None:
    """Raise unless a branch can be written here, and at the remote if one is given.

    Args:
        git: In the project.
        branch: With the results, such as ``retrain/<key>``.
        remote: Where it will be pushed to.

    Raises:
        ConfigError: A branch has the name of a folder that git keeps it in, or lies in a folder of its name.
        InfrastructureError: It is checked out.
    """
    # Git keeps a branch as a file: neither a folder above it nor the branch itself may be another's.
    above = [f"refs/heads/{parent}" for parent in PurePosixPath(branch).parents if parent.name]
    found = [ref for ref in git("for-each-ref", "--format=%(refname)", *above).split() if ref in above]
    found += git("for-each-ref", "--format=%(refname)", f"refs/heads/{branch}/").split()
    where = "here"
    if remote and not found:
        where = f"at {redact(remote)}"
        # One that does not answer now may do so at the end.
        with contextlib.suppress(InfrastructureError):
            patterns = [*above, f"refs/heads/{branch}/*"]
            found = [
                line.split()[1] for line in git("ls-remote", "--heads", remote, *patterns, timeout_s=60.0).splitlines()
            ]
    if found:
        other = found[0].removeprefix("refs/heads/")
        raise ConfigError(
            f"git: branch {other!r} {where} leaves no room for {branch!r}, the branch of the results; rename it "
            f"(git branch -m {other} <other name>)"
        )
    if at := git("for-each-ref", "--format=%(worktreepath)", f"refs/heads/{branch}"):
        raise InfrastructureError(f"branch {branch} is checked out in {at}; leave it there, and run again")


def enough_space(state: Path, free_gib: float) -> float:
    """Free GiB where the state lies.

    Raises:
        DiskError: Less than ``free_gib``.
    """
    free = shutil.disk_usage(state).free / 2**30
    if free < free_gib:
        raise DiskError(
            f"{state}: {free:.1f} GiB free, retraining.free_gib asks for {free_gib:g}; free some (genfoundry clean)"
        )
    return free


def _aliases(store: Store, model: str) -> dict[str, str]:
    """Aliases of a registered model; none if it never was: the first champion is judged by the gate's floors."""
    try:
        return dict(store.client.get_registered_model(model).aliases)
    except tracking_errors() as error:
        if getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise InfrastructureError(f"MLflow store {store.uri}: {first_line(error)}") from error
